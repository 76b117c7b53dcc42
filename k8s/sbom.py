"""Write the software bill of materials of an image: the packages of its lock, as CycloneDX 1.6. ``make sbom``.

Equal locks give equal files, because the files contain neither a time nor a random serial number. The packages of Debian are in
the bill of materials of the base image.
"""

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any, Final

REPO: Final = Path(__file__).resolve().parents[1]
_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: *; *([^\\]*?))? *\\?$")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def components(lock: str) -> list[dict[str, Any]]:
    """Return the packages of a lock file, with the hashes of their installable files."""
    found: list[dict[str, Any]] = []
    for line in lock.splitlines():
        match = _PINNED.match(line)
        if match and "darwin" not in (match[3] or "").replace("!= 'darwin'", ""):
            purl = f"pkg:pypi/{match[1].lower()}@{match[2]}"
            found.append(
                {"type": "library", "bom-ref": purl, "name": match[1], "version": match[2], "purl": purl}
            )
            hashes: list[dict[str, str]] = found[-1].setdefault("hashes", [])
        elif match:
            hashes = []
        hashed = _HASH.search(line)
        if hashed:
            hashes.append({"alg": "SHA-256", "content": hashed[1]})
    return found


def bill(target: str) -> dict[str, Any]:
    """Return the bill of materials of ``scheduler`` or ``worker``."""
    lock = (REPO / "requirements" / f"{target}.txt").read_text(encoding="utf-8")
    digest = hashlib.sha256(lock.encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(digest[:32])}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": f"mlho-{target}",
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components(lock),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("scheduler", "worker"):
        (folder / f"sbom-{program}.cdx.json").write_text(
            json.dumps(bill(program), indent=1) + "\n", encoding="utf-8"
        )
