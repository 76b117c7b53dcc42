"""The list of contradicted labels: patients are pseudonyms, and no list is written without a key."""

import csv
import hashlib
import hmac
import io

import pytest

from mlho.store.local import LocalStore
from scheduler.cli.evaluation.worklist import PSEUDONYM_KEY
from tests.builders import make_tables, run_inline, write_tables

KEY = "a key of more than 16 bytes"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worklist")
    data = write_tables(folder / "data", make_tables(200, seed=2))
    store = LocalStore(folder / "store")
    return store, run_inline(data, store, {"validation.iterations": 6}).finished.run_id


def test_the_command_writes_pseudonyms_and_no_id(trained, command, tmp_path, monkeypatch):
    """The key maps each patient to a pseudonym, and nothing is written into the store."""
    store, run = trained
    before = set(store.keys(""))
    monkeypatch.setenv(PSEUDONYM_KEY, KEY)
    file = tmp_path / "list.csv"

    said = command("worklist", run, "--to", file, store=store.root)

    text = file.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    known = {hmac.new(KEY.encode(), f"p{n:05d}".encode(), hashlib.sha256).hexdigest() for n in range(200)}
    assert rows
    assert {row["pseudonym"] for row in rows} <= known
    assert all(2 * int(row["contradicted"]) > int(row["tested"]) >= 3 for row in rows)
    assert "p000" not in text + said.out
    assert file.stat().st_mode & 0o077 == 0
    assert set(store.keys("")) == before


def test_without_a_key_no_list_is_written(trained, command, tmp_path, monkeypatch):
    store, run = trained
    monkeypatch.delenv(PSEUDONYM_KEY, raising=False)

    said = command("worklist", run, "--to", tmp_path / "list.csv", store=store.root)

    assert said.code == 2
    assert f"{PSEUDONYM_KEY}: not set" in said.err
    assert not (tmp_path / "list.csv").exists()
