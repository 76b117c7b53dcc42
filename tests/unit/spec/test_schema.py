"""The JSON Schemas of the specifications accept valid documents and refuse misspelled names."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from mlho.spec.schema import MODELS, schema_of
from mlho.spec.scoring import parse_any_spec
from scheduler.cli.demo import _RIVAL, _SPEC
from tests.builders import make_document
from tests.unit.scoring.conftest import make_score_document

REPOSITORY = Path(__file__).parents[3]


def documents() -> dict[str, str]:
    """Return specifications as text."""
    pages = ["README.md", "docs/specification.md", "docs/scoring.md"]
    blocks = {
        f"{page} {number}": block
        for page in pages
        for number, block in enumerate(
            re.findall(r"```yaml\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
        )
        if "apiVersion" in block
    }
    demo = _SPEC.format(path="x", seed=7, rival=_RIVAL)
    score = yaml.safe_load(yaml.safe_dump(make_score_document()))
    return {**blocks, "demo": demo, "small": yaml.safe_dump(make_document()), "score": yaml.safe_dump(score)}


@pytest.mark.parametrize("text", documents().values(), ids=documents())
def test_accepted_documents_fit_the_schema(text):
    """Valid documents also pass the schema that an editor uses."""
    kind = parse_any_spec(text).kind

    jsonschema.validate(
        json.loads(json.dumps(yaml.safe_load(text), default=str)), json.loads(schema_of(kind))
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_schema_is_one_and_describes_every_field(kind):
    """The schema is valid for its dialect, and each property has a description or refers to a part with one."""
    schema = json.loads(schema_of(kind))
    jsonschema.Draft202012Validator.check_schema(schema)
    parts = [schema, *schema["$defs"].values()]
    bare = [
        name
        for part in parts
        for name, field in part.get("properties", {}).items()
        if "description" not in field and "$ref" not in json.dumps(field)
    ]

    assert set(bare) <= {"apiVersion", "kind"}


def test_a_misspelled_name_does_not_fit():
    """A misspelled name is invalid, so an editor marks it."""
    document = make_document({"validation.fold": 3})

    with pytest.raises(jsonschema.ValidationError, match="fold"):
        jsonschema.validate(document, json.loads(schema_of("TrainingRun")))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(make_document({"cohort.index": "never"}), json.loads(schema_of("TrainingRun")))
