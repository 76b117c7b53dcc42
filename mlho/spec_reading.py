"""Reading a specification: strict YAML, and errors that name the field and the nearest valid name."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from mlho.errors import SpecError

API_VERSION: Final = "mlho.io/v1alpha1"

# Names of R MLHO that a newcomer will type, and what they are here. Units differ too, so they are refused, not mapped.
R_NAMES: Final[Mapping[str, str]] = {
    "dbmart": "data.tables.events",
    "labeldt": "data.tables.labels",
    "dems": "data.tables.demographics (the table) or features.demographics (its columns)",
    "patient_num": "the column patient_id; source: dbmart reads patient_num",
    "phenx": "the column code; source: dbmart reads phenx",
    "start_date": "the column time; source: dbmart reads start_date",
    "sparsity": "selection.minPrevalence (a fraction of patients)",
    "topn": "selection.nFeatures",
    "test.sample": "validation.testFraction (a fraction, where R has a percentage)",
    "test_sample": "validation.testFraction (a fraction, where R has a percentage)",
    "aoi": "cohort.outcome",
    "binarize": "features.aggregates: [presence]",
    "mlho.features": "selection",
    "classifier": "candidates[].classifier",
    "cv": "validation.folds",
    "note": "metadata",
}


# Sections of a custom resource that say how a cluster runs it, and nothing of what is computed.
CLUSTER_ONLY: Final = ("desiredState", "workers")

# What to do with a document of another kind than the one that was asked for.
_COMMANDS: Final[Mapping[str, str]] = {"TrainingRun": "mlho run", "ScoringRun": "mlho score"}


def read_text(path: Path) -> str:
    """Text of a specification file.

    Raises
    ------
    SpecError
        The file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(
            f"{path}: cannot be read ({error.strerror}). Give the path of a YAML file."
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text. A specification is a YAML file.") from error


def parse_document[Document: BaseModel](text: str, model: type[Document], *, where: str) -> Document:
    """Parse a specification from YAML text.

    Parameters
    ----------
    text : str
        The document.
    model : type
        What it must be: a model with ``apiVersion``, ``kind``, ``metadata`` and ``spec``.
    where : str
        What errors call the document.

    Raises
    ------
    SpecError
        It is no YAML, or asks for something that does not exist; the message names the field, what was expected and
        the nearest valid name.
    """
    document = parse_mapping(text, where=where)
    _refuse_other_kinds(document, model, where)
    _leave_to_the_cluster(document)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise refusal(error, model, where=where) from error


def refusal(error: ValidationError, model: type[BaseModel], *, where: str) -> SpecError:
    """What a model refuses, for people: a line for each field, with the nearest valid name."""
    problems = _problems(error, model)
    lines = [f"{where}: {len(problems)} problem(s) in the specification:"]
    return SpecError("\n".join([*lines, *(f"  - {line}" for line in problems)]))


def parse_mapping(text: str, *, where: str) -> dict[str, Any]:
    """Plain values of a YAML document of this version of the API; see :func:`parse_document`."""
    try:
        document = _read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise SpecError(
            f"{where}: not valid YAML{place} ({problem}). Check the indentation, the quotes and the names there."
        ) from error
    if not isinstance(document, dict):
        raise SpecError(f"{where}: expected a mapping with apiVersion, kind, metadata and spec.")
    _refuse_other_versions(document, where)
    return document


def _read_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key may stand once: of two, YAML silently keeps the last."""


def _mapping_without_double_keys(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {str(key)[:64]!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_double_keys)


def _refuse_other_versions(document: Mapping[str, Any], where: str) -> None:
    version = document.get("apiVersion")
    if isinstance(version, str) and version != API_VERSION:
        raise SpecError(
            f"{where}: apiVersion is {version[:64]!r}; this program reads {API_VERSION}. Change it, or use the program's other version."
        )


def _leave_to_the_cluster(document: dict[str, Any]) -> None:
    """Take out what only a cluster reads, so that one file serves every place."""
    if isinstance(document.get("spec"), dict):
        document["spec"] = {name: own for name, own in document["spec"].items() if name not in CLUSTER_ONLY}


def _refuse_other_kinds(document: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    kind = document.get("kind")
    wanted = next(iter(getattr(model.model_fields["kind"].annotation, "__args__", ())), None)
    if isinstance(kind, str) and kind != wanted and kind in _COMMANDS:
        raise SpecError(f"{where}: is a {kind}; expected a {wanted}. Use it with: {_COMMANDS[kind]} {where}")


def _problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    details = error.errors(include_input=False)
    # What holds a wrong part is wrong too; only the part itself is worth reading.
    inner = [
        own
        for own in details
        if not any(_is_inside(other["loc"], own["loc"]) for other in details if other is not own)
    ]
    return list(dict.fromkeys(_problem(dict(detail), root) for detail in inner))


def _is_inside(location: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(location) > len(other) and location[: len(other)] == other


def _problem(detail: Mapping[str, Any], root: type[BaseModel]) -> str:
    location = detail["loc"]
    path = ".".join(str(part) for part in location if not _is_union_branch(part)) or "document"
    if detail["type"] != "extra_forbidden":
        return f"{path}: {detail['msg'].removeprefix('Value error, ')}."
    name = str(location[-1])
    if name in R_NAMES:
        return f"{path}: R MLHO's name {name!r} is here {R_NAMES[name]}."
    near = difflib.get_close_matches(name, _names_at(location[:-1], root), n=1, cutoff=0.5)
    everywhere = difflib.get_close_matches(name, sorted(set(_all_names(root))), n=1, cutoff=0.7)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if not near and everywhere:
        hint = f" Did you mean {everywhere[0]!r}, which stands elsewhere in the specification?"
    return f"{path}: unknown field.{hint} Known here: {', '.join(sorted(_names_at(location[:-1], root)))}."


def _is_union_branch(part: object) -> bool:
    """Tell whether a location names a branch of a union (a type), which users never wrote."""
    return isinstance(part, str) and (part[:1].isupper() or part.startswith(("literal[", "constrained-")))


def _names_at(location: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    model: Any = root
    for part in location:
        if isinstance(part, int) or _is_union_branch(part):
            continue
        model = _part_model(model, part)
    return _aliases(model) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _part_model(model: Any, alias: str) -> Any:
    for name, field in model.model_fields.items():
        if alias in (name, field.alias):
            return next(iter(_models_in(field.annotation)), None)
    return None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _all_names(model: type[BaseModel]) -> Iterator[str]:
    yield from _aliases(model)
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            yield from _all_names(part)
