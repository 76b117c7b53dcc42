"""Specifications with faults: a seed chooses a specification and changes a few things in it. The result is text, as an author would write it."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import yaml

from tests.builders import make_document

FULL: Final[dict[str, Any]] = {
    "data.source": "native",
    "data.partitionedBy": "nothing",
    "data.duplicates": "keep",
    "data.plausibleYears": [1900, 2299],
    "cohort.outcome": "label",
    "cohort.lookBackDays": 730,
    "cohort.gapDays": 1,
    "cohort.conflictingLabels": "error",
    "features.aggregates": ["presence", "last"],
    "features.levelCuts": [1, 2, 3],
    "selection.minPrevalence": 0.005,
    "selection.ranking": "jmi",
    "validation.testFraction": 0.3,
    "validation.choice": "best",
    "candidates": [
        {"classifier": "glmboost", "grid": {"nSteps": [20, 50], "learningRate": [0.1]}},
        {"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [10]}},
    ],
    "consensus": {"classifier": "glmboost", "minConfidence": 80},
    "final": {"classifier": "best", "features": "ranking"},
    "report": {"minCell": 11, "realProfiles": False},
    "workers": {"min": 0, "max": 4, "resources": {"cpu": 1, "memory": "2Gi"}},
    "desiredState": "Running",
    "ttlSecondsAfterFinished": 604_800,
}
_LONG: Final = 20_000
SCORING: Final[dict[str, Any]] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "ScoringRun",
    "metadata": {"name": "nightly", "labels": {"team": "ehr"}},
    "spec": {
        "bundle": {"uri": "run:0123456789abcdef", "digest": "0" * 64},
        "data": {"uri": ".", "tables": {"events": "events"}, "partitionedBy": "patient"},
        "index": {"date": "2019-11-24"},
        "explain": {"topReasons": 5},
        "output": {"prefix": "scores"},
    },
}

# Values that replace others.
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2, 3.0, 0.5, -0.5, 1e-9, 1e300, 2**31, 2**63, 2**64, 10**40, -(2**63) - 1, "", " ", "1", "0.5",
    "true", "none", "best", "jmi", "2020-01-01", "2020-02-30", "20200101", "9999-12-31", "0001-01-01", "**", "*", "?", "[", "..",
    "../x", "/etc/passwd", "~", "~nobody-of-this-name", "s3://", "gs://b/x", "file:///", "http://x", "a/b", "x" * 300,
    "x" * 5000, "a/" * 200, "é", "血", "👍", "a\x00b", "a\nb", "\x1b[2J", "\u202e", "\ud800", "{}", "[]", "'", '"', "#", "&a", "*a",
    "!!int abc", "010", "1:30", "yes", "1_000", ".inf", "run:", "run:zz", "run:" + "0" * 16, [], {}, [[]], [{}], {"": ""}, [None],
    [1, 1], [True], [0.5, 0.5], ["age", "age"], [1, "a", None], {"a": {"b": {"c": 1}}}, list(range(200)), ["x"] * 50, [[[[[[]]]]]],
    {"date": "2019-01-01"}, {"column": "index_date"}, {"none": True}, {"none": 1}, {"date": "2019-01-01", "column": "index_date"},
)  # fmt: skip
# Text that is inserted into the YAML without quoting.
_RAW: Final = (
    "010", "1:30", "yes", "no", "on", "y", "1_000", "0x1F", "0o17", "0b1", ".inf", "-.inf", ".nan", "[.nan]", "1e3", "1e999", "9" * 400, "!!int abc",
    "!!python/object:os.system x", "&a 1", "*a", "<<", "? [1, 2]", "2020-02-30", "2020-01-01", "2020-01-01 10:00:00", "**", "'unclosed", '"unclosed',
    "{a: 1", "[1, 2", "- 1", "|\n  text", ">", "%", "@", "`", "~", "null", "=", "1 2 3", "a: b: c", "\t", "# comment", "---", "...", "{? [1] : 2}", "{[1]: 2}",
    "[" * 40, "[" * 600, "{a: " * 40, "x" * 3000, "\x07", "\x85", "\ufeff", "\u2028",
)  # fmt: skip


def documents() -> Iterator[dict[str, Any]]:
    """Yield valid specifications of each kind."""
    full = make_document(dict(FULL.items()))
    full["metadata"]["labels"] = {"team": "ehr"}
    yield full
    yield make_document()
    yield make_document({"cohort.index": "none", "cohort.conflictingLabels": "any"})
    yield make_document({"cohort.index": {"date": "2019-06-01"}, "cohort.conflictingLabels": "any"})
    yield copy.deepcopy(SCORING)


def mutated_spec(seed: int) -> bytes:
    """Return a specification with one to four faults, determined by the seed."""
    rng = random.Random(seed)
    document = rng.choice([*documents()])
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice(_CHANGES)(document, rng)
    text = _dumped(document, rng)
    if rng.random() < 0.35:
        text = _spoiled_text(text, rng)
    data = text.encode("utf-8", "surrogatepass")
    return _spoiled_bytes(data, rng) if rng.random() < 0.1 else data


def _dumped(document: Any, rng: random.Random) -> str:
    plain = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.3 or len(plain) > _LONG:  # PyYAML takes seconds to write long documents
        return plain
    try:
        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return json.dumps(document)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in pairs:
        yield (*path, name)
        yield from _places(child, (*path, name))


def _pick(document: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a list or mapping of a document, and an index or key in it."""
    *parents, last = rng.choice([*_places(document)] or [("spec",)])
    holder = document
    for part in parents:
        holder = holder[part]
    return holder, last


