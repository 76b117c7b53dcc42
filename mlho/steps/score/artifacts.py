"""Shared helpers of the scoring steps: the bundle, the patients to score, and writing a part."""

import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlho.scratch import scratch_folder
from mlho.spec.scoring import ScoringIndex
from mlho.steps.base import Work

if TYPE_CHECKING:
    from mlho.model.bundle import Bundle
    from mlho.model.frames import Samples
    from mlho.scoring.persons import KnownPersons
    from mlho.scoring.roster import Roster
    from mlho.sources.files import SourceFile

BUNDLE_FOLDER: Final = "bundle/"
ROSTER_FILE: Final = "roster.arr"
PERSONS_FILE: Final = "persons.arr"
PATIENTS_FILE: Final = "patients.arr"
UNKNOWN_FILE: Final = "unknown.json"
PRESENT_FILE: Final = "present.arr"
CODES_FILE: Final = "codes.json"


def open_bundle(work: Work) -> "Bundle":
    """Open the bundle among the inputs, verified like a user's bundle. A process opens it once for all its partitions."""
    artifact = work.one("bundle")
    files = tuple((name.removeprefix(BUNDLE_FOLDER), artifact.path(name)) for name in artifact.names)
    return _opened(files, artifact.facts["bundle_digest"])


@lru_cache(maxsize=2)  # the bundle of the run, and the bundle it is compared with
def _opened(files: tuple[tuple[str, Path], ...], digest: str) -> "Bundle":
    from mlho.model.bundle import load_bundle
    from mlho.model.files import write_files

    with scratch_folder("mlho-bundle") as scratch:
        folder = scratch / "bundle"
        write_files(folder, {name: path.read_bytes() for name, path in files})
        return load_bundle(folder, digest=digest)


def index_of(work: Work) -> ScoringIndex:
    """Return the index definition from the task's parameters."""
    return ScoringIndex.model_validate(work.params["index"])


def open_roster(work: Work) -> "Roster | None":
    """Read the roster, if there is a cohort table."""
    from mlho.scoring.roster import Roster

    known = work.inputs.get("scored")
    return Roster.read(known[0].path(ROSTER_FILE)) if known and ROSTER_FILE in known[0].names else None


def open_persons(work: Work) -> "KnownPersons | None":
    """Read the demographics, if there is a table of them."""
    from mlho.scoring.persons import KnownPersons

    known = work.inputs.get("scored")
    if not known or PERSONS_FILE not in known[0].names:
        return None
    return KnownPersons.read(known[0].path(PERSONS_FILE))


def _reasons_from(work: Work, bundle: "Bundle") -> float:
    """Return the probability from which samples are explained."""
    from mlho.method.evaluation.thresholds import alerting

    rule = work.params.get("only_alerts_of")
    return 0.0 if rule is None else alerting(bundle.thresholds)[rule]


def write_part(
    work: Work,
    bundle: "Bundle",
    samples: "Samples",
    batches: Iterable[tuple[str, Iterable[Any]]],
    *,
    last_us: Any = None,
    files: "Sequence[SourceFile]" = (),
    numbers: Any = None,
) -> dict[str, Any]:
    """Score samples from their events and write the part; return its facts.

    Parameters
    ----------
    batches : iterable of (name, iterable of RecordBatch)
        The events of these patients, and possibly of others, by file.
    last_us : int64 array, optional
        Last plausible time of each patient's events.
    files : sequence of SourceFile
        The files with their events; demographics are read from these files if there is no table of demographics.
    numbers : int64 array, optional
        The patients' numbers in the roster.
    """
    from mlho.arrays import write_arrays
    from mlho.scoring.code_drift import split_codes
    from mlho.scoring.partition import encode_files
    from mlho.scoring.parts import PART_FILE, PartWriter
    from mlho.scoring.persons import demographic_warnings, read_static_persons
    from mlho.sources import source_from

    folder, top_reasons = work.out / "scratch", work.params["top_reasons"]
    folder.mkdir()
    persons = open_persons(work)
    unseen: list[str] = []
    if persons is None and bundle.demographics is not None:
        source = source_from(work.params)
        persons = read_static_persons(bundle.demographics, index_of(work), source, files, samples.patient_ids)
        unseen = demographic_warnings(bundle.demographics, persons)
    scored = encode_files(
        bundle, samples, persons, batches, folder, source=work.params["source"], last_us=last_us
    )
    with PartWriter(work.out / PART_FILE, bundle, has_reasons=top_reasons > 0) as part:
        for block in scored.blocks(top_reasons=top_reasons, reasons_from=_reasons_from(work, bundle)):
            part.write(block)
    shutil.rmtree(folder)
    arrays = {"hashes": part.hashes()} | ({} if numbers is None else {"numbers": numbers})
    write_arrays(work.out / PATIENTS_FILE, arrays)
    listed, others = split_codes(bundle.document.training, scored.samples_by_code)
    write_arrays(
        work.out / PRESENT_FILE,
        {
            "present": scored.present,
            "with_value": scored.with_value,
            "missing": scored.missing,
            "above": scored.above,
            "codes": listed,
        },
    )
    work.write_json(CODES_FILE, others)
    work.write_json(UNKNOWN_FILE, scored.unknown_rows)
    return {
        "alerts": part.n_alerts,
        "ledger": scored.account().to_json(),
        "n_known_rows": scored.n_known_rows,
        "n_patients": len(samples.patient_ids),
        "n_rows": part.n_rows,
        "n_without_events": scored.n_without_events,
        "odd_ages": scored.odd_ages.tolist(),
    } | ({"unseen": unseen} if unseen else {})
