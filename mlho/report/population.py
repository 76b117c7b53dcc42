"""The population of a run: cohort, characteristics, dates, ledger, and the performance in groups."""

from pydantic import Field

from mlho.report.parts import Estimate, Part


class AttritionStep(Part):
    """The cohort remaining after one rule, as in a CONSORT diagram."""

    rule: str
    patients: int | None
    """``null`` if the dropped rows are a small cell, or would reveal one."""
    samples: int | None


class Cell(Part):
    """Cell of the table of characteristics for one outcome: a count with its share, or quartiles."""

    n: int | None = None
    """Samples of a level, or with a missing value."""
    share: float | None = None
    median: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None


class Characteristic(Part):
    """One row of the table of baseline characteristics.

    Cells with fewer than ``minCell`` patients are ``null``, and so are others from which they could be computed.
    """

    name: str
    level: str | None = None
    """The category, for a categorical column; ``null`` for the quartiles of a number."""
    is_missing: bool = False
    """Whether the row counts the samples without a value."""
    without_outcome: Cell | None
    with_outcome: Cell | None
    difference: float | None = None
    """Standardised mean difference, samples with minus samples without the outcome (Austin 2009); ``null`` where a cell is hidden."""


class Period(Part):
    """First and last month of a range of dates, such as ``2014-03``.

    At least ``minCell`` patients have a date up to the first month, and as many from the last month onwards, so neither month identifies a
    patient.
    """

    first: str
    last: str


class LeftOut(Part):
    """Samples that a split leaves out of both parts by one rule."""

    rule: str
    samples: int | None
    """``null`` for a small cell, or one from which a small cell could be computed."""


class SplitSet(Part):
    """One test set of a split by date, site or given part. Its counts add up to the samples of the cohort."""

    name: str
    n_test_samples: int | None
    n_test_positive_samples: int | None
    n_train_samples: int | None
    """Samples that may be trained on; each iteration draws from them."""
    left_out: list[LeftOut]


class SplitAccount(Part):
    """Number of samples by role in a split whose test sets follow from dates or a column."""

    kind: str
    column: str | None
    """Column of sites or parts."""
    follow_up_days: int | None
    """Days after the index date in which the outcome is counted; ``null`` where only the index date decides."""
    left_out_fraction: float
    """Share of the training patients that each iteration leaves out, so that iterations differ."""
    iterations_each: int
    """Iterations on each test set."""
    test_sets: list[SplitSet]


class LaterEvaluation(Part):
    """The temporal check: the final model's setting, fitted on samples before a date and evaluated on samples from that date onwards."""

    test_from: str | None
    """First day of the test period."""
    account: SplitSet | None
    """Number of samples by role."""
    figures: dict[str, Estimate] = Field(default_factory=dict)
    """Named as in ``headline``; the intervals are over the later patients."""
    reason: str | None = None
    """Why there are no figures."""


class CohortSummary(Part):
    """The patients and samples of the run."""

    n_patients: int
    n_samples: int
    n_positive_patients: int
    n_positive_samples: int
    attrition: list[AttritionStep]
    label_ledger: dict[str, int | None]
    """Label rows by fate; small numbers are ``null``, and so are others from which they could be computed."""
    characteristics: list[Characteristic] = Field(default_factory=list)
    index_dates: Period | None = None
    """``null`` without index dates, or with fewer than ``minCell`` patients."""
    event_years: dict[str, int] = Field(default_factory=dict)
    """Event rows used, by year; years with fewer than ``minCell`` rows are left out."""


class LedgerRule(Part):
    """One rule of the ledger, and how many event rows it dropped."""

    rule: str
    meaning: str
    rows: int


class LedgerSummary(Part):
    """The account of every event row: rows in = rows used + rows dropped by each rule."""

    rows_in: int
    rows_used: int
    rules: list[LedgerRule]
    notes: dict[str, int] = Field(default_factory=dict)
    """Counts that drop nothing, such as rows with a value."""