def _put(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    if isinstance(holder, dict) or place < len(holder):
        holder[place] = copy.deepcopy(rng.choice(_VALUES))


def _remove(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    del holder[place]


def _rename(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    if isinstance(holder, dict):
        other = rng.choice(
            (
                str(place).upper(),
                str(place)[:-1],
                f"{place}s",
                "topn",
                "",
                "x" * 400,
                "a\nb",
                "é",
                "010",
                "yes",
                "__class__",
            )
        )
        holder[other] = holder.pop(place)


def _add(document: Any, rng: random.Random) -> None:
    holder, _ = _pick(document, rng)
    if isinstance(holder, dict):
        holder[rng.choice(("extra", "grid", "seed", "none", "date", "workers", "sparsity"))] = copy.deepcopy(
            rng.choice(_VALUES)
        )
    else:
        holder.append(copy.deepcopy(rng.choice(_VALUES)))


def _wrap(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    old = holder[place]
    holder[place] = rng.choice(([old], {"value": old}, [old, old], str(old)))


def _deepen(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    nested: Any = 1
    for _ in range(rng.choice((5, 40, 200))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    holder[place] = nested


def _widen(document: Any, rng: random.Random) -> None:
    holder, place = _pick(document, rng)
    n = rng.choice((300, 3000, 20_000))
    holder[place] = rng.choice(
        (list(range(n)), {f"k{number}": number for number in range(n)}, "x" * n, ["x"] * n)
    )


def _grid(document: Any, rng: random.Random) -> None:
    name = rng.choice(("nSteps", "learningRate", "c", "l1Ratio", "maxDepth", "nRounds", "lambda", "nothing"))
    values = rng.choice(
        (
            [],
            [0],
            [-1],
            [1e308],
            [10**30],
            [True],
            ["5"],
            [None],
            [0.1, 0.1],
            list(range(1, 3000)),
            5,
            {"a": 1},
            [5, 0.5],
        )
    )
    document.setdefault("spec", {})
    if isinstance(document["spec"], dict):
        classifier = rng.choice(("glmboost", "elasticnet", "xgboost", "ebm", "forest"))
        document["spec"]["candidates"] = [{"classifier": classifier, "grid": {name: values}}]


_CHANGES: Final[tuple[Callable[[Any, random.Random], None], ...]] = (
    _put, _put, _put, _put, _remove, _rename, _add, _wrap, _deepen, _widen, _grid,
)  # fmt: skip


def _spoiled_text(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            head, colon, _ = lines[place].partition(":")
            lines[place] = f"{head}{colon} {rng.choice(_RAW)}"
        case 1:
            lines.insert(place, rng.choice(_RAW))
        case 2:
            lines.insert(place, lines[place])
        case 3:
            lines[place] = rng.choice((" ", "  ", "\t")) + lines[place]
        case 4:
            lines = lines[:place]
        case _:
            at = rng.randrange(len(text) + 1)
            return text[:at] + rng.choice(_RAW) + text[at:]
    return "\n".join(lines)


def _spoiled_bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at] + bytes(rng.randrange(256) for _ in range(8)) + data[at:]
        case _:
            return data.decode("utf-8", "surrogatepass").encode(
                rng.choice(("utf-16", "latin-1", "utf-8-sig")), "replace"
            )
