"""Step: check and add up all parts, and write the manifest that makes them the scores of the run."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlho.errors import DataError, MlhoError, plural
from mlho.steps.base import Artifact, Step, Work
from mlho.steps.score.artifacts import (
    CODES_FILE,
    PATIENTS_FILE,
    PRESENT_FILE,
    UNKNOWN_FILE,
    open_bundle,
    open_persons,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlho.model.bundle import Bundle
    from mlho.report.monitoring import Advice, ExpectedPerformance
    from mlho.report.result import LedgerSummary
    from mlho.scoring.account import AlertSummary, DeliveredFile, PartEntry, Scores
    from mlho.scoring.drift import Drift

SCORES_FILE: Final = "scores.json"
MANIFEST_FILE: Final = "manifest.json"


class CommitScores(Step):
    """Check that each patient is scored exactly once and every row is accounted for, then write the manifest."""

    kind: ClassVar[str] = "commit_scores"
    version: ClassVar[int] = 24

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``scores.json`` and ``manifest.json``."""
        from mlho.report.result import LedgerSummary
        from mlho.scoring.account import ScoresManifest, total_ledger
        from mlho.scoring.checks import partition_warnings, unseen_in_partitions

        bundle, parts = open_bundle(work), work.inputs["parts"]
        absent = work.inputs.get("absent", ())
        _check_patients(work, bundle, parts, absent)
        scores = _scores(work, bundle, parts, absent)
        entries = _entries(work, parts, absent)
        manifest = ScoresManifest(
            bundle_digest=bundle.digest,
            parts=entries,
            rows=sum(entry.rows for entry in entries),
            left_out=work.params.get("left_out", {}),
            warnings=[
                *partition_warnings(
                    {
                        entry.source: LedgerSummary.model_validate(total_ledger([entry.ledger]).account())
                        for entry in entries
                        if entry.source is not None and entry.ledger is not None
                    }
                ),
                *unseen_in_partitions(_partitions(work), [part.facts.get("unseen", ()) for part in parts]),
            ],
            scores=scores,
        )
        work.write_json(SCORES_FILE, scores.model_dump(mode="json", by_alias=True))
        work.write_json(MANIFEST_FILE, manifest.model_dump(mode="json", by_alias=True))
        return {
            "n_patients": scores.patients,
            "n_samples": scores.samples,
            "n_without_events": scores.samples_without_events,
        }


def _check_patients(
    work: Work, bundle: "Bundle", parts: Sequence[Artifact], absent: Sequence[Artifact]
) -> None:
    from mlho.arrays import read_arrays
    from mlho.scoring.account import refuse_shared_patients
    from mlho.scoring.parts import PART_FILE

    refuse_shared_patients(
        _partitions(work),
        [read_arrays(part.path(PATIENTS_FILE))["hashes"] for part in parts],
        [part.path(PART_FILE) for part in parts],
        bytes.fromhex(bundle.digest),
    )
    n_scored = _total((*parts, *absent), "n_rows")
    if not n_scored:
        raise DataError(
            "events",
            "there are no patients to score",
            expected="a patient with an event, or a cohort table",
            got=f"{plural(len(parts), 'partition')} without a patient",
            remedy="Check data.uri and data.tables.events.",
        )
    for scored in work.inputs.get("scored", ()):
        if scored.facts.get("n_samples", n_scored) != n_scored:
            raise MlhoError(
                f"scores: {n_scored} for {scored.facts['n_samples']} samples of the cohort table. Each must be scored once. "
                "This is an error of the program: report it. Nothing is published."
            )


def _partitions(work: Work) -> list[str]:
    """Return the names of the partitions: of their files, or of the folder that is one partition."""
    folder = work.params.get("partition")
    return [source.key for source in work.task.sources] if folder is None else [folder]


