"""Measure the shares of broken and of sound models that the tests of their bundles reject (``make model-zoo``).

At least 90 % of the broken kinds must be rejected by a test that names the defect, and at most 2 % of the sound models.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

import structlog

from tests.builders import make_tables
from tests.failures.model_zoo import CLASSIFIERS, build, kinds, rejected, sound


def main() -> int:
    """Print each broken kind with the tests that reject it, and the sound models that are rejected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sound", type=int, default=210, help="number of sound models (default: %(default)s)"
    )
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="mlho-zoo-") as scratch:
        root = Path(scratch)
        n_kinds, n_rejected, n_named = _broken(root)
        n_refused = _sound(root, options.sound)
    print(f"{n_kinds} broken models: {n_rejected} rejected, {n_named} by a test that names the defect")
    print(
        f"{options.sound} sound models: {n_refused} rejected ({100 * n_refused / max(options.sound, 1):.1f} %)"
    )
    return int(n_named < 0.9 * n_kinds or n_refused > 0.02 * options.sound)


def _broken(root: Path) -> tuple[int, int, int]:
    tables = make_tables(700, seed=3)
    built, trees = (build(tables, root / name, name) for name in ("glmboost", "xgboost"))
    other = build(make_tables(600, seed=4), root / "other")
    n_kinds = n_rejected = n_named = 0
    for number, kind in enumerate(kinds(tables, built, trees, other)):
        verdict = rejected(kind, root / f"broken-{number}")
        n_kinds, n_rejected = n_kinds + 1, n_rejected + bool(verdict.by)
        n_named += kind.is_named(verdict)
        mark = "named" if kind.is_named(verdict) else "rejected" if verdict.by else "NOT REJECTED"
        print(f"{kind.arises:15} {kind.name:40} {mark:13} {', '.join(verdict.by[:4])}", flush=True)
    return n_kinds, n_rejected, n_named


def _sound(root: Path, n_models: int) -> int:
    n_refused = 0
    for number in range(n_models):
        folder = root / f"sound-{number}"
        verdict = sound(number, folder)
        shutil.rmtree(folder)
        if verdict.by:
            n_refused += 1
            print(
                f"sound model {number} ({CLASSIFIERS[number % len(CLASSIFIERS)]}): {verdict.words}",
                flush=True,
            )
    return n_refused


if __name__ == "__main__":
    sys.exit(main())
