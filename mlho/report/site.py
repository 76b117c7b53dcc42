"""Facts about runs, models and channels that the site of a store shows, read once from each finished run."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from mlho.report.gates import gates_in_words
from mlho.spec.types import MIN_CELL

RETRAIN_FILE: Final = "retrain.yaml"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Facts):
    """A figure with its 95 % interval, if it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None


class TrainedFacts(_Facts):
    """A finished training run."""

    made: dt.datetime
    """Time at which the result was made; for a result without that time, the start of the run."""
    outcome: str
    predictive: bool
    bundle: str
    """Digest of its bundle."""
    classifier: str
    n_patients: int
    n_samples: int
    auroc: Figure
    calibration_slope: Figure
    n_tests: int
    n_passed: int
    gates: str | None
    """Outcome of its gates, in words; null without gates."""
    warnings: tuple[str, ...]


class AlertRate(_Facts):
    """Share of the samples that are flagged at one threshold."""

    rule: str
    share: float | None
    """Null if fewer than 11 samples are flagged, or fewer than 11 are not."""
    training: float | None
    """Share in training; null if the bundle does not have it."""


class ScoredFacts(_Facts):
    """A finished scoring run."""

    outcome: str
    bundle: str
    address: str
    """Address of the bundle, such as ``channel:production/3``."""
    folder: str
    """Folder of the scores below that of the run."""
    date: dt.date
    """The index date; if patients have different dates, the day on which the run was started."""
    samples: int
    rows_used: int
    score_psi: float | None
    n_shifted: int | None
    """Null if the bundle does not have the prevalences of training."""
    n_compared: int
    n_missing_more: int | None
    """Demographics and values of events with more missing values than in training; null if the bundle does not have the shares."""
    n_new_codes: int | None
    n_vanished_codes: int | None
    """Null, like the number of new codes, if the bundle does not have the codes of training."""
    mean: float | None
    """Of the calibrated probabilities."""
    expected_auroc: Figure
    """Performance expected without labels, if the probabilities are still calibrated."""
    training_auroc: float | None
    alerts: tuple[AlertRate, ...]
    warnings: tuple[str, ...]
    advice: str | None
    """Advice on the use of the model, with the reason; null in scores of earlier versions."""
    advised: str | None
    """File name, in the folder of the scores, of the manifest of the advised run; null without one."""


class PeriodFacts(_Facts):
    """Performance in a month or a night, with labels."""

    day: dt.date
    """Its first day."""
    n_samples: int | None
    """Null for a small cell."""
    outcome_rate: float | None
    """Share of the samples with the outcome; null for a small cell, and for none or all: where 1 to 10 are hidden, the periods without any would be
    most of those shown, and each would state the outcome of all of its patients."""
    auroc: Figure
    observed_expected: Figure
    """Observed number with the outcome, divided by the number expected from the probabilities."""


