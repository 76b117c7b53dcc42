"""Application of a cohort's rules: to extracted events, and, for the inspection before a run and for an evaluation, in one process."""

from collections.abc import Sequence

from mlho.encoding.rules.evaluation import apply_rules
from mlho.encoding.rules.extraction import extract_file
from mlho.encoding.rules.hierarchy import find_descendants
from mlho.encoding.rules.history import Histories, join_histories
from mlho.encoding.rules.labels import RuleLabels
from mlho.encoding.rules.periods import read_periods
from mlho.encoding.rules.persons import read_rule_persons
from mlho.sources import Source, list_inputs
from mlho.sources.files import DataRoot, SourceFile
from mlho.spec.training import TrainingSpec


def make_rule_labels(
    spec: TrainingSpec, source: Source, root: DataRoot, files: Sequence[SourceFile]
) -> RuleLabels:
    """Return the labels that the rules produce, exactly as in the run.

    Raises
    ------
    DataError
        A table cannot be read, or the rules find no entry or no outcome.
    """
    rules = spec.cohort.rules
    assert rules is not None, "called for rules only"
    years = spec.data.plausible_years
    below = (
        {} if rules.hierarchy is None else find_descendants(rules, source, list_inputs(root, rules.hierarchy))
    )
    histories = join_histories(
        [extract_file(rules, source, file, years=years, below=below) for file in files]
    )
    return label_histories(spec, source, root, histories)


def label_histories(spec: TrainingSpec, source: Source, root: DataRoot, histories: Histories) -> RuleLabels:
    """Return the labels that the rules produce from the extracted events of all files; see :func:`make_rule_labels`."""
    rules = spec.cohort.rules
    assert rules is not None, "called for rules only"
    persons = read_rule_persons(spec, root, histories.patient_ids)
    pattern = rules.observation.periods
    periods = (
        None if pattern is None else read_periods(source, list_inputs(root, pattern), histories.patient_ids)
    )
    labels = apply_rules(rules, histories, persons, periods, times=spec.cohort.time_to_event)
    return RuleLabels.of(labels, histories.patient_ids)
