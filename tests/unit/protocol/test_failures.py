"""The failure class of each error, and the agreement of the documentation's table with the code."""

import errno
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlho.errors import (
    ArtifactDamaged,
    ArtifactNotFound,
    DataError,
    InputChanged,
    MlhoError,
    SpecError,
    StoreUnavailable,
)
from mlho.protocol.failures import (
    INFRASTRUCTURE_SECONDS,
    RULES,
    Failure,
    FailureClass,
    TimeExceeded,
    classify,
    kind_and_place,
)
from mlho.store.base import get_if_present

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"
_PARTS = {"expected": "a", "got": "b", "remedy": "c"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("t", "r", **_PARTS), "input"),
        (InputChanged("t", "r", **_PARTS), "input"),
        (SpecError("no"), "spec"),
        (MemoryError(), "memory"),
        (TimeExceeded("long"), "time"),
        (StoreUnavailable("gone"), "infrastructure"),
        (ArtifactDamaged("bad", sha256="00"), "infrastructure"),
        (ArtifactNotFound("none"), "infrastructure"),
        (OSError(errno.ENOSPC, "full"), "infrastructure"),
        (MlhoError("odd"), "internal"),
        (ValueError("odd"), "internal"),
    ],
)
def test_error_has_its_class(error: Exception, expected: str) -> None:
    assert classify(error).value == expected


def test_every_class_has_a_rule() -> None:
    assert set(RULES) == set(FailureClass)


def test_documentation_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| (\w+) \| (.+?) \| (.+?) \| (yes|no) \| (\d) \|$", DOCS.read_text(), flags=re.MULTILINE
    )
    documented = {name: tuple(rest) for name, *rest in rows}
    in_code = {
        name.value: (
            rule.meaning,
            str(rule.max_attempts) if rule.max_attempts else f"for {INFRASTRUCTURE_SECONDS:.0f} s",
            "yes" if rule.counts else "no",
            str(rule.exit_code),
        )
        for name, rule in RULES.items()
    }
    assert documented == in_code


def test_foreign_message_is_not_quoted() -> None:
    """The message of a library's error is dropped, because it may contain a patient's value. Only class and place are kept."""
    try:
        float("Jane Canary")
    except ValueError as error:
        failure = Failure.of(error, step="run_fold")
    assert "Canary" not in failure.message
    assert failure.kind == "ValueError"


def test_the_error_of_the_system_is_named_without_its_text() -> None:
    """The message has the system's words for the number of an error, not those of the library, which may quote a value."""
    failure = Failure.of(OSError(errno.EMFILE, "Jane Canary"), step="run_fold")

    assert "Too many open files" in failure.message
    assert "Canary" not in failure.message
    assert "defect" not in failure.message


def test_place_of_a_foreign_error_is_a_line_of_this_project_wherever_it_is_installed() -> None:
    """A library in ``mlho-batch/.venv`` is not this project, although its path contains the name."""
    library = "/srv/mlho-batch/.venv/lib/python3.13/site-packages/pandas/core/frame.py"
    foreign: dict[str, Any] = {}
    exec(compile("def get(key): raise KeyError(key)", library, "exec"), foreign)
    with pytest.raises(KeyError) as caught:
        get_if_present(SimpleNamespace(get=foreign["get"]), "k")  # type: ignore[arg-type] # only its get is called

    assert re.fullmatch(r"KeyError in base\.py, line \d+", kind_and_place(caught.value))


def test_failure_survives_the_journey() -> None:
    failure = Failure.of(ArtifactDamaged("bad", sha256="ab12"), step="x")
    assert Failure.from_plain(failure.plain()) == failure
