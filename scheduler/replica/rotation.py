"""Whether the Secrets that pods were started with have been replaced: a checksum of their entries, which Kubernetes mounts as files.

Programs read Secrets from their environment, once. A scheduler whose Secrets change ends, so that the kubelet starts it with the
new ones; it then replaces workers that were started with others (:mod:`scheduler.controller.reconcile`).
"""

import hashlib
import threading
from pathlib import Path
from typing import Final

import structlog

_LOOK_SECONDS: Final = 5.0
_HEX: Final = 8  # of a checksum that anybody may read who reads Jobs: it tells equal from different, and no entry can be guessed by it

log = structlog.get_logger()


def checksum_of(folder: Path | None) -> str:
    """Checksum of all files of a folder; empty if there are none, or no folder."""
    if folder is None or not folder.is_dir():
        return ""
    digest, is_empty = hashlib.sha256(), True
    for path in sorted(folder.iterdir()):
        if path.name.startswith("..") or not path.is_file():  # what Kubernetes swaps behind the files
            continue
        is_empty = False
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return "" if is_empty else digest.hexdigest()[:_HEX]


def end_on_rotation(
    folder: Path, started_with: str, stop: threading.Event, *, seconds: float = _LOOK_SECONDS
) -> None:
    """Set an event once the files of a folder have another checksum, at two looks in a row; return when it is set."""
    last = started_with
    while not stop.wait(seconds):
        try:
            found = checksum_of(folder)
        except OSError:  # replaced while it was read
            continue
        if found not in ("", started_with) and found == last:
            log.warning(
                "secrets_rotated", outcome="this scheduler ends, and is started again with the new ones"
            )
            stop.set()
        last = found