class EvaluatedFacts(_Facts):
    """An evaluation of a bundle on labelled data."""

    bundle: str
    outcome: str
    by: str
    """``month`` or ``night``."""
    n_samples: int
    auroc: Figure
    training_auroc: float | None
    advice: str
    """``hold``, ``recalibrate`` or ``retrain``."""
    advised: str | None
    """File name of the manifest of the advised run, in the folder of the figures; null without one."""
    periods: tuple[PeriodFacts, ...]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that was kept in the store."""

    id: str
    facts: EvaluatedFacts


@dataclass(frozen=True)
class SiteRun:
    """A run of the store."""

    run: str
    name: str
    kind: str
    state: str
    started: dt.datetime
    seconds: float
    reason: str = ""
    """Why the run failed; empty otherwise."""
    trained: TrainedFacts | None = None
    scored: ScoredFacts | None = None
    """For a finished run, the facts of its kind: ``trained`` or ``scored``."""
    studies: Sequence[str] = ()
    """Names of the pages that compare the run with the other runs of its document."""


@dataclass(frozen=True)
class Night:
    """A finished scoring run."""

    run: str
    facts: ScoredFacts


@dataclass(frozen=True)
class SiteModel:
    """The training runs of one name, oldest first, and the scoring runs that used their bundles, by date."""

    name: str
    versions: Sequence[SiteRun]
    nights: Sequence[Night]
    comparisons: Mapping[tuple[str, str], str]
    """Page of the comparison of two runs, by their ids."""
    evaluations: Sequence[Evaluation] = ()
    """Evaluations of its bundles with labels, by their ids."""


@dataclass(frozen=True)
class SiteChannel:
    """A channel and its newest entry."""

    name: str
    number: int
    model: str
    run: str
    at: dt.datetime
    who: str
    why: str
    forced: bool
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class Site:
    """Everything that the pages show."""

    runs: Sequence[SiteRun]
    models: Sequence[SiteModel]
    channels: Sequence[SiteChannel]


def trained_facts(result: Mapping[str, Any], started: dt.datetime) -> TrainedFacts:
    """Return the facts of a training run from its ``result.json`` and the time of its start."""
    final, headline, cohort = result["final_model"], result["headline"], result["cohort"]
    return TrainedFacts(
        made=result.get("made_at") or started,
        outcome=result["outcome"],
        predictive=result["predictive"],
        bundle=final["bundle_digest"],
        classifier=final["classifier"],
        n_patients=cohort["n_patients"],
        n_samples=cohort["n_samples"],
        auroc=_figure(headline.get("auroc"), "mean"),
        calibration_slope=_figure(headline.get("calibration_slope"), "mean"),
        n_tests=len(final["tests"]),
        n_passed=sum(test["passed"] for test in final["tests"]),
        gates=gates_in_words(result),
        warnings=tuple(result["warnings"]),
    )


def _figure(figure: Mapping[str, Any] | None, value: str = "value") -> Figure:
    """Return an estimate as stored in a document; for a spread the field of the value is ``mean``."""
    if figure is None:
        return Figure(value=None)
    return Figure(value=figure[value], low=figure["low"], high=figure["high"])


def scored_facts(
    spec: Mapping[str, Any],
    scores: Mapping[str, Any],
    started: dt.datetime,
    *,
    has_file: Callable[[str], bool] = lambda _: False,
) -> ScoredFacts:
    """Return the facts of a scoring run.

    Parameters
    ----------
    spec : mapping
        Section ``spec`` of its specification.
    scores : mapping
        Its ``scores.json``.
    has_file : callable
        Whether the folder of the scores has a file of this name.
    """
    advice = scores.get("advice")
    drift = scores.get("drift") or {}
    n_compared = drift.get("n_compared", 0)
    codes = drift.get("codes") or {}
    expected = scores.get("expected") or {}
    return ScoredFacts(
        outcome=scores["outcome"],
        bundle=scores["bundle_digest"],
        address=spec["bundle"]["uri"],
        folder=spec.get("output", {}).get("prefix", "scores"),
        date=scores["index"].get("date") or started.date(),
        samples=scores["samples"],
        rows_used=scores["ledger"]["rows_used"],
        score_psi=drift.get("score_psi"),
        n_shifted=drift["n_shifted"] if n_compared else None,
        n_compared=n_compared,
        n_missing_more=drift["n_missing_shifted"] if drift.get("n_missing_compared") else None,
        n_new_codes=codes["n_new"] if codes.get("n_compared") else None,
        n_vanished_codes=codes["n_vanished"] if codes.get("n_compared") else None,
        mean=scores["distribution"]["mean"],
        expected_auroc=_figure(expected.get("auroc") or None),
        training_auroc=expected.get("training_auroc"),
        alerts=tuple(
            AlertRate(
                rule=alert["rule"],
                share=_share(alert["alerts"], scores["samples"]),
                training=alert.get("training_rate"),
            )
            for alert in scores["alerts"]
            if alert["alerts"] is not None
        ),
        warnings=tuple(scores.get("warnings", ())),
        advice=None if advice is None else f"{advice['action']}. {advice['reason']} {advice['gain']}",
        advised=RETRAIN_FILE if has_file(RETRAIN_FILE) else None,
    )


def _share(count: int, n: int) -> float | None:
    """Return a share, or None if the count or the remaining count could identify persons."""
    return None if 0 < count < MIN_CELL or 0 < n - count < MIN_CELL else count / max(n, 1)


def evaluated_facts(evaluation: Mapping[str, Any], has_file: Callable[[str], bool]) -> EvaluatedFacts:
    """Return the facts of an evaluation from its ``evaluation.json`` and the files in its folder."""
    advice = evaluation["advice"]["action"]
    manifest = f"{advice}.yaml"
    bias = evaluation["bias"]
    everybody = bias["groups"][0]["periods"] if bias["groups"] else []
    periods = [(period, _first_day(period["period"])) for period in everybody]
    return EvaluatedFacts(
        bundle=evaluation["bundle_digest"],
        outcome=evaluation["outcome"],
        by=evaluation["surveillance"]["period"],
        n_samples=evaluation["n_samples"],
        auroc=_figure(evaluation["figures"].get("auroc")),
        training_auroc=evaluation["expected"]["training_auroc"],
        advice=advice,
        advised=manifest if has_file(manifest) else None,
        periods=tuple(_period_facts(period, day) for period, day in periods if day is not None),
    )


def _period_facts(period: Mapping[str, Any], day: dt.date) -> PeriodFacts:
    n, positive = period["n_samples"], period["n_positive"]
    return PeriodFacts(
        day=day,
        n_samples=n,
        outcome_rate=None if n is None or positive is None or positive in (0, n) else _share(positive, n),
        auroc=_figure(period["figures"].get("auroc")),
        observed_expected=_figure(period["figures"].get("observed_expected")),
    )


def _first_day(period: str) -> dt.date | None:
    """Return the first day of a month or a night; None of another period, such as ``other``.

    Examples
    --------
    >>> _first_day("2026-07"), _first_day("2026-07-03"), _first_day("other")
    (datetime.date(2026, 7, 1), datetime.date(2026, 7, 3), None)
    """
    try:
        return dt.date.fromisoformat(f"{period}-01" if len(period) == len("2026-07") else period)
    except ValueError:
        return None
