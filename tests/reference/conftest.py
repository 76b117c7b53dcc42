"""Fixtures for the reference figures: results of the R packages, and the data that they were computed from."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def reference() -> Path:
    """Return the folder of the reference figures: ``MLHO_REFERENCE``, or ``../shared/reference`` beside the repository."""
    return _present(_reference_folder())


@pytest.fixture(scope="session")
def data(reference: Path) -> Path:
    """Return the folder of the public data, beside the reference figures."""
    return _present(reference.parent / "data")


def _reference_folder() -> Path:
    folder = os.environ.get("MLHO_REFERENCE")
    return Path(folder) if folder else _REPOSITORY.parent / "shared" / "reference"


def _present(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    what = f"reference: no folder {folder}. Set MLHO_REFERENCE to the folder of the reference figures."
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
