"""The published specifications of recommended runs are complete, are valid where they say so, and begin with the steps
that the user must take first.
"""

import pytest
import yaml

from mlho.spec.training import parse_spec
from scheduler.api.resource import from_resource
from scheduler.cli import parser
from scheduler.engine.publication import retraining_yaml
from tests.builders import make_document, make_tables, write_tables


def written(changes=None, *, uri="s3://ehr/2025/", title=None):
    document = make_document(changes, uri=uri)
    if title is not None:
        document["metadata"]["title"] = title
    content = retraining_yaml(parse_spec(yaml.safe_dump(document)), "retrain.yaml").decode()
    head = [line.removeprefix("# ") for line in content.splitlines() if line.startswith("#")]
    return content, head


def test_a_retraining_states_its_command_and_the_tables_to_renew():
    """The specification of a retraining names its command and the tables to renew. Its metadata has only fields that
    Kubernetes accepts, so that kubectl can apply it.
    """
    content, head = written()

    assert head[0].startswith("mlho run retrain.yaml, or in a cluster kubectl apply -f retrain.yaml: ")
    assert "events events, labels labels.parquet, demographics demographics.parquet" in head[1]
    assert head[2] == "They are read from data.uri: s3://ehr/2025/."
    document = yaml.safe_load(content)
    assert document["metadata"] == {"name": "small-retrained"}
    assert from_resource(document).spec == parse_spec(content)


def test_a_title_is_submitted_as_an_annotation():
    _, head = written(title="Readmission")

    assert "in a cluster mlho submit retrain.yaml" in head[0]


@pytest.mark.parametrize("uri", [".", "data/2025", "/ehr/2025"])
def test_local_tables_name_no_command_of_a_cluster(uri):
    _, head = written(uri=uri)

    assert head[0].startswith("mlho run retrain.yaml: ")
    assert ("move it beside the specification of training" in head[2]) == (not uri.startswith("/"))


def test_dates_that_stay_behind_are_named():
    split = {"validation.split": "temporal", "validation.testFrom": "2020-03-01"}

    assert written(split)[1][-1] == "Move its dates to the new tables: validation.testFrom 2020-03-01."
    assert not any("Move its dates" in line for line in written()[1])


def test_beside_the_specification_of_training_it_is_valid(tmp_path):
    """A specification of a retraining beside the original one is valid, because relative addresses resolve to the same tables."""
    write_tables(tmp_path / "data", make_tables(200, seed=9))
    path = tmp_path / "retrain.yaml"
    path.write_text(written(uri="data")[0])

    assert parser.main(["validate", str(path)]) == 0
