"""Training specifications: accepted and refused fields."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlho.errors import SpecError
from mlho.grids import GRIDS, settings_from
from mlho.spec.messages import R_NAMES
from mlho.spec.training import TrainingSpec, load_spec, normalised, parse_spec
from tests.unit.spec.documents import FULL, document, parsed

MINIMAL = """
apiVersion: mlho.io/v1alpha1
kind: TrainingRun
metadata: {name: small}
spec:
  data: {tables: {events: events, labels: labels.csv}}
  cohort: {index: none}
"""


def problem(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parsed(**changes)
    return str(caught.value)


def test_the_defaults_are_the_documented_ones():
    """A changed default changes the meaning of runs, so all defaults are pinned."""
    assert normalised(parse_spec(MINIMAL).spec) == {
        "data": {
            "source": "native",
            "tables": {"events": "events", "labels": "labels.csv", "demographics": None, "concepts": None},
            "partitionedBy": "nothing",
            "duplicates": "keep",
            "plausibleYears": [1900, 2299],
        },
        "cohort": {
            "outcome": "label",
            "index": {"none": True},
            "lookBackDays": None,
            "gapDays": 0,
            "conflictingLabels": "error",
            "unknownPatients": "error",
        },
        "features": {
            "aggregates": ["presence"],
            "windows": [],
            "levelCuts": [1, 2, 3],
            "demographics": [],
            "categorical": [],
        },
        "selection": {
            "minPrevalence": 0.005,
            "screen": "at-least",
            "ranking": "jmi",
            "nFeatures": 200,
            "scope": "fold",
        },
        "validation": {
            "iterations": 20,
            "testFraction": 0.3,
            "folds": 5,
            "split": "stratified",
            "seed": 0,
            "choice": "best",
            "bootstrapReplicates": 200,
            "alertRate": 0.1,
            "sensitivity": 0.8,
        },
        "candidates": [{"classifier": "glmboost", "grid": {}}],
        "consensus": {"classifier": "glmboost", "minConfidence": 80, "maxFalseShare": None},
        "final": {"classifier": "best", "features": "ranking"},
        "report": {"minCell": 11, "realProfiles": False},
    }


def test_windows_are_the_look_back_or_given_or_all_history():
    """Windows are in ascending order; None is all history."""
    assert parsed().spec.windows == (730,)
    assert parse_spec(MINIMAL).spec.windows == (None,)
    assert parsed(spec__cohort__lookBackDays=None, spec__features__windows=[365, 30]).spec.windows == (
        30,
        365,
    )
    both = parsed(
        spec__cohort__lookBackDays=None,
        spec__features__windows=[365, 30],
        spec__features__allHistory=True,
    )
    assert both.spec.windows == (30, 365, None)


def test_a_spec_cannot_be_changed():
    """A specification is frozen, because it is hashed."""
    spec = parsed()

    with pytest.raises(ValueError, match="frozen"):
        spec.spec.data.uri = "elsewhere"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("spec__selecton", "'selection'"),
        ("spec__selection__minPrevalance", "'minPrevalence'"),
        ("spec__validation__itertions", "'iterations'"),
        ("spec__data__tables__label", "'labels'"),
        ("spec__cohort__lookback_days", "'lookBackDays'"),
        ("spec__cohort__minPrevalence", "spec.selection.minPrevalence"),
        ("spec__cohort__minPrevalenc", "spec.selection.minPrevalence"),
        ("spec__data__action", "spec.leakage.action"),  # 'partitionedBy' would be the nearest name there
        ("metadata__nam", "'name'"),
        ("specs", "'spec'"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(path, near):
    """The error for an unknown field has its path, the nearest name, or the path of a field elsewhere, and the known names."""
    message = problem(**{path: 1})

    assert f"{path.replace('__', '.')}: unknown field. Did you mean {near}?" in message
    assert "Known here: " in message


def test_an_unknown_field_of_a_candidate_is_refused():
    """The error for an unknown field within a list has the position."""
    message = problem(spec__candidates=[{"classifier": "glmboost", "gird": {}}])

    assert (
        "spec.candidates.0.gird: unknown field. Did you mean 'grid'? Known here: classifier, grid." in message
    )


@pytest.mark.parametrize("name", R_NAMES)
def test_names_of_r_are_refused_with_ours(name):
    """R's units differ as well, so its names are never mapped silently."""
    plain = document()
    plain["spec"][name] = 1

    with pytest.raises(SpecError) as caught:
        parse_spec(yaml.safe_dump(plain))

    assert f"R MLHO's name {name!r} corresponds to {R_NAMES[name]}" in str(caught.value)


