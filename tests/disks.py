"""Small in-memory file systems that fill up and can be enlarged during a test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, options: str = "", *, size: str = "") -> Iterator[Path]:
    """Mount a file system of this size or with these options. Skip the test if mounting is not permitted."""
    place.mkdir()
    options = options or f"size={size}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield place
    finally:
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", str(place)], check=True)


def enlarge(place: Path, *, size: str) -> None:
    """Enlarge the file system."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
