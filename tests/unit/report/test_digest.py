"""The digest of a result depends on numbers, identifiers and decisions, and not on prose."""

import copy
from typing import Any

import pytest

from mlho.report.digest import NOT_COMPARED, PROSE, result_digest
from tests.unit.report.sample_result import sample_result

Path = tuple[str | int, ...]


def _document() -> dict[str, Any]:
    return sample_result(n_features=12, n_iterations=3).model_dump(mode="json")


def _with(path: Path, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(_document())
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    assert place[path[-1]] != value
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    "path",
    [
        ("summary",),
        ("warnings",),
        ("procedure",),
        ("ledger", "rules", 0, "meaning"),
        ("features", 0, "words"),
        ("features", 0, "confidence", "reason"),
        ("headline_auroc", 0, "method"),
        ("final_model", "tests", 0, "detail"),
        ("final_model", "profiles", 0, "title"),
        ("final_model", "profiles", 0, "contributions", 0, "value"),
        ("lineage", "method"),
        ("timing",),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_another_wording_is_the_same_result(path: Path) -> None:
    """Prose, times and the location of the data are not part of the digest."""
    assert result_digest(_with(path, "said otherwise")) == result_digest(_document())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("headline", "auroc", "mean"), 0.5),
        (("headline_auroc", 0, "value"), 0.5),
        (("cohort", "n_patients"), 3),
        (("ledger", "rules", 0, "rows"), 3),
        (("features", 0, "id"), "X|all|presence"),
        (("features", 0, "in_consensus"), None),
        (("final_model", "classifier"), "ebm"),
        (("final_model", "tests", 0, "passed"), None),
        (("lineage", "seed"), 8),
    ],
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else "",
)
def test_another_number_is_another_result(path: Path, value: object) -> None:
    """A changed number, identifier or decision changes the digest."""
    assert result_digest(_with(path, value)) != result_digest(_document())


def test_no_field_of_prose_holds_a_number() -> None:
    """Each field that the digest ignores contains text only, so no number is ignored."""

    def check(part: Any, name: str) -> None:
        if name in PROSE:
            assert part is None or isinstance(part, str) or all(isinstance(item, str) for item in part), name
        elif isinstance(part, dict):
            for key, value in part.items():
                check(value, key)
        elif isinstance(part, list):
            for value in part:
                check(value, "")

    check({name: part for name, part in _document().items() if name not in NOT_COMPARED}, "")