def test_a_percentage_of_r_is_refused_with_its_unit():
    """R's ``test.sample: 30`` is 30 %, and our ``testFraction`` is 0.3."""
    assert "a fraction, where R has a percentage" in problem(**{"spec__validation__test.sample": 30})
    assert "spec.validation.testFraction: expected less than 1" in problem(spec__validation__testFraction=30)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spec__cohort__index": "none"},
            "lookBackDays and gapDays require an index date, but index is none",
        ),
        ({"spec__cohort__gapDays": 730}, "gapDays must be less than lookBackDays. Got 730 and 730"),
        ({"spec__features__windows": [30]}, "features.windows and cohort.lookBackDays exclude each other"),
        (
            {"spec__cohort": {"index": "none"}, "spec__features__windows": [30]},
            "features.windows requires an index date, but cohort.index is none",
        ),
        (
            {
                "spec__cohort__lookBackDays": None,
                "spec__cohort__gapDays": 30,
                "spec__features__windows": [30, 90],
            },
            "each of features.windows must be longer than cohort.gapDays",
        ),
        (
            {"spec__features__utilisation": True, "spec__features__exclude": ["Z*"]},
            "utilisation counts all codes, and excludes include, exclude and rollUp",
        ),
        (
            {"spec__features__allHistory": True},
            "allHistory adds a window to windows, which is empty: all history is the default",
        ),
        (
            {"spec__cohort": {"index": "none"}, "spec__features__aggregates": ["recency"]},
            "the aggregate recency requires an index date, but cohort.index is none",
        ),
        ({"spec__features__demographics": ["age", "age"]}, "demographics must not contain duplicates"),
        (
            {"spec__features__categorical": ["ward"]},
            "categorical names columns that are not in demographics: ward",
        ),
        ({"spec__features__aggregates": ["count", "count"]}, "aggregates must not contain duplicates"),
        ({"spec__features__levelCuts": [2, 1]}, "levelCuts must be increasing and at least 1"),
        ({"spec__features__levelCuts": [0, 1]}, "levelCuts must be increasing and at least 1"),
        (
            {"spec__data__tables__demographics": None},
            "features.demographics requires data.tables.demographics",
        ),
        (
            {"spec__candidates": [{"classifier": "glmboost"}, {"classifier": "glmboost"}]},
            "must not repeat a classifier; extend its grid",
        ),
        (
            {"spec__final": {"classifier": "ebm"}},
            "final.classifier must be best or one of the candidates. Got ebm",
        ),
        (
            {"spec__final": {"features": "consensus"}, "spec__validation__folds": 2},
            "final.features: consensus requires at least 3 validation.folds",
        ),
        ({"spec__selection__ranking": "mlho-r"}, "mlho-r is defined for one aggregate only"),
        (
            {"spec__quality": {"overrides": [{"checks": ["duplicates"], "subjects": ["measurement:*"]}]}},
            "duplicates has a single figure, with the subject events, and no separate bound for a code, table or site. "
            "Set quality.checks.duplicates",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["value-range"], "subjects": ["*"]}]}},
            "the ranges, shares and actions of value-range belong in quality.codes",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["site-months"], "subjects": ["LOINC:*"]}]}},
            "no pattern in subjects matches a subject of site-months. Expected sites, such as site North. Correct the subjects",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["code-form"], "subjects": ["blanks"]}]}},
            "no pattern in subjects matches a subject of code-form. Expected placeholder, number, blank",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["code-form"], "subjects": ["place*"]}]}},
            "no pattern in subjects matches a subject of code-form. Expected placeholder, number, blank",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["missing-by-outcome"], "subjects": ["a*"]}]}},
            "quality.overrides for missing-by-outcome match no demographic of the model. Expected records",
        ),
        (
            {"spec__data__format": {"dateFormats": ["%d.%m.%Y%%"]}},
            "%% is not supported. Supported: %Y, %m",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["hours"], "subjects": ["2020", "June"]}]}},
            "no check of this override has the subject 'June'. Correct or remove it; hours has the subjects years, such as 2020",
        ),
        (
            {"spec__quality": {"overrides": [{"checks": ["missing-by-outcome"], "subjects": ["bmi"]}]}},
            "quality.overrides for missing-by-outcome match no demographic of the model. Expected records",
        ),
        (
            {"spec__consensus": {"maxFalseShare": 0.1, "minConfidence": 70}},
            "consensus.maxFalseShare, which chooses the score, excludes consensus.minConfidence",
        ),
        (
            {"spec__consensus": {"maxFalseShare": 0.1}, "spec__final": {"features": "consensus"}},
            "excludes final.features: consensus",
        ),
        (
            {"spec__consensus": {"maxFalseShare": 0.1}, "spec__selection__ranking": "mlho-r"},
            "excludes selection.ranking: mlho-r",
        ),
        ({"spec__selection__minPrevalence": 1}, "spec.selection.minPrevalence: expected less than 1"),
        ({"spec__validation__folds": 1}, "spec.validation.folds: expected at least 2"),
        ({"spec__validation__seed": -1}, "spec.validation.seed: expected at least 0"),
        ({"spec__selection__nFeatures": "many"}, "spec.selection.nFeatures: expected a whole number"),
        ({"spec__candidates": []}, "spec.candidates: expected at least 1 entry"),
        (
            {"spec__candidates": [{"classifier": "rf"}]},
            "spec.candidates.0.classifier: expected one of glmboost",
        ),
        ({"spec__data__source": "fhir"}, "spec.data.source: expected one of native, dbmart"),
        ({"spec__cohort": {}}, "spec.cohort: index is missing"),
        ({"spec__cohort__conflictingLabels": "keep"}, "spec.cohort.conflictingLabels: expected one of"),
        ({"metadata__name": "Not A Name"}, "metadata.name: expected lower-case letters"),
        ({"kind": "Run"}, "kind: expected TrainingRun"),
        ({"apiVersion": "mlho.io/v2"}, "apiVersion is 'mlho.io/v2'; this program reads mlho.io/v1alpha1"),
    ],
)
def test_an_inconsistent_specification_is_refused(changes, message):
    """The error for inconsistent fields has the field, the expected and the given value."""
    assert message in problem(**changes)


