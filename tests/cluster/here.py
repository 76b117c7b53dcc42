"""The same specification, carried out on this machine for comparison with the cluster."""

import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import REPO


@dataclass(frozen=True)
class Outcome:
    """Result of a run on this machine.

    Attributes
    ----------
    digest : str
        Digest of the result.
    folder : Path
        Folder of the run in the store.
    """

    digest: str
    folder: Path

    def bundle(self) -> dict[str, bytes]:
        """Return the files of the bundle by name."""
        return files_in(self.folder / "bundle")

    def export(self, to: Path) -> str:
        """Export the run to a folder with ``mlho export``, and return the output."""
        store = self.folder.parents[1]
        command = [sys.executable, "-m", "scheduler", "export", self.folder.name, f"--store={store}"]
        done = subprocess.run(
            [*command, f"--to={to}"], cwd=REPO, capture_output=True, text=True, timeout=300, check=True
        )
        return done.stdout


def files_in(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Here:
    """Runs of one cohort on this machine in the background, one after another, with a shared store.

    Parameters
    ----------
    cohort : Path
        Folder of ``mlho demo`` with its specification.
    folder : Path
        Folder for specifications and store.
    """

    def __init__(self, cohort: Path, folder: Path) -> None:
        self._cohort = cohort
        self._folder = folder
        self._pool = ThreadPoolExecutor(1)
        self._begun: dict[str, Future[Outcome]] = {}

    def begin(self, spec: dict[str, Any]) -> "Future[Outcome]":
        """Carry out a specification on the cohort without its cluster-only fields. An equal specification runs once."""
        spec = {name: value for name, value in spec.items() if name not in ("workers", "desiredState")}
        spec["data"] = {**spec["data"], "uri": str(self._cohort)}
        text = yaml.safe_dump(
            {
                "apiVersion": "mlho.io/v1alpha1",
                "kind": "TrainingRun",
                "metadata": {"name": "here"},
                "spec": spec,
            }
        )
        if text not in self._begun:
            self._begun[text] = self._pool.submit(self._carry_out, text)
        return self._begun[text]

    def close(self) -> None:
        """Start no further run."""
        self._pool.shutdown(cancel_futures=True)

    def _carry_out(self, text: str) -> Outcome:
        path = self._folder / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        store = self._folder / "store"
        command = [sys.executable, "-m", "scheduler", "run", str(path), f"--store={store}", "--workers=2"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLHO_")}
        done = subprocess.run(
            command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=1200, check=False
        )
        digest = re.search(r"^result +([0-9a-f]{64})$", done.stdout, re.MULTILINE)
        run = re.search(r"^run +([0-9a-f]+) ", done.stdout, re.MULTILINE)
        if digest is None or run is None:
            raise AssertionError(done.stderr)
        return Outcome(digest[1], store / "runs" / run[1])
