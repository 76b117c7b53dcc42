"""Planted names of patients pass through a whole run on a queue and appear only in the store's artifacts."""

import base64
import contextlib
import re
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis

from mlho.store.local import LocalStore
from tests.builders import Tables, write_spec, write_tables
from tests.limits import GUARD_SECONDS
from tests.planted_names import PLANTED, planted, planted_tables
from tests.ports import free_port
from tests.services.queue_commands import Commands, ending
from tests.services.redis_servers import Server
from tests.services.trace_collector import Collector

WITHOUT_LOOK: Final = str(Path(__file__).with_name("without_look.py"))
WORKER_OF_TABLES: Final = str(Path(__file__).with_name("worker_of_tables.py"))
CHANGES: Final = {
    "features.demographics": ["age", "sex"],
    "features.aggregates": ["presence", "last", "outOfRange"],
}
_PUBLISHED: Final = re.compile(
    r"^runs/[0-9a-f]+/(bundle/|report\.html|result\.json)"
)  # results, which may be shown to authorized users only
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


class Ear:
    """Records every command sent to Redis, and reads its dump and the metrics pages repeatedly."""

    def __init__(self, url: str, pages: list[str], dump: Path) -> None:
        self.commands: list[str] = []
        self.dumps: list[str] = []
        self.pages: list[str] = []
        self.keys: set[str] = set()
        self.traces: list[bytes] = []
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._addresses = pages
        self._dump = dump
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._read)]

    def __enter__(self) -> "Ear":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._client.set("end", "of listening")  # wakes the listener
        for thread in self._threads:
            thread.join(GUARD_SECONDS)
        self._client.close()

    def _listen(self) -> None:
        with cast(Any, self._client).monitor() as monitor:
            for heard in monitor.listen():
                self.commands.append(heard["command"])
                if self._ends.is_set():
                    return

    def _read(self) -> None:
        while not self._ends.wait(0.2):
            self.keys |= set(cast(list[str], self._client.keys("*")))
            self._client.save()
            self.dumps.append(self._dump.read_bytes().decode(errors="replace"))
            for address in self._addresses:
                # A process may end while it answers.
                with (
                    contextlib.suppress(OSError, HTTPException),
                    urllib.request.urlopen(address, timeout=2) as page,
                ):
                    self.pages.append(page.read().decode())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Commands]:
    with (
        Server(tmp_path / "server", options=("--rdbcompression", "no")) as server,
        ending(
            Commands(tmp_path / "cohort/spec.yaml", tmp_path, str(tmp_path / "store"), server.url)
        ) as commands,
    ):
        yield commands


def _write(commands: Commands, tables: Tables) -> None:
    cohort = commands.spec.parent
    write_tables(cohort, tables, suffix=".csv")
    places = {f"data.tables.{name}": f"{name}.csv" for name in ("labels", "demographics", "concepts")}
    write_spec(cohort, {**places, **CHANGES})


def _run(
    commands: Commands,
    program: Sequence[str] = ("-m", "scheduler"),
    worker_program: Sequence[str] = ("-m", "worker"),
) -> tuple[int, Ear]:
    """Carry out the run, and return its exit code and the recordings."""
    ports = [free_port(), free_port()]
    dump = commands.folder / "server/dump.rdb"
    pages = [f"http://127.0.0.1:{port}/metrics" for port in ports]
    with Collector() as collector, Ear(commands.broker, pages, dump) as ear:
        commands.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        ear.traces = collector.bodies
        scheduler = commands.run(
            "--broker",
            commands.broker,
            "--progress",
            "json",
            "--metrics-port",
            str(ports[0]),
            program=program,
        )
        run = commands.run_id(LocalStore(Path(commands.address)))
        worker = commands.worker(run, "--metrics-port", str(ports[1]), program=worker_program)
        code = scheduler.wait(4 * GUARD_SECONDS)
        worker.wait(GUARD_SECONDS)
    return code, ear


