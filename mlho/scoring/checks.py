"""Checks of all scores of a run against the training samples, before anything is published. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from mlho.errors import DataError, listed, plural
from mlho.model.parts import TrainingSamples
from mlho.report.result import LedgerSummary
from mlho.report.words import rule_words
from mlho.scoring.account import AlertSummary
from mlho.scoring.drift import is_beyond_chance
from mlho.spec.types import MIN_CELL

#: Allowed difference between the shares of samples without events, as a fraction of all samples.
MARGIN: Final = 0.2
#: Largest plausible ratio of the alert rates of scoring and training, in either direction.
_FACTOR: Final = 2.0
#: Largest error of the share of training samples without events, which is rounded.
_ROUNDING: Final = 0.005
#: With at least this many samples with events, chance cannot explain that none has a code of the bundle.
_MIN_WITH_EVENTS: Final = 100
#: With at least this many event rows, chance cannot explain a small share of used rows.
_MIN_ROWS: Final = 100
_N_NAMED: Final = 5


def check_empty_samples(
    n_empty: int,
    n_samples: int,
    training: TrainingSamples | None,
    ledger: LedgerSummary,
    *,
    n_patients: int,
    allows: bool,
) -> str | None:
    """Return a warning if far more samples than in training have no usable event, beyond chance.

    Parameters
    ----------
    n_empty, n_samples : int
        Samples without any used event in the bundle's windows, and all samples.
    training : TrainingSamples or None
        With the share of such samples in training; None: unknown, and nothing is checked.
    n_patients : int
        Patients of the samples (:func:`mlho.scoring.drift.is_beyond_chance`).
    allows : bool
        Whether the specification allows it (``checks.emptySamples: warn``).

    Raises
    ------
    DataError
        They are too many, and it is not allowed.

    Examples
    --------
    >>> ledger, training = LedgerSummary(rows_in=9, rows_used=1, rules=[]), TrainingSamples(without_events=0.5, alert_rates={})
    >>> check_empty_samples(70, 100, training, ledger, n_patients=100, allows=True) is None
    True
    >>> check_empty_samples(71, 100, training, ledger, n_patients=100, allows=True)
    '71 of 100 samples have no usable event (71 %; 50 % in training); 1 of 9 event rows were used.'
    """
    training_share = None if training is None else training.without_events
    if training is None or training_share is None:
        return None
    if n_empty <= round((training_share + MARGIN) * n_samples, 6) or not is_beyond_chance(
        n_empty / n_samples, training_share + _ROUNDING, n_patients, training.n_samples
    ):
        return None
    got = (
        f"{n_empty:,} of {n_samples:,} samples have no usable event ({100 * n_empty / n_samples:.0f} %; "
        f"{100 * training_share:.0f} % in training); {ledger.rows_used:,} of {ledger.rows_in:,} event rows were used"
    )
    if allows:
        return f"{got}."
    most = max(ledger.rules, key=lambda rule: rule.rows, default=None)
    lost = (
        f"; most of the others were dropped by the rule: {most.rule}"
        if most is not None and most.rows
        else ""
    )
    raise DataError(
        "events",
        "too many samples have no usable event: their scores would not reflect their patients",
        expected=f"at most {100 * (training_share + MARGIN):.0f} % of the samples, the share of training plus {100 * MARGIN:.0f} points",
        got=got + lost,
        remedy="Check index dates, patient ids and data.tables.events. If this is intended, set checks.emptySamples: "
        "warn. Nothing is published.",
    )


def check_vocabulary(
    n_known: int, n_used: int, n_with_events: int, n_codes: int, *, allows: bool
) -> str | None:
    """Return a warning if no event row has a code of the bundle, although many samples have events.

    Parameters
    ----------
    n_known, n_used : int
        Used event rows with a code of the bundle, and all used rows.
    n_with_events : int
        Samples with a used event.
    n_codes : int
        Codes of the bundle.
    allows : bool
        As in :func:`check_empty_samples`.

    Raises
    ------
    DataError
        There is none, and it is not allowed.

    Examples
    --------
    >>> check_vocabulary(1, 5000, 900, 40, allows=False) is None
    True
    >>> check_vocabulary(0, 5000, 900, 40, allows=True)
    'none of the 5,000 event rows that were used has one of the 40 codes of the bundle.'
    """
    if n_known or not n_codes or n_with_events < _MIN_WITH_EVENTS:
        return None
    got = f"none of the {n_used:,} event rows that were used has one of the {n_codes:,} codes of the bundle"
    if allows:
        return f"{got}."
    raise DataError(
        "events",
        "no code of the bundle occurs: the scores would not reflect the patients",
        expected="codes of the code system with which the bundle was trained",
        got=got,
        remedy="Check data.tables.events and the column of codes: another code system, or another prefix. Map the codes, or train on the "
        "new ones. If this is intended, set checks.emptySamples: warn. Nothing is published.",
    )


def partition_warnings(ledgers: Mapping[str, LedgerSummary]) -> list[str]:
    """Return a warning if the share of used event rows in a partition is far below that in all partitions.

    Parameters
    ----------
    ledgers : mapping of str to LedgerSummary
        Account of the rows of each partition by its name.

    Examples
    --------
    >>> good, bad = (LedgerSummary(rows_in=500, rows_used=n, rules=[]) for n in (450, 90))
    >>> partition_warnings({"a": good, "b": good, "c": bad})
    ['In 1 of 3 partitions the share of used event rows is less than half of the overall share (66 %): c (18 % of 500). Check dates, patient ids and codes there.']
    """
    rows_in = sum(ledger.rows_in for ledger in ledgers.values())
    whole = sum(ledger.rows_used for ledger in ledgers.values()) / max(rows_in, 1)
    few = [
        f"{name} ({100 * ledger.rows_used / ledger.rows_in:.0f} % of {ledger.rows_in:,})"
        for name, ledger in ledgers.items()
        if ledger.rows_in >= _MIN_ROWS and ledger.rows_used / ledger.rows_in < whole / _FACTOR
    ]
    if not few:
        return []
    return [
        f"In {len(few)} of {plural(len(ledgers), 'partition')} the share of used event rows is less than half of the overall share "
        f"({100 * whole:.0f} %): {listed(few, _N_NAMED)}. Check dates, patient ids and codes there."
    ]


def unseen_in_partitions(names: Sequence[str], warnings: Sequence[Sequence[str]]) -> list[str]:
    """Return the warnings of the first partition with warnings, and the number of such partitions.

    Parameters
    ----------
    warnings : sequence of sequence of str, same length
        On demographics that are read from the events of each partition.

    Examples
    --------
    >>> unseen_in_partitions(["a", "b"], [[], ["Demographic 'sex': …"]])
    ["In 1 of 2 partitions, the first b: Demographic 'sex': …"]
    """
    found = [(name, words) for name, words in zip(names, warnings, strict=True) if words]
    if not found:
        return []
    where = f"In {len(found)} of {plural(len(names), 'partition')}, the first {found[0][0]}"
    return [f"{where}: {sentence}" for sentence in found[0][1]]


def alert_warnings(
    alerts: Sequence[AlertSummary], n_samples: int, *, n_patients: int, n_training: int | None
) -> list[str]:
    """Return a warning for each threshold whose alert rate differs from training by more than a factor of two, beyond chance.

    Fewer than ``MIN_CELL`` alerts, both observed and expected, are not shown.

    Examples
    --------
    >>> alerts = [AlertSummary(rule="youden", value=0.3, alerts=60, training_rate=0.1)]
    >>> alert_warnings(alerts, 200, n_patients=200, n_training=5000)
    ['Threshold “largest sum of sensitivity and specificity (Youden)”: 30.0 % of the samples are flagged, compared with 10.0 % in training.']
    >>> alert_warnings(alerts, 300, n_patients=300, n_training=5000)
    []
    """
    found = []
    for alert in alerts:
        if alert.alerts is None or alert.training_rate is None:
            continue
        expected = alert.training_rate * n_samples
        if max(alert.alerts, expected) < MIN_CELL:
            continue
        is_far = alert.alerts > _FACTOR * expected or _FACTOR * alert.alerts < expected
        if is_far and is_beyond_chance(alert.alerts / n_samples, alert.training_rate, n_patients, n_training):
            found.append(
                f"Threshold “{rule_words(alert.rule)}”: {100 * alert.alerts / n_samples:.1f} % of the samples are flagged, compared with "
                f"{100 * alert.training_rate:.1f} % in training."
            )
    return found
