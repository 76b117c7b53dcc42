"""Inspection of the tables of a scoring run against the requirements of its bundle."""

import numpy as np

from mlho.encoding.cohort.windows import needs_values
from mlho.errors import plural
from mlho.inspection.events import ids_in, judge_rows, sample_events
from mlho.inspection.findings import Inspection
from mlho.inspection.training import describe_tables, find_tables, is_small, look_at_zones
from mlho.model.contents import demographics_of
from mlho.model.document import parse_document
from mlho.model.frames import Samples
from mlho.model.scorer import scoring_spec
from mlho.scoring.partition import cohort_to_score
from mlho.scoring.persons import (
    KnownPersons,
    age_warnings,
    demographic_warnings,
    read_known_persons,
    refuse_other_levels,
)
from mlho.scoring.roster import everybody, read_roster
from mlho.sources import source_of
from mlho.sources.files import DataRoot
from mlho.spec.scoring import ScoringSpec


def inspect_scoring(spec: ScoringSpec, root: DataRoot, document: bytes) -> Inspection:
    """Inspect and check the tables of a scoring run; see :func:`mlho.inspection.training.inspect_training`.

    Parameters
    ----------
    document : bytes
        The bundle's ``bundle.json``.

    Raises
    ------
    BundleError
        The document is not of this version.
    """
    bundle = parse_document(document, where="bundle.json")
    found, source, tables = Inspection(), source_of(spec.data), spec.data.tables
    files = find_tables(found, root, tables.model_dump(), spec.data.source)
    too_large = [
        name for name, table_files in files.items() if name != "events" and not is_small(table_files)
    ]
    found.warn(f"{name}: too large to check before the run." for name in too_large)
    persons: KnownPersons | None = None
    samples: Samples | None = None
    if "demographics" in files and "demographics" not in too_large:
        encoder, table = demographics_of(bundle), str(tables.demographics)
        persons = found.attempt(lambda: read_known_persons(encoder, spec.index, source, root, table))
        found.warn(demographic_warnings(encoder, persons))
        if spec.checks.empty_samples == "fail":
            found.attempt(lambda: refuse_other_levels(encoder, persons))
    if "cohort" in files and "cohort" not in too_large:
        pattern, years = str(tables.cohort), bundle.scoring.plausible_years
        roster = found.attempt(lambda: read_roster(spec.index, source, root, pattern, years=years))
        if roster is not None:
            samples = roster.samples_of(np.arange(roster.n_patients))
            found.facts["cohort"] = (
                f"{plural(roster.n_patients, 'patient')}, {plural(roster.n_samples, 'sample')}"
            )
    rules = scoring_spec(bundle)
    events = files.get("events", [])
    batches = found.attempt(lambda: list(sample_events(source, events, values=needs_values(rules))))
    if batches is not None and events and not any(batch.num_rows for batch in batches):
        found.warn(["events: no row in the inspected files. Check that the export is complete."])
    if batches and tables.cohort is None:
        samples = everybody(sorted(ids_in(batches)), spec.index)
    if samples is not None and persons is not None and bundle.demographics:
        found.warn(_unmatched(samples, persons))
        encoder = demographics_of(bundle)
        if encoder is not None:
            odd_ages = persons.count_odd_ages(encoder, samples, persons.values_of(encoder, samples))
            found.warn(age_warnings(odd_ages.tolist()))
    if batches and samples is not None:
        judge_rows(
            found,
            rules,
            source,
            events,
            cohort_to_score(samples, persons),
            batches,
            parents=bundle.roll_up or {},
        )
    look_at_zones(found, spec.index, source, files, dated="cohort")
    describe_tables(found, source, files)
    return found


def _unmatched(samples: Samples, persons: KnownPersons) -> list[str]:
    """Return a warning if no patient has a row of demographics, for example because ids are written differently."""
    n = len(samples.patient_ids)
    if not n or len(persons.among(samples.patient_ids).patient_ids):
        return []
    return [
        f"demographics: none of {plural(n, 'patient')} to score has a row, so that their values are unknown. Check that patient ids "
        "have the same form in all tables: 17.0 and 17 are different ids."
    ]
