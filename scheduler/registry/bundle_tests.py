"""The tests of a bundle in a fresh process, for the command and for a promotion."""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from mlho.errors import BundleError, MlhoError
from mlho.model.files import write_files
from mlho.scratch import scratch_folder

if TYPE_CHECKING:
    from mlho.model.testing.records import ModelTestResult

_MODULE: Final = "mlho.model.testing.process"
# Time budgets allow at most two hours; a test that hangs is stopped after this time.
_TIMEOUT_SECONDS: Final = 1800


def run_in_fresh_process(files: Mapping[str, bytes]) -> "list[ModelTestResult]":
    """Run all tests of a bundle in a fresh process, from its files, as it would be loaded for scoring.

    Raise BundleError if the bundle cannot be loaded, and MlhoError if the libraries of the worker are not installed, or the
    process ended without a result.
    """
    plain = _run(files)
    from mlho.model.testing.records import ModelTestResult

    if "error" in plain:
        raise BundleError(plain["error"])
    return [ModelTestResult(**result) for result in plain["tests"]]


def _run(files: Mapping[str, bytes]) -> dict[str, Any]:
    if find_spec("numpy") is None:
        raise MlhoError(
            "the tests of a bundle need numpy, which is not installed here. Run this command where the extra 'worker' is installed, "
            "such as in the worker image."
        )
    with scratch_folder("mlho-bundle") as scratch:
        folder, results = scratch / "bundle", scratch / "results.json"
        write_files(folder, files)
        code = _start(str(folder), str(results))
        if code or not results.exists():
            raise MlhoError(
                f"the process that tests the bundle ended with exit code {code} and no result, most often because "
                "memory ran out. Run the command on a machine with more memory."
            )
        plain: dict[str, Any] = json.loads(results.read_text(encoding="utf-8").replace(str(folder), "bundle"))
        return plain


def _start(*arguments: str) -> int:
    """Run the module that tests a bundle in a process, and return its exit code."""
    command = [sys.executable, "-m", _MODULE, *arguments]
    try:
        ended = subprocess.run(  # noqa: S603 - our own module on a folder made here
            command, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"bundle: its tests did not end within {_TIMEOUT_SECONDS} seconds. Do not use it; build it again."
        ) from None
    return ended.returncode