def _shown(commands: Commands, ear: Ear) -> dict[str, str]:
    """Return everything that is visible to a person without access to patient data, by kind."""
    sent = "\n".join(ear.commands)
    bodies = "\n".join(_decoded(found) for found in _BASE64.findall(sent))
    store = LocalStore(Path(commands.address))
    keys = list(store.keys(""))
    documents = [key for key in keys if not key.startswith("blobs/") and not _PUBLISHED.search(key)]
    return {
        "logs and errors": commands.log(),
        "Redis": sent,
        "message bodies": bodies,
        "Redis keys": "\n".join(ear.keys),
        "Redis dump": "\n".join(ear.dumps),
        "metrics": "\n".join(ear.pages),
        "traces": "\n".join(body.decode(errors="replace") for body in ear.traces),
        "store keys": "\n".join(keys),
        "store documents": "\n".join(store.get(key).decode() for key in documents),
    }


def _decoded(text: str) -> str:
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True).decode(errors="replace")
    return ""


def test_good_and_bad_rows_show_no_planted_text(home: Commands) -> None:
    """After a successful run, no planted name is in logs, progress, Redis, metrics, traces, keys or documents. The test
    verifies that each of them was recorded.
    """
    _write(home, planted_tables())
    code, ear = _run(home)
    shown = _shown(home, ear)

    assert code == 0, home.log()
    assert "run_finished" in shown["logs and errors"]
    assert "worker_started" in shown["logs and errors"]
    assert "EVALSHA" in shown["Redis"].upper()
    assert '"signature"' in shown["message bodies"]
    assert '"progress"' in shown["logs and errors"]
    assert ":leases" in shown["Redis keys"]
    assert ":leases" in shown["Redis dump"]
    assert "mlho_run_tasks" in shown["metrics"]
    assert "mlho_worker_tasks_total" in shown["metrics"]
    assert "task encode_partition" in shown["traces"]
    assert "mlho-scheduler" in shown["traces"]
    assert "commits/" in shown["store keys"]
    assert '"kind":"encode_partition"' in shown["store documents"]
    assert '"state":"finished"' in shown["store documents"]
    store = LocalStore(Path(home.address))
    assert any(
        PLANTED.encode() in store.get(key) for key in store.keys("blobs/")
    )  # the name did reach the artifacts
    assert [kind for kind, text in shown.items() if PLANTED.lower() in text.lower()] == []


def test_planted_value_that_the_inspection_finds_is_not_quoted(home: Commands) -> None:
    """A name in place of a number fails the command with exit code 3 before the queue is used, and is not quoted. The other
    columns are tested without a queue.
    """
    tables = planted_tables()
    _write(home, replace(tables, events=planted(tables.events, "numeric_value", rows=[1])))

    assert home.run("--broker", home.broker).wait(GUARD_SECONDS) == 3, home.log()
    assert "Expected" in home.log()
    assert PLANTED.lower() not in home.log().lower()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "numeric_value"),
        ("labels", "index_date"),
        ("demographics", "patient_id"),
        ("concepts", "low"),
    ],
)
def test_planted_value_that_fails_a_run_is_not_quoted(home: Commands, table: str, column: str) -> None:
    """A name in place of a number, a date or a patient's id that a task finds fails the run with exit code 3 and is not quoted.
    The other columns are tested without a queue.
    """
    tables = planted_tables()
    _write(home, replace(tables, **{table: planted(getattr(tables, table), column, rows=[1])}))
    ended, ear = _run(home, [WITHOUT_LOOK], [WORKER_OF_TABLES])
    shown = _shown(home, ear)

    assert ended == 3, home.log()
    assert "task_failed" in shown["logs and errors"]
    assert "Expected" in shown["logs and errors"]
    assert "mlho.outcome" in shown["traces"]
    assert [kind for kind, text in shown.items() if PLANTED.lower() in text.lower()] == []