def _scores(work: Work, bundle: "Bundle", parts: Sequence[Artifact], absent: Sequence[Artifact]) -> "Scores":
    from mlho.encoding.events.ledger import rules_of_source
    from mlho.report.result import LedgerSummary
    from mlho.scoring.account import (
        Scores,
        describe,
        probabilities,
        total_ledger,
        unknown_codes,
    )
    from mlho.scoring.checks import alert_warnings
    from mlho.scoring.drift import drift_warnings
    from mlho.scoring.label_free import expected_performance
    from mlho.scoring.parts import PART_FILE
    from mlho.scoring.persons import age_warnings, demographic_warnings
    from mlho.scoring.value_drift import value_warnings

    every, training = (*parts, *absent), bundle.document.training
    n_samples, n_patients = _total(every, "n_rows"), _total(every, "n_patients")
    n_training = None if training is None else training.n_samples
    total = total_ledger(part.facts["ledger"] for part in parts)
    ledger = LedgerSummary.model_validate(total.account())
    unusual = _unusual_data(work, bundle, parts, every, ledger)
    alerts = _alerts(bundle, every)
    scored = probabilities([part.path(PART_FILE) for part in every])
    drift, expected = _drift(bundle, every, scored), expected_performance(scored, bundle.document)
    return Scores(
        outcome=bundle.document.outcome,
        predictive=bundle.document.predictive,
        horizons=[horizon.days for horizon in bundle.document.horizons or ()],
        bundle_digest=bundle.digest,
        index=work.params["index"],
        patients=n_patients,
        samples=n_samples,
        patients_without_events=_total(absent, "n_patients"),
        samples_without_events=_total(every, "n_without_events"),
        training_share_without_events=None if training is None else training.without_events,
        warnings=[
            *unusual,
            *demographic_warnings(bundle.demographics, open_persons(work)),
            *age_warnings(
                [sum(counts) for counts in zip(*(part.facts["odd_ages"] for part in every), strict=True)]
            ),
            *alert_warnings(alerts, n_samples, n_patients=n_patients, n_training=n_training),
            *drift_warnings(drift, bundle.document.features),
            *value_warnings(drift.shifted),
            *total.warnings(intended=rules_of_source(work.params["source"])),
            *_missed(work),
        ],
        ledger=ledger,
        unknown=unknown_codes(part.json(UNKNOWN_FILE) for part in parts),
        distribution=describe(scored),
        drift=drift,
        expected=expected,
        advice=_advice(expected, drift),
        alerts=alerts,
    )


def _advice(expected: "ExpectedPerformance", drift: "Drift") -> "Advice":
    from mlho.report.advice import Findings, advise
    from mlho.scoring.drift import large_score_psi

    return advise(
        Findings(
            trained=expected.training_auroc,
            expected=expected.auroc,
            score_psi=large_score_psi(drift),
            vanished=len(drift.vanished),
            missing=drift.n_missing_shifted,
            shifted=drift.n_shifted,
            compared=drift.n_compared,
        )
    )


def _total(parts: Sequence[Artifact], name: str) -> int:
    return sum(part.facts[name] for part in parts)


def _unusual_data(
    work: Work,
    bundle: "Bundle",
    parts: Sequence[Artifact],
    every: Sequence[Artifact],
    ledger: "LedgerSummary",
) -> list[str]:
    """Return warnings about many samples without events, and about unknown codes.

    Refuse both, and demographics with other levels, unless the specification allows them.
    """
    from mlho.scoring.checks import check_empty_samples, check_vocabulary
    from mlho.scoring.persons import refuse_other_levels

    training, allows = bundle.document.training, work.params.get("empty_samples") == "warn"
    n_samples, n_empty = _total(every, "n_rows"), _total(every, "n_without_events")
    n_patients = _total(every, "n_patients")
    empty = check_empty_samples(n_empty, n_samples, training, ledger, n_patients=n_patients, allows=allows)
    n_codes = len(bundle.document.codes)
    n_known = _total(parts, "n_known_rows")
    if not allows:
        refuse_other_levels(bundle.demographics, open_persons(work))
    foreign = check_vocabulary(n_known, ledger.rows_used, n_samples - n_empty, n_codes, allows=allows)
    return [warning for warning in (empty, foreign) if warning]


