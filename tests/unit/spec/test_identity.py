"""Identity of training specifications: the fields that change a digest or a run id, and those that do not."""

import copy
from typing import Any

import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.training import canonical_json, digest_of, normalised, parse_spec, run_id
from tests.unit.spec.documents import document, parsed, set_value

# Another valid value for each field. Fields in one entry are changed together, because they must agree.
OTHER_VALUES: dict[str, dict[str, Any]] = {
    "data.source": {"data.source": "native"},
    "data.tables.events": {"data.tables.events": "more"},
    "data.tables.labels": {"data.tables.labels": "other.csv"},
    "data.tables.demographics": {"data.tables.demographics": "other.csv"},
    "data.tables.concepts": {"data.tables.concepts": "concepts.csv"},
    "data.partitionedBy": {"data.partitionedBy": "patient"},
    "data.duplicates": {"data.duplicates": "drop"},
    "data.plausibleYears": {"data.plausibleYears": [1950, 2299]},
    "cohort.outcome": {"cohort.outcome": "death"},
    "cohort.index": {"cohort.index": {"column": "visit"}},
    "cohort.lookBackDays": {"cohort.lookBackDays": 365},
    "cohort.gapDays": {"cohort.gapDays": 2},
    "cohort.conflictingLabels": {"cohort.conflictingLabels": "drop"},
    "cohort.unknownPatients": {"cohort.unknownPatients": "drop"},
    "features.aggregates": {"features.aggregates": ["last", "presence"]},
    "features.windows": {"features.windows": [730], "cohort.lookBackDays": None},
    "features.levelCuts": {"features.levelCuts": [1, 2]},
    "features.categorical": {"features.categorical": ["age"]},
    "features.demographics": {"features.demographics": ["sex", "age"]},
    "selection.minPrevalence": {"selection.minPrevalence": 0.01},
    "selection.screen": {"selection.screen": "mlho-r"},
    "selection.ranking": {"selection.ranking": "mim"},
    "selection.nFeatures": {"selection.nFeatures": 100},
    "selection.scope": {"selection.scope": "iteration"},
    "validation.iterations": {"validation.iterations": 7},
    "validation.testFraction": {"validation.testFraction": 0.2},
    "validation.folds": {"validation.folds": 10},
    "validation.split": {"validation.split": "random"},
    "validation.seed": {"validation.seed": 1},
    "validation.choice": {"validation.choice": "one-se"},
    "validation.bootstrapReplicates": {"validation.bootstrapReplicates": 0},
    "validation.alertRate": {"validation.alertRate": 0.2},
    "validation.sensitivity": {"validation.sensitivity": 0.9},
    "candidates": {"candidates": [{"classifier": "glmboost"}, {"classifier": "xgboost"}]},
    "consensus.classifier": {
        "consensus.classifier": "elasticnet",
        "candidates": [{"classifier": "glmboost"}, {"classifier": "elasticnet"}],
    },
    "consensus.minConfidence": {"consensus.minConfidence": 90},
    "consensus.maxFalseShare": {"consensus.maxFalseShare": 0.1},
    "final.classifier": {"final.classifier": "glmboost"},
    "final.features": {"final.features": "consensus"},
    "report.minCell": {"report.minCell": 5},
    "report.realProfiles": {"report.realProfiles": True},
}


def leaves(plain: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in plain.items():
        is_part = isinstance(value, dict) and name not in ("index",)
        found += leaves(value, f"{prefix}{name}.") if is_part else [f"{prefix}{name}"]
    return found


def test_another_value_is_known_for_every_field():
    """A new field must be added to the table above, so that its effect on the run id is tested."""
    assert sorted(OTHER_VALUES) == sorted(leaves(normalised(parsed().spec)))


@pytest.mark.parametrize("field", OTHER_VALUES)
def test_every_field_changes_the_digest(field):
    """Another value of any field changes the digest."""
    plain = document()
    for path, value in OTHER_VALUES[field].items():
        set_value(plain["spec"], path.split("."), value)

    assert parse_spec(yaml.safe_dump(plain)).digest != parsed().digest


def test_where_the_data_are_and_names_do_not_change_the_digest():
    """The location of the data, the name and the labels of a run do not change the digest."""
    elsewhere = parsed(
        spec__data__uri="s3://elsewhere", metadata__name="another", metadata__labels={"owner": "clinic"}
    )

    assert elsewhere.digest == parsed().digest
    assert elsewhere.spec.data.uri == "s3://elsewhere"


def test_all_history_changes_the_digest_where_it_is_asked():
    """``allHistory`` changes the digest, and a run without it keeps its id."""
    windows = {"lookBackDays": None}
    plain, both = (
        parsed(spec__cohort={**document()["spec"]["cohort"], **windows}, spec__features=features)
        for features in ({"windows": [30]}, {"windows": [30], "allHistory": True})
    )

    assert "allHistory" not in normalised(plain.spec)["features"]
    assert plain.digest != both.digest


def test_utilisation_changes_the_digest_where_it_is_asked():
    """``utilisation`` changes the digest, and a run without it keeps its id."""
    plain, counted = (parsed(spec__features=features) for features in ({}, {"utilisation": True}))

    assert "utilisation" not in normalised(plain.spec)["features"]
    assert plain.digest != counted.digest


def test_patterns_of_codes_change_the_digest_where_they_are_given():
    """Patterns of codes change the digest, and a run without them keeps its id."""
    plain, kept, dropped = (
        parsed(spec__features=features) for features in ({}, {"include": ["E*"]}, {"exclude": ["ICD10:*"]})
    )

    assert "include" not in normalised(plain.spec)["features"]
    assert len({spec.digest for spec in (plain, kept, dropped)}) == 3
    with pytest.raises(SpecError, match=r"features\.include"):
        parsed(spec__features={"include": []})


def test_a_default_written_out_does_not_change_the_digest():
    """An explicit default, the order of fields and the spelling of names do not change the digest."""
    plain = document(spec__validation={"folds": 5, "iterations": 20}, spec__data__duplicates="keep")
    by_name = copy.deepcopy(plain)
    by_name["spec"]["cohort"]["look_back_days"] = by_name["spec"]["cohort"].pop("lookBackDays")

    assert parse_spec(yaml.safe_dump(plain)).digest == parsed().digest
    assert parse_spec(yaml.safe_dump(by_name)).digest == parsed().digest


def test_a_run_is_its_spec_and_its_data():
    """The id has sixteen hexadecimal digits, and another manifest or another specification changes it."""
    first = run_id(parsed(), [{"key": "a", "size": 1}])

    assert len(first) == 16
    assert int(first, 16) >= 0
    assert first == run_id(parsed(spec__data__uri="elsewhere"), [{"size": 1, "key": "a"}])
    assert first != run_id(parsed(), [{"key": "a", "size": 2}])
    assert first != run_id(parsed(spec__validation__seed=1), [{"key": "a", "size": 1}])


def test_canonical_json_is_one_form_of_a_value():
    """The canonical form has sorted keys, no spaces, and UTF-8. NaN has no such form and is refused."""
    assert canonical_json({"b": 1.5, "a": "é"}) == '{"a":"é","b":1.5}'.encode()
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