@pytest.mark.parametrize(
    "index",
    [
        {"column": "visit"},
        {"column": "visit", "gap": 1},
        {"date": "2020-01-31"},
        {"date": "soon"},
        {},
        "none",
        "no",
    ],
)
def test_an_index_is_a_column_a_date_or_an_explicit_none(index):
    """An index is a column, a date or an explicit ``none``; any other value is refused with its path."""
    plain = document(spec__cohort={"index": index})
    is_valid = index in ({"column": "visit"}, {"date": "2020-01-31"}, "none")

    if is_valid:
        assert parse_spec(yaml.safe_dump(plain)).spec.cohort.index is not None
    else:
        with pytest.raises(SpecError, match=r"spec\.cohort\.index"):
            parse_spec(yaml.safe_dump(plain))


def test_several_problems_are_reported_at_once():
    """All problems of a specification are in one message."""
    message = problem(spec__selection__sparsity=0.1, spec__validation__folds=1)

    assert message.startswith("spec: 2 problems in the specification:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML at line"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("!!python/object/apply:os.getcwd []", "not valid YAML at line"),
    ],
)
def test_text_that_is_not_a_specification_is_refused(text, message):
    """Text that is not a specification is refused, and no YAML tag is executed."""
    with pytest.raises(SpecError, match=message):
        parse_spec(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """The error for a missing file, or one that is not text, names the file."""
    with pytest.raises(SpecError, match=r"gone\.yaml: cannot be read"):
        load_spec(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"binary\.yaml: is not UTF-8 text"):
        load_spec(tmp_path / "binary.yaml")


def test_a_file_is_read_as_its_text(tmp_path):
    """A file gives the same specification as its text."""
    (tmp_path / "spec.yaml").write_text(FULL)

    assert load_spec(tmp_path / "spec.yaml") == parse_spec(FULL)


@pytest.mark.parametrize(
    ("candidates", "expected", "fitted"),
    [
        (["elasticnet", "glmboost"], "elasticnet", ["elasticnet", "glmboost"]),
        (["xgboost", "glmboost"], "glmboost", ["xgboost", "glmboost"]),
        (["xgboost"], "glmboost", ["xgboost", "glmboost"]),
    ],
)
def test_the_consensus_classifier_is_the_first_linear_candidate(candidates, expected, fitted):
    """Without a linear candidate it is glmboost, which is fitted additionally. Stated or not, the run is the same."""
    named = [{"classifier": name} for name in candidates]
    silent, stated = (
        parsed(spec__candidates=named, spec__consensus=consensus).spec
        for consensus in ({}, {"classifier": expected})
    )

    assert silent.consensus.classifier == expected
    assert [candidate.classifier for candidate in silent.fitted] == fitted
    assert normalised(silent) == normalised(stated)


def test_a_spec_can_be_made_in_python():
    """In notebooks, fields can be given by their snake_case names."""
    spec = TrainingSpec(
        data={"tables": {"events": "e", "labels": "l"}},
        cohort={"index": {"column": "index_date"}, "look_back_days": 30},
    )

    assert spec.windows == (30,)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("report__minCell", True, "spec.report.minCell: expected a whole number"),
        ("report__minCell", "11", "spec.report.minCell: expected a whole number"),
        ("report__realProfiles", 1, "spec.report.realProfiles: expected true or false"),
        ("report__realProfiles", "true", "spec.report.realProfiles: expected true or false"),
        ("validation__iterations", True, "spec.validation.iterations: expected a whole number"),
        ("validation__iterations", 20.0, "spec.validation.iterations: expected a whole number"),
        ("validation__testFraction", "0.3", "spec.validation.testFraction: expected a number"),
        ("validation__testFraction", True, "spec.validation.testFraction: expected a number"),
        ("cohort__outcome", 1, "spec.cohort.outcome: expected a text"),
        ("cohort__index", {"date": "20200101"}, "spec.cohort.index.date: a date is written YYYY-MM-DD"),
        ("cohort__index", {"date": 20200101}, "spec.cohort.index.date: expected a date"),
        ("cohort__index", {"date": "2020-02-30"}, "spec.cohort.index.date: there is no such day"),
        ("cohort__index", {"none": 1}, "spec.cohort.index.none: expected true"),
        ("features__windows", [30, True], "spec.features.windows.1: expected a whole number"),
        ("features__aggregates", "presence", "spec.features.aggregates: expected a list"),
        ("selection", [], "spec.selection: expected a mapping"),
        ("data__tables__events", "", "spec.data.tables.events"),
        ("data__tables__events", "x" * 600, "spec.data.tables.events"),
        ("candidates", [{"classifier": "glmboost", "grid": {"nSteps": [True]}}], "spec.candidates.0.grid.nSteps.0"),
        ("candidates", [{"classifier": "glmboost", "grid": {"nSteps": ["50"]}}], "spec.candidates.0.grid.nSteps.0"),
    ],
)  # fmt: skip
def test_types_are_strict(path, value, says):
    """Booleans, numbers and texts are not converted into each other."""
    with pytest.raises(SpecError) as caught:
        parsed(**{f"spec__{path}": value})

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("classifier", "grid", "says"),
    [
        ("glmboost", {"steps": [1]}, "unknown parameter 'steps'. Did you mean 'nSteps'?"),
        ("glmboost", {"nSteps": []}, "the grid of nSteps is empty"),
        ("glmboost", {"nSteps": [0]}, "nSteps must be a whole number of at least 1"),
        ("glmboost", {"nSteps": [1.5]}, "nSteps must be a whole number"),
        ("glmboost", {"nSteps": [50, 50]}, "names a value twice"),
        ("glmboost", {"learningRate": [2]}, "learningRate must be a number above 0 and at most 1"),
        ("elasticnet", {"c": [1e300]}, "c must be a number of at least 1e-09 and at most 1e+09"),
        ("xgboost", {"nSteps": [50]}, "unknown parameter 'nSteps'"),
        (
            "xgboost",
            {"maxDepth": list(range(1, 17)), "nRounds": list(range(1, 101))},
            "the grid has 1,600 combinations; at most 1,000 are tried",
        ),
        (
            "xgboost",
            {name: [n / 100 for n in range(1, 101)] for name in ("learningRate", "subsample", "colsample")}
            | {"nRounds": list(range(1, 5_001))},
            "the grid has 10,000,000,000 combinations",
        ),
    ],
)
def test_a_grid_is_checked_with_the_specification(classifier, grid, says):
    """Names, ranges, empty lists and sizes are checked before any table is read."""
    with pytest.raises(SpecError) as caught:
        parsed(spec__candidates=[{"classifier": classifier, "grid": grid}])

    assert says in str(caught.value)


