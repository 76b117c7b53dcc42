"""Run the ``mlho`` command for benchmarks: set the path of the data in a specification, and measure the processes."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SPECS = Path(__file__).with_name("specs")
REFERENCE = Path(os.environ.get("MLHO_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
DATA = REFERENCE.parent / "data"
SAMPLE_SECONDS = 0.25


def skip_without(path: Path) -> None:
    """Exit without failing if the required data are absent, as in a plain clone."""
    if not path.exists():
        print(f"skipped: needs {path}, which is not part of the repository; MLHO_REFERENCE names its folder")
        sys.exit(0)


@dataclass(frozen=True)
class Watched:
    """Resources that a command and its descendants used.

    Attributes
    ----------
    wall_seconds, cpu_seconds : float
        The CPU time of a process is that of its last sample, so up to a quarter of a second is missed for each process.
    peak_mb : float
        Largest sum of the processes' resident memory; a shared page counts once (Linux's proportional set size).
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


def write_spec(name: str, data: Path, folder: Path, validation: Mapping[str, object]) -> Path:
    """Write ``specs/<name>.yaml`` with the data's path and these settings of ``validation``."""
    document = yaml.safe_load((SPECS / f"{name}.yaml").read_text(encoding="utf-8"))
    document["spec"]["data"]["uri"] = str(data.resolve())
    document["spec"]["validation"] |= validation
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def run_mlho(spec: Path, store: Path, *, n_workers: int) -> Watched:
    """Run ``mlho run`` into ``store`` and measure it. If it fails, show its output."""
    command = [sys.executable, "-m", "scheduler", "run", str(spec), "--store", str(store)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workers", str(n_workers)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watcher = Watcher(process.pid)
    output, _ = process.communicate()
    wall = time.perf_counter() - started
    watcher.stop()
    if process.returncode:
        raise SystemExit(f"mlho run failed ({process.returncode}):\n{output}")
    return Watched(wall, sum(watcher.cpu_seconds.values()), watcher.peak_mb)


def environment() -> dict[str, str]:
    """Return the environment of a command.
    Bytecode and compiled loops are cached on disk, because benchmarks measure the second run of an installed program.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def read_result(store: Path) -> dict[str, Any]:
    """Return ``result.json`` of the store's only run."""
    (path,) = store.glob("runs/*/result.json")
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


class Watcher:
    """Samples a process and its descendants until stopped. Measures nothing on a system without /proc."""

    def __init__(self, root: int) -> None:
        self.cpu_seconds: dict[int, float] = {}
        self.peak_mb = 0.0
        self._root = root
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def until_now(self, wall_seconds: float) -> "Watched":
        """Return the resources that the processes have used so far."""
        self._look()
        return Watched(wall_seconds, sum(self.cpu_seconds.values()), self.peak_mb)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        processes = processes_below(self._root)
        self.cpu_seconds |= {pid: seconds for pid, (seconds, _) in processes.items()}
        self.peak_mb = max(self.peak_mb, sum(mb for _, mb in processes.values()))


def processes_below(root: int) -> dict[int, tuple[float, float]]:
    """Return the CPU seconds and MB of a process and of each of its descendants. A shared page counts in proportion to its users."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents, seconds = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended in the meantime
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / ticks
    family = {root}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return {pid: (seconds[pid], _proportional_mb(pid)) for pid in family if pid in seconds}


def _proportional_mb(pid: int) -> float:
    try:
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # it has ended in the meantime
        return 0.0
    return int(found[1]) * 1024 / 1e6 if found else 0.0
