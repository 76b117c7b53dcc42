"""Detect rotated Secrets by a checksum of their keys, which Kubernetes mounts as files.

Programs read Secrets from their environment once, at startup. A scheduler whose Secrets change exits, and the kubelet
restarts it with the new ones. It then replaces the workers that have the old ones
(:mod:`scheduler.controller.reconcile`).
"""

import hashlib
import threading
from pathlib import Path
from typing import Final

from mlho.log import log

_POLL_SECONDS: Final = 5.0
_HEX: Final = 8  # digits: enough to detect a change, too few to verify a guessed Secret: everyone with read access to Jobs sees them


def checksum_of(folder: Path | None) -> str:
    """Return the checksum of all files of a folder; empty if the folder has no files or does not exist."""
    if folder is None or not folder.is_dir():
        return ""
    digest, is_empty = hashlib.sha256(), True
    for path in _files(folder):
        is_empty = False
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return "" if is_empty else digest.hexdigest()[:_HEX]


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder by name, without the folders that Kubernetes swaps behind the links."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith("..") and path.is_file()]


def end_on_rotation(
    folder: Path, started_with: str, stop: threading.Event, *, seconds: float = _POLL_SECONDS
) -> None:
    """Set ``stop`` once the checksum of a folder has changed in two consecutive polls. Return when ``stop`` is set.

    While an entry is missing, a Secret is deleted: the scheduler continues, because it could not start without it.
    """
    last, wanted = started_with, {path.name for path in _files(folder)} if folder.is_dir() else set()
    while not stop.wait(seconds):
        try:
            checksum = checksum_of(folder)
            is_complete = bool(checksum) and wanted <= {path.name for path in _files(folder)}
        except OSError:  # replaced while it was read
            continue
        if is_complete and checksum != started_with and checksum == last:
            log.warning(
                "secrets_rotated", outcome="this scheduler exits and is restarted with the new Secrets"
            )
            stop.set()
        last = checksum
