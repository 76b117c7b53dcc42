"""Messages about problems in a document, in terms of YAML: expected, got, an example, and the nearest valid name."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mlho.printable import shown

# R MLHO's names that a new user may type, and their equivalents here. Units differ too, so the names are refused, not mapped.
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

# A correct example of fields that are often written incorrectly.
_EXAMPLES: Final[Mapping[str, str]] = {
    "aggregates": "aggregates: [presence]",
    "bundle": "bundle: {uri: run:ID}",
    "candidates": "candidates: [{classifier: glmboost}]",
    "categorical": "categorical: [ward]",
    "cohort": "cohort: {outcome: label, index: {column: index_date}}",
    "columns": "columns: {events: {patient_id: MRN}}",
    "data": "data: {tables: {events: events/, labels: labels.csv}}",
    "dateFormats": 'dateFormats: ["%d.%m.%Y"]',
    "demographics": "demographics: [age, sex]",
    "format": 'format: {delimiter: ";"}',
    "gates": "gates: [{metric: auroc, lower95: {min: 0.75}}]",
    "grid": "grid: {nSteps: [50, 100]}",
    "index": "index: {column: index_date}",
    "levelCuts": "levelCuts: [1, 2, 3]",
    "metadata": "metadata: {name: readmission}",
    "partitionedBy": "partitionedBy: patient",
    "plausibleYears": "plausibleYears: [1900, 2299]",
    "tables": "tables: {events: events/, labels: labels.csv}",
    "windows": "windows: [90, 365]",
}
_COLUMN_EXAMPLES: Final[Mapping[str, str]] = {
    "events": "events: {patient_id: MRN, time: EVENT_DT}",
    "labels": "labels: {patient_id: MRN}",
    "demographics": "demographics: {birth_date: DOB}",
}
# Columns that are named outside data.columns.
_NAMED_ELSEWHERE: Final[Mapping[str, str]] = {
    "index_date": "cohort.index.column names the column of index dates",
    "label": "cohort.outcome names the column of the outcome",
}
# The meaning of each regular expression.
_PATTERNS: Final[Mapping[str, str]] = {
    r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$": "lower-case letters, digits, '-' and '.', such as readmission-2026",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and '-', such as scores",
    r"^[0-9a-f]{64}$": "a SHA-256 of 64 hexadecimal digits",
    r"^(run|channel):[a-z0-9]([-a-z0-9./]*[a-z0-9])?$": "run:NAME, run:ID or channel:NAME, such as run:readmission",
    '^[^"\\r\\n]$': "one character other than a double quote",
}
_KINDS: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "date_type": "a date such as 2020-01-31",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "a text",
    "tuple_type": "a list",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
}
_NUMBERS: Final = frozenset(("int_type", "float_type", "int_from_float"))
_MOST_READ: Final = 50  # maximum number of problems shown at once
_LONGEST_NAME: Final = 64  # characters that are compared with known names
_NOTHING: Final = object()


def problems_of(error: ValidationError, root: type[BaseModel], plain: Any) -> list[str]:
    """Return a sentence for each field that a model refuses."""
    details = error.errors(include_input=False, include_url=False)[:_MOST_READ]
    # An object with an invalid part is invalid too; only the error of the part is useful.
    inner = [
        dict(detail)
        for detail in details
        if not any(_is_inside(other["loc"], detail["loc"]) for other in details if other is not detail)
    ]
    by_path: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for detail in inner:
        by_path.setdefault(_path_of(detail), []).append(detail)
    return [_problem(path, group, root, plain) for path, group in by_path.items()]


def n_left_out(error: ValidationError) -> int:
    """Return the number of problems that are not shown."""
    return max(0, error.error_count() - _MOST_READ)


def _is_inside(location: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(location) > len(other) and location[: len(other)] == other


def _path_of(detail: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the keys of the document that lead to a problem, without the branches of unions."""
    *outer, last = detail["loc"] or (None,)
    parts = [part for part in outer if not _is_union_branch(part)]
    # An unknown field may begin with a capital, as a type does.
    if last is not None and (detail["type"] == "extra_forbidden" or not _is_union_branch(last)):
        parts.append(last)
    if detail["type"] in _NUMBERS and parts and parts[-1] in ("int", "float"):
        parts.pop()
    return tuple(parts)


