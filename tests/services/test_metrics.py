"""Prometheus metrics of real runs and their worker: the manual's names, few series, and none of finished runs."""

import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mlho.store.local import LocalStore
from tests.builders import make_document, make_tables, write_tables
from tests.limits import GUARD_SECONDS
from tests.ports import free_port
from tests.services.queue_commands import Commands, ending
from tests.services.queue_home import ROOT, wait_until
from tests.services.redis_servers import Server

MANUAL: Final = (ROOT / "docs/operations.md").read_text()
MOST_SERIES: Final = 40
LEARNS: Final = {"candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20]}}]}


class Page:
    """A page of metrics, read as Prometheus does."""

    def __init__(self) -> None:
        self.port = free_port()
        self.names: set[str] = set()
        self.labels: set[str] = set()
        self.series: list[tuple[str, dict[str, str]]] = []
        self.most = 0

    def read(self) -> bool:
        """Read the page, and return whether it is served."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except (OSError, HTTPException):  # it is not served yet, or its process ends or is slow
            return False
        self.names |= {
            f"{family.name}_total" if family.type == "counter" else family.name for family in families
        }
        self.series = [(sample.name, sample.labels) for family in families for sample in family.samples]
        self.labels |= {label for _, labels in self.series for label in labels}
        self.most = max([self.most, *(self.n_of(run) for run in self.runs)])
        return True

    @property
    def runs(self) -> set[str]:
        """Return the runs with series."""
        return {labels["run"] for _, labels in self.series if "run" in labels}

    def n_of(self, run: str) -> int:
        """Return the number of series of a run."""
        return sum(labels.get("run") == run for _, labels in self.series)


def documented(beginning: str) -> set[str]:
    """Return the names in the manual's table."""
    return set(re.findall(rf"^\| `({beginning}\w+)` \|", MANUAL, re.MULTILINE))


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Yield the commands of a short run and a long one."""
    write_tables(tmp_path, make_tables(300, seed=3), partitions=3)
    for name, iterations in (("short", 2), ("long", 60)):
        document: dict[str, Any] = make_document({**LEARNS, "validation.iterations": iterations}, name=name)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    with (
        Server(tmp_path / "server") as server,
        ending(Commands(tmp_path / "short.yaml", tmp_path, str(tmp_path / "store"), server.url)) as commands,
    ):
        yield commands


def test_a_real_page_has_the_manuals_names_and_the_series_of_runs_under_way(commands: Commands) -> None:
    """With two runs of one command, the short one's series end with it, the other's stay, and the page ends with the command."""
    scheduler_page, worker_page = Page(), Page()
    short = commands.run_id(LocalStore(Path(commands.address)))
    scheduler = commands.command(
        *("run", str(commands.spec), str(commands.folder / "long.yaml"), "--store", commands.address),
        *("--broker", commands.broker, "--workers", "1", "--metrics-port", str(scheduler_page.port)),
    )
    commands.worker(short, "--metrics-port", str(worker_page.port))

    def saw_both() -> bool:
        worker_page.read()
        return scheduler_page.read() and len(scheduler_page.runs) == 2

    wait_until(saw_both, what="the series of both runs")
    assert short in scheduler_page.runs

    def saw_the_short_one_end() -> bool:
        worker_page.read()
        return scheduler_page.read() and short not in scheduler_page.runs

    wait_until(saw_the_short_one_end, seconds=120, what="that the short run's series end")
    assert len(scheduler_page.runs) == 1
    assert scheduler.wait(4 * GUARD_SECONDS) == 0, commands.log()

    assert not scheduler_page.read()
    assert scheduler_page.names == documented("mlho_run_")
    assert worker_page.names == documented("mlho_worker_")
    assert scheduler_page.labels == {"run", "stage", "state"}
    assert worker_page.labels <= {"outcome", "reason", "verdict"}
    assert 0 < scheduler_page.most <= MOST_SERIES
    assert len(worker_page.series) <= MOST_SERIES
