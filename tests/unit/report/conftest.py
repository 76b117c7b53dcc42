"""The sample result, built once per session."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from mlho.report.page.html import render_html
from mlho.report.result import Result

_SPEC = importlib.util.spec_from_file_location("sample_result", Path(__file__).with_name("sample_result.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """Return the builder ``sample_result(n_features=, n_iterations=, predictive=, warnings=)``."""
    return _MODULE.sample_result


@pytest.fixture(scope="session")
def result(make_result: Callable[..., Result]) -> Result:
    return make_result()


@pytest.fixture(scope="session")
def page(result: Result) -> str:
    return render_html(result)
