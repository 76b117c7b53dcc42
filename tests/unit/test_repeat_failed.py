"""The repetition of failed tests: once, only if asked, and only of a few."""

from pathlib import Path
from typing import Final

import pytest

from tests.repeat_failed import LIMIT, run_tests

# Each test passes from its second run on.
BY_CHANCE: Final = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range({n}))
def test_chance(number):
    first = pathlib.Path(__file__).with_name(f"ran-{{number}}")
    if not first.exists():
        first.touch()
        raise AssertionError
"""
ALWAYS: Final = "def test_always(): raise AssertionError\n"
NEVER: Final = "def test_never(): pass\n"


@pytest.mark.parametrize(
    ("tests", "repeat"),
    [
        pytest.param(BY_CHANCE.format(n=1) + ALWAYS, True, id="one fails again"),
        pytest.param(BY_CHANCE.format(n=1), False, id="not asked"),
        pytest.param(BY_CHANCE.format(n=LIMIT + 1), True, id="too many"),
    ],
)
def test_a_failure_remains_a_failure(tmp_path: Path, tests: str, repeat: bool):
    """The tests have failed if one fails twice, if no repetition was asked for, or if many failed."""
    assert run_written(tmp_path, tests, repeat=repeat) == 1


def test_a_few_failed_tests_are_named_and_run_once_more(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The log names each test that is repeated. Passed tests are not run again."""
    code = run_written(tmp_path, BY_CHANCE.format(n=1) + NEVER, repeat=True)

    output = capfd.readouterr().out
    assert code == 0
    assert "1 failed. Run once more, with new servers:\ntest_it.py::test_chance[0]\n" in output
    assert "1 failed, 1 passed" in output
    assert "= 1 passed in" in output


def run_written(folder: Path, tests: str, *, repeat: bool) -> int:
    """Write the tests to a module, run them, and return the exit code."""
    (folder / "test_it.py").write_text(tests)
    options = ["-p", "no:xdist", f"--rootdir={folder}", str(folder)]
    return run_tests(folder / "record", options, repeat=repeat)
