"""Differences between two runs: the parts of a comparison, and of a result that names an earlier run."""

from typing import Any, Literal

from pydantic import Field

from mlho.report.parts import Estimate, Part, Spread


class RunSize(Part):
    """Training data of a run."""

    outcome: str
    classifier: str
    matrix_digest: str
    n_patients: int
    n_samples: int
    n_positive_samples: int
    n_event_rows: int
    n_event_rows_used: int


class ComparedRun(RunSize):
    """One of two runs."""

    run: str
    name: str
    result_digest: str


class FieldChange(Part):
    """A field of the specification that differs; ``null`` where one run does not have it."""

    field: str
    a: Any = None
    b: Any = None


class RowChange(Part):
    """A rule of a ledger whose rows differ; ``null`` for small cells."""

    rule: str
    a: int | None
    b: int | None


class CodeChange(Part):
    """A code whose used rows differ; fewer than ``minCell`` rows are ``null``."""

    code: str
    a: int | None
    b: int | None


class FeatureChange(Part):
    """A feature that is stable in at least one of the runs."""

    id: str
    words: str
    change: Literal["enters", "leaves", "stays"]
    """``enters``: stable in B only. ``leaves``: in A only."""
    confidence_a: int | None
    confidence_b: int | None
    odds_ratio_a: Estimate
    odds_ratio_b: Estimate
    ratio: Estimate
    """Odds ratio in B by that in A, with an interval that assumes independent runs: it is too wide where they share patients."""
    is_shifted: bool
    """Whether that interval excludes 1."""


class PerformanceChange(Part):
    """One figure in both runs, and B minus A."""

    metric: str
    a: Spread
    b: Spread
    difference: Estimate


class PairedChange(Part):
    """B minus A on the samples that both runs tested: each with its mean calibrated probability over equally many tests."""

    n_samples: int
    n_patients: int
    differences: dict[str, Estimate] = Field(default_factory=dict)
    reason: str | None = None
    """Why there is no paired difference."""


class Changes(Part):
    """Differences between A and B."""

    spec: list[FieldChange]
    rows: list[RowChange]
    """Event rows in, used, and by rule, where they differ."""
    label_rows: list[RowChange]
    codes_only_a: int
    codes_only_b: int
    codes_not_named: int
    """Number of codes whose used rows differ but that are not listed: too few patients have them (``minCell``), or no iteration of
    either run selected them."""
    codes: list[CodeChange]
    """The other codes whose used rows differ, the largest difference first."""
    features: list[FeatureChange]
    performance: list[PerformanceChange]
    paired: PairedChange


class ChangesSince(Changes):
    """Changes since an earlier run, A; B is the run of the result. The first 40 codes."""

    run: str
    """Id of the earlier run."""
    result_digest: str
    """Of the earlier run."""
    note: str
    """Its name and the day of its computation."""
    earlier: RunSize
    now: RunSize
