"""Tests of the command ``mlho lineage``."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.builders import call_command, make_tables, run_inline, write_tables


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage")
    data = write_tables(folder / "data", make_tables(200, seed=3))
    return folder / "store", run_inline(data, folder / "store")


def test_it_names_digests_of_inputs_and_outputs(home, capsys):
    store, run = home
    output = call_command(["lineage", "--json"], store, capsys)
    lineage = json.loads(output.out)

    assert output.code == 0, output.err
    assert {entry["role"] for entry in lineage["inputs"]} >= {"events", "labels"}
    digests = {entry["role"]: entry["digest"] for entry in lineage["outputs"]}
    assert digests["result"] == run.finished.report.facts["result_digest"]
    assert set(digests) == {"result", "bundle"}
    assert all(len(entry["digest"]) == 64 for entry in [*lineage["inputs"], *lineage["outputs"]])


def test_another_file_of_a_table_is_another_digest(home, tmp_path, capsys):
    store, _ = home
    data = write_tables(tmp_path / "data", make_tables(200, seed=4))
    other = run_inline(data, tmp_path / "store")

    def inputs(store):
        plain = json.loads(call_command(["lineage", "--json"], store, capsys).out)
        return {entry["role"]: entry["digest"] for entry in plain["inputs"]}

    assert other.finished.run_id
    assert inputs(store)["events"] != inputs(tmp_path / "store")["events"]


def test_openlineage_events_are_the_same_each_time(home, tmp_path, capsys):
    store, run = home
    files = [tmp_path / "a.ndjson", tmp_path / "b.ndjson"]
    for file in files:
        assert call_command(["lineage", "--openlineage", file], store, capsys).code == 0
    start, complete = map(json.loads, files[0].read_text().splitlines())

    assert files[0].read_bytes() == files[1].read_bytes()
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["run"]["facets"]["mlho_run"]["runId"] == run.finished.run_id
    assert not start["outputs"]
    assert len(complete["outputs"]) == 2


class Collector(BaseHTTPRequestHandler):
    """An HTTP endpoint that records posted events or rejects them."""

    received: list[dict] = []  # noqa: RUF012 - of the class, as each request has a handler of its own
    status = 201

    def do_POST(self):
        """Record a posted event."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        """Suppress the server's log."""


@pytest.fixture
def collector():
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Collector.received.clear()
    Collector.status = 201
    yield f"http://127.0.0.1:{server.server_port}/api/v1/lineage"
    server.shutdown()
    server.server_close()


def test_events_are_posted_to_a_server(home, collector, capsys):
    store, _ = home

    assert call_command(["lineage", "--post", collector], store, capsys).code == 0
    assert [entry["eventType"] for entry in Collector.received] == ["START", "COMPLETE"]


def test_a_server_that_refuses_is_an_error_with_the_remedy(home, collector, capsys):
    store, _ = home
    Collector.status = 500
    output = call_command(["lineage", "--post", collector], store, capsys)

    assert output.code == 1
    assert "run the command again" in output.error


def test_a_crate_lists_every_file_of_the_export_with_its_digest(home, tmp_path, capsys):
    store, _ = home
    folder = tmp_path / "archive"
    assert call_command(["export", "--to", folder], store, capsys).code == 0
    assert call_command(["lineage", "--crate", folder], store, capsys).code == 0

    graph = {
        entry["@id"]: entry for entry in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    }
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    parts = {entry["@id"] for entry in graph["./"]["hasPart"]}
    assert parts == files - {"ro-crate-metadata.json"}
    assert all(len(graph[name]["sha256"]) == 64 for name in parts)
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    for entry in graph.values():  # every reference leads to an entity
        for value in entry.values():
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, dict) and not reference["@id"].startswith("https://"):
                    assert reference["@id"] in graph


def test_a_crate_needs_an_exported_folder(home, tmp_path, capsys):
    store, _ = home
    output = call_command(["lineage", "--crate", tmp_path / "none"], store, capsys)

    assert output.code == 2
    assert "mlho export" in output.error
