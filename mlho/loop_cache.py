"""The folder in which numba keeps compiled loops. Without one, the first import of a loop fails."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

FOLDER: Final = "NUMBA_CACHE_DIR"


def choose_folder() -> None:
    """Choose a private folder below the temporary one for a user who may write neither to the package nor to a home folder.

    The files are pickles, so the folder is used only if no other user can write to it. Then ``FOLDER`` is set in the environment.
    """
    own = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    defaults = (os.environ.get(FOLDER), Path(__file__).parent / "__pycache__", own)
    if any(_is_writable(Path(folder).expanduser()) for folder in defaults if folder):
        return
    import tempfile  # rarely needed

    with suppress(OSError):  # numba then names the file that cannot be cached
        folder = Path(tempfile.gettempdir()) / f"mlho-loops-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077:
            os.environ[FOLDER] = str(folder)


def _is_writable(folder: Path) -> bool:
    """Return whether this user may write to a folder, or create it."""
    existing = next(place for place in (folder, *folder.absolute().parents) if os.access(place, os.F_OK))
    return os.access(existing, os.W_OK | os.X_OK)
