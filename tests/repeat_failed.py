"""Run pytest and, if a few tests fail, run these once more, so that the log of CI shows whether a failure repeats.

    python -m tests.repeat_failed .venv/.failed-services tests/services

The first argument is the folder in which pytest records the failed tests, the others are those of pytest. The exit code is that of the last run. Without
``REPEAT_FAILED`` in the environment nothing is repeated. It is used for tests that wait for servers, processes or Kubernetes, whose
speed depends on other load. More than :data:`LIMIT` failed tests are not repeated: such a failure has one cause, and is not chance.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LIMIT: Final = 3
SOME_FAILED: Final = (
    1  # pytest's exit code; the others mean that the run was interrupted, or that no test was found
)
MESSAGE: Final = "{n} failed. Run once more, with new servers:\n{names}\nA test that passes now depends on chance: correct it.\n"


def run_tests(record: Path, arguments: Sequence[str], *, repeat: bool) -> int:
    """Run pytest, and repeat at most :data:`LIMIT` failed tests once. Return the exit code of the last run."""
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={record.absolute()}", *arguments]
    code = subprocess.run(command, check=False).returncode
    failed = _failed_tests(record)
    if not repeat or code != SOME_FAILED or not 0 < len(failed) <= LIMIT:
        return code
    sys.stdout.write(MESSAGE.format(n=len(failed), names="\n".join(failed)))
    sys.stdout.flush()
    again = [*command, "--last-failed", "--last-failed-no-failures=none"]
    return subprocess.run(again, check=False).returncode


def _failed_tests(record: Path) -> list[str]:
    """Return the ids of the tests that failed, of this and of earlier runs."""
    file = record / "v" / "cache" / "lastfailed"
    return sorted(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []


if __name__ == "__main__":
    sys.exit(run_tests(Path(sys.argv[1]), sys.argv[2:], repeat=bool(os.environ.get("REPEAT_FAILED"))))
