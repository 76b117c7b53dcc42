"""The digest of a result: equal digests mean equal results.

It covers numbers, identifiers and decisions. It does not cover prose, so that a different wording never gives a different result
([decision 20](docs/decisions/0020-prose-leaves-the-digest.md)).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlho.spec.training import digest_of

NOT_COMPARED: Final = frozenset({"about", "inputs", "made_at", "timing"})
# Fields of prose, at any depth. ``lineage.method`` is the version of the step that words the result.
PROSE: Final = frozenset(
    {"detail", "meaning", "method", "note", "procedure", "reason", "remedy", "summary", "title", "warnings", "words"}
)  # fmt: skip
_NUMBER_OR_TEXT: Final = "value"  # a number in an estimate, a text in the explanation of a profile


def result_digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a ``result.json`` document without its prose and without the sections of ``NOT_COMPARED``.

    Examples
    --------
    >>> said = {"summary": ["The AUROC is 0.71."], "auroc": {"value": 0.71, "reason": None}}
    >>> result_digest(said) == result_digest(said | {"summary": ["AUROC: 0.71."]})
    True
    >>> result_digest(said) == result_digest(said | {"auroc": {"value": 0.72, "reason": None}})
    False
    """
    return digest_of({name: part for name, part in _compared(document) if name not in NOT_COMPARED})


def _compared(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, part in fields.items():
        if name not in PROSE and not (name == _NUMBER_OR_TEXT and isinstance(part, str)):
            yield name, _without_prose(part)


def _without_prose(part: Any) -> Any:
    if isinstance(part, dict):
        return dict(_compared(part))
    return [_without_prose(item) for item in part] if isinstance(part, list) else part
