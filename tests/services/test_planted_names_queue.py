"""Planted names of patients travel through a whole run on a queue and show up nowhere but in the store's artifacts."""

import base64
import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pytest
import redis

from mlho.store.local import LocalStore
from scheduler.embedded import free_port
from tests.builders import Tables, make_tables, write_spec, write_tables
from tests.services.queue_commands import Commands, ending
from tests.services.redis_servers import Server

PLANTED: Final = "Zebulon"  # part of every planted id, name and text
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


def planted_tables() -> Tables:
    """Ids with a name in them, name columns in every table, and bad rows that hold one, too."""
    tables = make_tables(200, seed=5, prefix=f"{PLANTED}-")
    events = _with_names(tables.events)
    bad = events.slice(0, 3).set_column(
        0, "patient_id", pa.array([f"{PLANTED}-unknown", f"{PLANTED}-nobody", f"{PLANTED}-00001"])
    )
    bad = bad.set_column(2, "code", pa.array([None, "N00", None], pa.string()))
    demographics = _with_names(tables.demographics)
    sex = np.array(demographics.column("sex").to_pylist(), object)
    sex[:2] = f"{PLANTED} Müller"  # a slip of whoever typed it
    demographics = demographics.set_column(2, "sex", pa.array(sex.tolist(), pa.string()))
    return Tables(pa.concat_tables([events, bad]), _with_names(tables.labels), demographics, tables.concepts)


def _with_names(table: Any) -> Any:
    names = [f"{PLANTED} Müller, room {number}" for number in range(table.num_rows)]
    return table.append_column("full_name", pa.array(names, pa.string()))


class Ear:
    """Hears every command that Redis is sent, and reads the pages of metrics again and again."""

    def __init__(self, url: str, pages: list[str]) -> None:
        self.commands: list[str] = []
        self.pages: list[str] = []
        self.keys: set[str] = set()
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._addresses = pages
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
            thread.join(10)
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
            for address in self._addresses:
                with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as page:
                    self.pages.append(page.read().decode())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Commands]:
    with (
        Server(tmp_path / "server") as server,
        ending(
            Commands(tmp_path / "cohort/spec.yaml", tmp_path, str(tmp_path / "store"), server.url)
        ) as commands,
    ):
        yield commands


def _run(commands: Commands, tables: Tables, changes: dict[str, Any]) -> tuple[int, Ear]:
    """The run's exit code, and what was heard meanwhile."""
    cohort = commands.spec.parent
    write_tables(cohort, tables, suffix=".csv")
    places = {f"data.tables.{name}": f"{name}.csv" for name in ("labels", "demographics", "concepts")}
    write_spec(cohort, {**places, **changes})
    ports = [free_port(), free_port()]
    with Ear(commands.broker, [f"http://127.0.0.1:{port}/metrics" for port in ports]) as ear:
        scheduler = commands.run("--broker", commands.broker, "--metrics-port", str(ports[0]))
        commands.worker(commands.run_id(LocalStore(Path(commands.address))), "--metrics-port", str(ports[1]))
        code = scheduler.wait(120)
        time.sleep(0.3)
    return code, ear


def _shown(commands: Commands, ear: Ear) -> dict[str, str]:
    """All that may be seen by somebody who may not see patients, by its kind."""
    sent = "\n".join(ear.commands)
    bodies = "\n".join(_decoded(found) for found in _BASE64.findall(sent))
    store = "\n".join(path.as_posix() for path in Path(commands.address).rglob("*"))
    return {
        "logs and errors": commands.log(),
        "Redis": sent,
        "message bodies": bodies,
        "Redis keys": "\n".join(ear.keys),
        "metrics": "\n".join(ear.pages),
        "store keys": store,
    }


def _decoded(text: str) -> str:
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True).decode(errors="replace")
    return ""


def test_good_and_bad_rows_show_no_planted_text(home: Commands) -> None:
    """A run that goes well: nothing planted in logs, Redis, metrics or keys, each of which was really looked at."""
    code, ear = _run(home, planted_tables(), {"features.demographics": ["age", "sex"]})
    shown = _shown(home, ear)

    assert code == 0, home.log()
    assert "run_finished" in shown["logs and errors"]
    assert "worker_started" in shown["logs and errors"]
    assert "EVALSHA" in shown["Redis"].upper()
    assert '"signature"' in shown["message bodies"]
    assert ":leases" in shown["Redis keys"]
    assert "mlho_run_tasks" in shown["metrics"]
    assert "mlho_worker_tasks_total" in shown["metrics"]
    assert "commits/" in shown["store keys"]
    assert [kind for kind, text in shown.items() if PLANTED.lower() in text.lower()] == []


@pytest.mark.parametrize(
    ("table", "column", "code"), [("labels", "label", 3), ("events", "time", 0), ("demographics", "age", 3)]
)
def test_planted_value_of_another_type_is_not_quoted(
    home: Commands, table: str, column: str, code: int
) -> None:
    """A name where a number or a date must be: the run says so, or counts the row, and does not quote it."""
    tables = planted_tables()
    spoilt = getattr(tables, table)
    values = [None if value is None else str(value) for value in spoilt.column(column).to_pylist()]
    values[1] = f"{PLANTED} Müller"
    place = spoilt.column_names.index(column)
    changed = spoilt.set_column(place, column, pa.array(values, pa.string()))
    ended, ear = _run(home, Tables(**{**vars(tables), table: changed}), {})
    shown = _shown(home, ear)

    assert ended == code, home.log()
    assert "run_started" in shown["logs and errors"]
    assert [kind for kind, text in shown.items() if PLANTED.lower() in text.lower()] == []
