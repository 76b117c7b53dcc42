"""Reading a specification: strict YAML, and errors that name the field and the nearest valid name."""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mlho.errors import SpecError
from mlho.printable import has_control, shown
from mlho.spec.strict_yaml import INT64, MAX_BYTES, MAX_DEPTH, YamlError, read_yaml

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
CLUSTER_ONLY: Final = ("desiredState", "ttlSecondsAfterFinished", "workers")

# What to do with a document of another kind than the one that was asked for.
_COMMANDS: Final[Mapping[str, str]] = {"TrainingRun": "mlho run", "ScoringRun": "mlho score"}


# What JSON calls otherwise, as the models do.
_YAML_WORDS: Final[Mapping[str, str]] = {
    "Input should be an object": "Input should be a mapping",
    "Input should be a valid array": "Input should be a list",
}

_MOST_READ: Final = 50  # problems that are shown; who has more wants one of them corrected first
_LONGEST_NAME: Final = 64  # characters that are compared with known names


def read_text(path: Path) -> str:
    """Text of a specification file.

    Raises
    ------
    SpecError
        The file cannot be read, or is too long; no more of it is read then.
    """
    where = shown(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) and len(content) <= MAX_BYTES:
            raise SpecError(f"{where}: is not UTF-8 text. A specification is a YAML file.") from error
        if isinstance(error, UnicodeDecodeError):
            raise _too_long(where) from error
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise SpecError(f"{where}: cannot be read ({reason}). Give the path of a YAML file.") from error
    if len(content) > MAX_BYTES:
        raise _too_long(where)
    return text


def _too_long(where: str) -> SpecError:
    return SpecError(f"{where}: is longer than {MAX_BYTES:,} bytes. A specification is a short YAML file.")


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
    return validate_document(parse_mapping(text, where=where), model, where=where)


def validate_document[Document: BaseModel](
    document: Mapping[str, Any], model: type[Document], *, where: str
) -> Document:
    """Check the plain values of a document, from YAML or from an API server, against its model; see :func:`parse_document`."""
    _refuse_other_versions(document, where)
    _refuse_other_kinds(document, model, where)
    return validate(_without_the_clusters(document), model, where=where)


def validate[Document: BaseModel](plain: Any, model: type[Document], *, where: str) -> Document:
    """A model of plain values, with strict types: a truth value is no number, a number no text, a text no number.

    Raises
    ------
    SpecError
        The values do not fit the model, or are none that JSON has.
    """
    check_plain(plain, where=where)
    try:
        return model.model_validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        raise refusal(error, model, where=where) from error


def check_plain(plain: Any, *, where: str) -> None:
    """Refuse values that a specification cannot hold: control characters, numbers beyond 64 bits, endless nesting."""
    waiting = [(plain, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise SpecError(f"{where}: more than {MAX_DEPTH} levels are nested. Write it as documented.")
        if isinstance(value, Mapping):
            waiting += [(own, depth + 1) for pair in value.items() for own in pair]
        elif isinstance(value, list):
            waiting += [(own, depth + 1) for own in value]
        elif isinstance(value, str) and has_control(value):
            raise SpecError(f"{where}: {shown(value)!r} holds a control character. Remove it.")
        elif (isinstance(value, int) and value not in INT64) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise SpecError(f"{where}: a number is too large. Expected one of 64 bits.")


def refusal(error: ValidationError, model: type[BaseModel], *, where: str) -> SpecError:
    """What a model refuses, for people: a line for each field, with the nearest valid name."""
    problems = _problems(error, model)
    more = error.error_count() - _MOST_READ
    lines = [
        f"{where}: {len(problems)} problem(s) in the specification:",
        *(f"  - {line}" for line in problems),
    ]
    return SpecError("\n".join([*lines, *([f"  and {more:,} more"] if more > 0 else [])]))


def parse_mapping(text: str, *, where: str) -> dict[str, Any]:
    """Plain values of a YAML document of this version of the API; see :func:`parse_document`."""
    try:
        document = read_yaml(text)
    except YamlError as error:
        place = f"not valid YAML at line {error.line}: " if error.line else ""
        raise SpecError(f"{where}: {place}{error}.") from error
    if not isinstance(document, dict):
        raise SpecError(f"{where}: expected a mapping with apiVersion, kind, metadata and spec.")
    _refuse_other_versions(document, where)
    return document


def _refuse_other_versions(document: Mapping[str, Any], where: str) -> None:
    version = document.get("apiVersion")
    if isinstance(version, str) and version != API_VERSION:
        raise SpecError(
            f"{where}: apiVersion is {version[:64]!r}; this program reads {API_VERSION}. Change it, or use the program's other version."
        )


def _without_the_clusters(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what only a cluster reads, so that one file serves every place."""
    plain = dict(document)
    if isinstance(plain.get("spec"), Mapping):
        plain["spec"] = {name: own for name, own in plain["spec"].items() if name not in CLUSTER_ONLY}
    return plain


def _refuse_other_kinds(document: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    kind = document.get("kind")
    wanted = next(iter(getattr(model.model_fields["kind"].annotation, "__args__", ())), None)
    if isinstance(kind, str) and kind != wanted and kind in _COMMANDS:
        raise SpecError(f"{where}: is a {kind}; expected a {wanted}. Use it with: {_COMMANDS[kind]} {where}")


def _problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    details = error.errors(include_input=False, include_url=False)[:_MOST_READ]
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
    path = ".".join(shown(str(part)) for part in location if not _is_union_branch(part)) or "document"
    if detail["type"] != "extra_forbidden":
        words = detail["msg"].removeprefix("Value error, ").removesuffix(".")
        return f"{path}: {_YAML_WORDS.get(words, words)}."
    name = str(location[-1])[:_LONGEST_NAME]
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
