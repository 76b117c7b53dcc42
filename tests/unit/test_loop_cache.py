"""The folder of compiled loops."""

import os
from pathlib import Path

import pytest

from mlho import loop_cache


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the temporary folder of a user who can write nowhere else."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(loop_cache.FOLDER, "")  # restored after the test, although the code under test sets it
    monkeypatch.setattr(loop_cache, "_is_writable", lambda folder: False)
    return tmp_path / f"mlho-loops-{os.getuid()}"


def test_a_user_without_a_writable_folder_gets_a_private_one(temporary):
    """It is made once, and nobody else can read or write it."""
    for _ in range(2):
        loop_cache.choose_folder()

    assert os.environ[loop_cache.FOLDER] == str(temporary)
    assert temporary.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open to others", "link"])
def test_a_folder_that_another_user_may_have_prepared_is_not_used(temporary, tmp_path, kind):
    """Compiled loops are pickles: a folder that others can write to, or choose, would let them run code as this user."""
    if kind == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        temporary.symlink_to(tmp_path / "theirs")
    else:
        temporary.mkdir()
        temporary.chmod(0o777)
    loop_cache.choose_folder()

    assert os.environ[loop_cache.FOLDER] == ""


def test_defaults_of_numba_are_kept_if_one_is_writable(monkeypatch):
    """The checkout of these tests is writable."""
    monkeypatch.setenv(loop_cache.FOLDER, "")  # restored after the test, although the code under test sets it
    loop_cache.choose_folder()

    assert os.environ[loop_cache.FOLDER] == ""


def test_a_folder_that_can_be_created_is_writable(tmp_path):
    """Below a folder it can be made, below a device it cannot."""
    assert loop_cache._is_writable(tmp_path / "a" / "b")
    assert not loop_cache._is_writable(Path("/dev/null/a"))