def _alerts(bundle: "Bundle", parts: Sequence[Artifact]) -> "list[AlertSummary]":
    """Return the alerts of each threshold, with their rate in training."""
    from mlho.scoring.account import AlertSummary

    training = bundle.document.training
    rates = {} if training is None else training.alert_rates
    return [
        AlertSummary(
            rule=threshold.rule,
            value=threshold.value,
            alerts=None
            if threshold.value is None
            else sum(part.facts["alerts"][threshold.rule] for part in parts),
            training_rate=rates.get(threshold.rule),
            reason=threshold.reason,
        )
        for threshold in bundle.thresholds
    ]


def _missed(work: Work) -> list[str]:
    """Return a warning if the bundle misses an expectation: it may be used, but not promoted."""
    results = work.one("tests").json("tests.json")
    failed = [test for test in results if not test["passed"]]
    if not failed:
        return []
    named = " ".join(f"{test['id']}: {test['defect']}" for test in failed[:3])
    return [f"The bundle fails {len(failed)} of its {len(results)} tests, and cannot be promoted. {named}"]


def _drift(bundle: "Bundle", parts: Sequence[Artifact], scored: "NDArray[np.float64]") -> "Drift":
    """Compare features and scores with training."""
    import numpy as np

    from mlho.arrays import read_arrays
    from mlho.scoring.code_drift import find_code_drift
    from mlho.scoring.drift import (
        find_drift,
        find_missing,
        psi_by_chance,
        score_psi,
        shares_in_training,
        with_missing,
    )
    from mlho.scoring.value_drift import find_value_shifts

    features, training = bundle.document.features, bundle.document.training
    counted = [read_arrays(part.path(PRESENT_FILE)) for part in parts]
    present, with_value, missing, above, listed = (
        np.sum([counts[name] for counts in counted], axis=0, dtype=np.int64)
        for name in ("present", "with_value", "missing", "above", "codes")
    )
    others: Counter[str] = Counter()
    for part in parts:
        others.update(part.json(CODES_FILE))
    names = [] if bundle.demographics is None else [code.name for code in bundle.demographics.codes]
    unknown = dict(zip(names, missing.tolist(), strict=True))
    n, n_patients = len(scored), _total(parts, "n_patients")
    n_training = None if training is None else training.n_samples
    shares = shares_in_training(features, training)
    values = find_value_shifts(features, training, with_value, above, n, n_patients=n_patients)
    drift = find_drift(
        features, shares, present, n, n_patients=n_patients, n_training=n_training, values=values
    )
    index, reason = score_psi(scored, None if training is None else training.deciles)
    codes = find_code_drift(training, listed, others, n, n_patients=n_patients)
    drift = with_missing(
        drift, find_missing(features, training, with_value, unknown, n, n_patients=n_patients)
    )
    chance = None if index is None or training is None else psi_by_chance(n_patients, n_training)
    return drift.model_copy(
        update={"score_psi": index, "score_psi_by_chance": chance, "reason": reason, "codes": codes}
    )


def _entries(work: Work, parts: Sequence[Artifact], absent: Sequence[Artifact]) -> "list[PartEntry]":
    """Return the manifest entry of each part. Patients without events, if any, form a separate part."""
    from mlho.scoring.account import PartEntry
    from mlho.scoring.parts import PART_FILE

    listed: list[tuple[Artifact, str | None]]
    listed = [
        *zip(parts, _partitions(work), strict=True),
        *((part, None) for part in absent if part.facts["n_rows"]),
    ]
    delivered = work.inputs.get("delivered", ())
    return [
        PartEntry(
            name=f"part-{number:05d}.parquet",
            sha256=part.commit.files[PART_FILE].sha256,
            size=part.commit.files[PART_FILE].size,
            rows=part.facts["n_rows"],
            source=source,
            ledger=part.facts["ledger"] if source is not None else None,
            delivered=_delivered(delivered[number], number) if delivered else [],
        )
        for number, (part, source) in enumerate(listed)
    ]


def _delivered(artifact: Artifact, number: int) -> "list[DeliveredFile]":
    """Return the manifest entries of a part in further forms."""
    from mlho.scoring.account import DeliveredFile

    return [
        DeliveredFile(name=f"part-{number:05d}.{name.partition('.')[2]}", sha256=file.sha256, size=file.size)
        for name, file in sorted(artifact.commit.files.items())
    ]