def _problem(
    path: tuple[Any, ...], details: Sequence[Mapping[str, Any]], root: type[BaseModel], plain: Any
) -> str:
    where = ".".join(shown(str(part)) for part in path) or "document"
    if any(detail["type"] == "extra_forbidden" for detail in details):
        return f"{where}: {_unknown_field(path, details[0]['loc'], root)}"
    literals = [
        detail["ctx"]["expected"] for detail in details if detail["type"] in ("enum", "literal_error")
    ]
    if literals:
        return f"{where}: {_not_of_these(literals, _value_at(plain, path))}"
    types = {detail["type"] for detail in details}
    if types & _NUMBERS and len(types & _NUMBERS) > 1:
        return f"{where}: {_of_another_kind('a number', path, _value_at(plain, path))}"
    return f"{where}: {_sentence(details[0], path, _value_at(plain, path))}"


def _sentence(detail: Mapping[str, Any], path: tuple[Any, ...], value: Any) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"is missing.{_example(path)}"
    if kind in _KINDS:
        return _of_another_kind(_KINDS[kind], path, value)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"expected {words.format(_plain(context[name]))}; got {_got(value)}."
    if kind in ("too_short", "too_long"):
        bound = _length_bound(context, "entry", "entries")
        return f"expected {bound}; got {context['actual_length']}.{_example(path)}"
    if kind in ("string_too_short", "string_too_long"):
        return f"expected {_length_bound(context, 'character', 'characters')}; got {len(str(value))}."
    if kind == "string_pattern_mismatch":
        meaning = _PATTERNS.get(
            context["pattern"], "text in a different form, see the documentation of the field"
        )
        return f"expected {meaning}; got {_got(value)}."
    return f"{detail['msg'].removeprefix('Value error, ').removesuffix('.')}."


def _length_bound(context: Mapping[str, Any], singular: str, plural: str) -> str:
    name, words = ("min_length", "at least") if "min_length" in context else ("max_length", "at most")
    return f"{words} {context[name]} {singular if context[name] == 1 else plural}"


def _plain(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _of_another_kind(expected: str, path: tuple[Any, ...], value: Any) -> str:
    quote = ""
    if expected == "a text" and isinstance(value, int | float) and not isinstance(value, bool):
        quote = f" Quote it: '{value}'."
    return f"expected {expected}; got {_got(value)}.{quote}{_example(path)}"


def _got(value: Any) -> str:
    if value is _NOTHING or value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {shown(value)!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else str(value)


def _example(path: tuple[Any, ...]) -> str:
    """Return a correct example of a field; for an entry of a list, the example of the list."""
    names = [part for part in path if isinstance(part, str)]
    if "grid" in names[:-1]:
        return f" Such as {names[-1]}: [50, 100]." if not isinstance(path[-1], int) else ""
    if not names:
        return ""
    examples = _COLUMN_EXAMPLES if "columns" in names[:-1] else _EXAMPLES
    example = examples.get(names[-1])
    return f" Such as {example}." if example and "tables" not in names[:-1] else ""


def _not_of_these(expected: Sequence[str], value: Any) -> str:
    names = list(dict.fromkeys(name for text in expected for name in re.findall(r"'([^']*)'", text)))
    text = str(value)[:_LONGEST_NAME]
    near = [name for name in names if text.casefold() == name.casefold()]
    near += difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    near += [name for name in names if text.startswith(name)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    one_of = "one of " if len(names) > 1 else ""
    return f"expected {one_of}{', '.join(names)}; got {_got(value)}.{hint}"


def _value_at(plain: Any, path: tuple[Any, ...]) -> Any:
    """Return the value of the document at a path, or a marker if there is none."""
    for part in path:
        try:
            plain = plain[part]
        except (KeyError, IndexError, TypeError):
            return _NOTHING
    return plain


def _unknown_field(path: tuple[Any, ...], location: tuple[Any, ...], root: type[BaseModel]) -> str:
    name = str(path[-1])[:_LONGEST_NAME]
    if "columns" in path[:-1] and name in _NAMED_ELSEWHERE:
        return f"unknown field: {_NAMED_ELSEWHERE[name]}."
    if name in R_NAMES:
        return f"R MLHO's name {name!r} corresponds to {R_NAMES[name]}."
    known = _names_at(location[:-1], root)
    paths = sorted(_all_paths(root), key=lambda path: (path.count("."), path))
    path_by_name = {path.rpartition(".")[2]: path for path in reversed(paths)}
    near = [name] if name in path_by_name else difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    near += difflib.get_close_matches(name, path_by_name, n=1, cutoff=0.7)
    hint = ""
    if near:
        hint = f" Did you mean {repr(near[0]) if near[0] in known else path_by_name[near[0]]}?"
    return f"unknown field.{hint} Known here: {', '.join(sorted(known))}."


def _is_union_branch(part: object) -> bool:
    """Return whether a location names a branch of a union (a type), which does not appear in the document."""
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


def _all_paths(model: type[BaseModel], parent: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{parent}{field.alias or name}"
        yield path
        for part in _models_in(field.annotation):
            yield from _all_paths(part, f"{path}.")