def test_every_default_grid_is_within_its_own_rules():
    """Every default grid is valid if it is given explicitly."""
    for classifier, parameters in GRIDS.items():
        grid = {parameter.name: list(parameter.default) for parameter in parameters}
        assert settings_from(grid, parameters, classifier) == settings_from({}, parameters, classifier)


def test_thousands_of_problems_are_reported_within_seconds():
    """For 10,000 unknown fields, the message has the first problems and the number of the others, within seconds of CPU time."""
    extra = {f"field{number}": number for number in range(10_000)}
    began = time.process_time()

    with pytest.raises(SpecError, match=r"and 9,950 more") as caught:
        parsed(spec__selection=extra)

    assert time.process_time() - began < 10
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "/dev/zero", "/"])
def test_a_path_that_cannot_be_read_is_refused(path):
    """A path that is too long, invalid, endless or a folder raises an error at once."""
    with pytest.raises(SpecError, match=r"cannot be read|longer than"):
        load_spec(Path(path))


def test_threads_may_use_specifications_for_the_first_time_at_once():
    """Validators are built at the first use, and a scheduler uses one thread for each run."""
    program = (
        "import sys, threading\n"
        "from mlho.spec.training import TrainingSpec, parse_spec\n"
        "sys.setswitchinterval(1e-6)\n"
        "start, done = threading.Barrier(8), []\n"
        "def use():\n"
        "    start.wait()\n"
        "    plain = parse_spec(sys.argv[1]).spec.model_dump(mode='json', by_alias=True)\n"
        "    done.append(TrainingSpec.model_validate(plain).model_dump_json())\n"
        "threads = [threading.Thread(target=use) for _ in range(8)]\n"
        "for own in threads: own.start()\n"
        "for own in threads: own.join()\n"
        "print(len(done), len(set(done)))"
    )
    ended = subprocess.run([sys.executable, "-c", program, FULL], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["8", "1"]
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec__features__demographics": ["age", "readmit"]}, "features.demographics"),
        ({"spec__bias": {"columns": ["readmit"]}}, "bias.columns"),
        ({"spec__validation": {"split": "site", "splitColumn": "readmit"}}, "validation.splitColumn"),
        ({"spec__cohort__groupBy": "readmit"}, "cohort.groupBy"),
        (
            {"spec__features__demographics": ["died_on"], "spec__cohort__outcomeDate": "died_on"},
            "features.demographics",
        ),
        (
            {"spec__features__demographics": ["death"], "spec__cohort__outcome": None, "spec__cohort__outcomes": ["readmit", "death"]},
            "features.demographics",
        ),
    ],
)  # fmt: skip
def test_a_column_of_the_outcome_has_no_other_use(changes, field):
    """As a feature it would tell the outcome, and as a person, site or group every part would have one class."""
    whole = document(**changes)
    whole["spec"]["cohort"] = {name: value for name, value in whole["spec"]["cohort"].items() if value}

    with pytest.raises(SpecError, match=rf"{field} must not name a column of the outcome"):
        parse_spec(yaml.safe_dump(whole))
