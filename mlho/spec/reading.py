"""Reading a specification: strict YAML, and errors that name the field and the nearest valid name."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mlho.errors import SpecError, plural
from mlho.printable import has_control, shown
from mlho.spec.messages import n_left_out, problems_of
from mlho.spec.strict_yaml import INT64, MAX_BYTES, MAX_DEPTH, TAB, YamlError, read_yaml

API_VERSION: Final = "mlho.io/v1alpha1"

# Sections of a custom resource that describe its execution in a cluster and do not affect results.
CLUSTER_ONLY: Final = ("desiredState", "ttlSecondsAfterFinished", "workers")

# Remedy for a document of a different kind than the requested one.
_COMMANDS: Final[Mapping[str, str]] = {"TrainingRun": "mlho run", "ScoringRun": "mlho score"}


def read_text(path: Path) -> str:
    """Return the text of a specification file.

    Raise SpecError if the file cannot be read, or is longer than the limit. No more than that is read.
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
        reason = getattr(error, "strerror", None) or "not a file name"
        raise SpecError(f"{where}: cannot be read ({reason}). Give the path of a YAML file.") from error
    if len(content) > MAX_BYTES:
        raise _too_long(where)
    return text


def _too_long(where: str) -> SpecError:
    return SpecError(f"{where}: is longer than {MAX_BYTES:,} bytes. A specification is a short YAML file.")


def parse_document[Document: BaseModel](text: str, model: type[Document], *, where: str) -> Document:
    """Parse a specification from YAML text.

    Raise SpecError if the text is not YAML, or contains an unknown field or value.

    Parameters
    ----------
    model : type
        Expected type: a model with ``apiVersion``, ``kind``, ``metadata`` and ``spec``.
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
    """Return a model of plain values, with strict types: a truth value is not a number, a number not a text, a text not a number.

    Raise SpecError if the values do not fit the model, or have a type that JSON lacks.
    """
    check_plain(plain, where=where)
    try:
        return model.model_validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        raise _refusal(error, model, plain, where=where) from error


def check_plain(plain: Any, *, where: str) -> None:
    """Refuse values that a specification cannot hold: control characters, numbers beyond 64 bits, endless nesting."""
    waiting = [(plain, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise SpecError(
                f"{where}: more than {MAX_DEPTH} levels are nested. Use the documented structure."
            )
        if isinstance(value, Mapping):
            waiting += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
        elif isinstance(value, str) and has_control(value) and value != TAB:
            raise SpecError(f"{where}: {shown(value)!r} contains a control character. Remove it.")
        elif (isinstance(value, int) and value not in INT64) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise SpecError(f"{where}: a number is too large. Expected at most 64 bits.")


def _refusal(error: ValidationError, model: type[BaseModel], plain: Any, *, where: str) -> SpecError:
    """Describe the validation errors in words: a line for each field."""
    problems, more = problems_of(error, model, plain), n_left_out(error)
    lines = [
        f"{where}: {plural(len(problems), 'problem')} in the specification:",
        *(f"  - {line}" for line in problems),
    ]
    return SpecError("\n".join([*lines, *([f"  and {more:,} more"] if more else [])]))


def parse_mapping(text: str, *, where: str) -> dict[str, Any]:
    """Return the plain values of a YAML document of this API version; see :func:`parse_document`."""
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
            f"{where}: apiVersion is {version[:64]!r}; this program reads {API_VERSION}. Change apiVersion, or use the program version that reads it."
        )


def _without_the_clusters(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document without the fields that only a cluster reads, so that one file works everywhere."""
    plain = dict(document)
    if isinstance(plain.get("spec"), Mapping):
        plain["spec"] = {name: value for name, value in plain["spec"].items() if name not in CLUSTER_ONLY}
    return plain


def _refuse_other_kinds(document: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    kind = document.get("kind")
    wanted = next(iter(getattr(model.model_fields["kind"].annotation, "__args__", ())), None)
    if isinstance(kind, str) and kind != wanted and kind in _COMMANDS:
        raise SpecError(f"{where}: is a {kind}; expected a {wanted}. Use it with: {_COMMANDS[kind]} {where}")
