"""Run the tests of a bundle in a separate process: ``python -m mlho.model.testing.process FOLDER RESULTS``."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlho.errors import BundleError
from mlho.model.bundle import load_bundle


def main(folder: str, results: str) -> int:
    """Load a bundle, run all of its tests, and write their results, or the error, as JSON. Return the exit code."""
    try:
        bundle = load_bundle(folder)
        written: dict[str, Any] = {"tests": [asdict(result) for result in bundle.run_tests()]}
    except BundleError as error:
        written = {"error": str(error)}
    Path(results).write_text(json.dumps(written), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
