"""Make a folder for the files of a whole test run, in memory if there is room, and print its path.

    python -m tests.scratch_folder

Most tests write many small files. In memory they take less CPU time, and no test waits for the disk, which parallel tests share.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
ROOM: Final = 2 << 30  # bytes; the tests without servers hold less than 100 MB at a time


def parent_of_scratch(memory: Path = MEMORY, *, room: int = ROOM) -> Path:
    """Return the file system in memory if it has room and lets tests execute the programs that they write, else the usual place."""
    if memory.is_dir() and os.access(memory, os.W_OK):
        found = os.statvfs(memory)
        if found.f_bavail * found.f_frsize >= room and not found.f_flag & os.ST_NOEXEC:
            return memory
    return Path(tempfile.gettempdir())


if __name__ == "__main__":
    sys.stdout.write(tempfile.mkdtemp(prefix="mlho-tests-", dir=parent_of_scratch()) + "\n")
