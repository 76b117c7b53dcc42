"""The public interface: names and parameters that do not change, and the recorded schema of the result."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import mlho
from mlho.model.parts import BundlePart
from mlho.report.parts import Part
from mlho.report.result import Result
from mlho.spec.training import RunSpec
from mlho.spec.types import SpecPart

REPOSITORY = Path(__file__).parents[2]

PUBLIC = [
    ("mlho", "open_run", ("store", "run")),
    ("mlho", "load_bundle", ("path",)),
    ("mlho.method.selection.jmi", "rank", ("X", "y", "n_features", "mode", "mask")),
    ("mlho.method.classifiers.boosting", "fit", ("X", "y", "n_steps", "learning_rate")),
    ("mlho.estimators", "MSMRSelector", ()),
    ("mlho.estimators", "GLMBoostClassifier", ()),
    ("mlho.spec.training", "load_spec", ("path",)),
]


@pytest.mark.parametrize(("module", "name", "parameters"), PUBLIC, ids=[f"{m}.{n}" for m, n, _ in PUBLIC])
def test_a_public_name_keeps_its_place_and_parameters(module, name, parameters):
    """A public function keeps its name and parameters. A new parameter may only be added at the end."""
    function = getattr(importlib.import_module(module), name)

    taken = inspect.signature(function).parameters
    assert set(parameters) <= set(taken)
    by_place = [
        parameter for parameter in parameters if taken[parameter].kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    assert list(taken)[: len(by_place)] == by_place
    assert function.__doc__


def test_the_library_is_marked_as_typed():
    """The package has py.typed, so that mypy uses its types in other projects."""
    assert (REPOSITORY / "mlho" / "py.typed").exists()


def test_the_schema_of_the_result_is_the_recorded_one():
    """The result's schema equals docs/result.schema.json, which others rely on. A change needs `make docs` and a line in CHANGELOG."""
    recorded = json.loads((REPOSITORY / "docs" / "result.schema.json").read_text(encoding="utf-8"))

    assert Result.model_json_schema(by_alias=True, mode="serialization") == recorded


def test_every_field_of_the_specification_is_documented():
    """Every field of the specification has a description, its own or that of its type."""

    def undocumented(schema, where):
        for name, field in schema.get("properties", {}).items():
            if not field.get("description") and "$ref" not in json.dumps(field):
                yield f"{where}.{name}"

    whole = RunSpec.model_json_schema(by_alias=True)
    parts = {"RunSpec": whole, **whole["$defs"]}
    missing = [field for name, part in parts.items() for field in undocumented(part, name)]

    assert sorted(missing) == ["RunSpec.apiVersion", "RunSpec.kind"]


def models_below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and all its subclasses."""
    yield kind
    for subclass in kind.__subclasses__():
        yield from models_below(subclass)


@pytest.mark.parametrize("base", [SpecPart, Part, BundlePart])
def test_the_validators_of_all_models_can_be_built(base):
    """The validators of all models can be built. Otherwise an error would appear at first use, possibly at the end of a long run."""
    for package in ("model", "report", "spec"):
        path = [str(Path(mlho.__path__[0]) / package)]
        for module in pkgutil.walk_packages(path, f"mlho.{package}."):
            if not module.name.endswith(".process"):
                importlib.import_module(module.name)
    models = list(models_below(base))

    assert len(models) > 5
    assert [model.__name__ for model in models if model.model_rebuild() is False] == []
