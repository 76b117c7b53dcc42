"""The list of contradicted labels: patients are pseudonyms, and no list is written without a key."""

import csv
import hashlib
import hmac
import io

import pytest

from mlho.pseudonyms import PSEUDONYM_KEY
from mlho.store.local import LocalStore
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

    response = command("worklist", run, "--to", file, store=store.root)

    text = file.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    known = {hmac.new(KEY.encode(), f"p{n:05d}".encode(), hashlib.sha256).hexdigest() for n in range(200)}
    assert rows
    assert {row["pseudonym"] for row in rows} <= known
    assert all(2 * int(row["contradicted"]) > int(row["tested"]) >= 3 for row in rows)
    assert "p000" not in text + response.out
    assert file.stat().st_mode & 0o077 == 0
    assert set(store.keys("")) == before


def test_without_a_key_no_list_is_written(trained, command, tmp_path, monkeypatch):
    store, run = trained
    monkeypatch.delenv(PSEUDONYM_KEY, raising=False)

    response = command("worklist", run, "--to", tmp_path / "list.csv", store=store.root)

    assert response.code == 2
    assert f"{PSEUDONYM_KEY}: not set" in response.err
    assert not (tmp_path / "list.csv").exists()


def test_a_list_is_the_same_whether_the_ids_are_encrypted_or_not(trained, command, tmp_path, monkeypatch):
    """The run with the key has encrypted ids; the pseudonyms are those of the ids."""
    store, run = trained
    monkeypatch.setenv(PSEUDONYM_KEY, KEY)
    data = write_tables(tmp_path / "data", make_tables(200, seed=2))
    run_inline(data, LocalStore(tmp_path / "encrypted"), {"validation.iterations": 6})

    lists = []
    for name, place in (("plain", store.root), ("encrypted", tmp_path / "encrypted")):
        assert command("worklist", run, "--to", tmp_path / f"{name}.csv", store=place).code == 0
        lists.append((tmp_path / f"{name}.csv").read_text())
    assert lists[0] == lists[1]
    monkeypatch.setenv(PSEUDONYM_KEY, "another key of at least 16 bytes")
    refused = command("worklist", run, "--to", tmp_path / "other.csv", store=tmp_path / "encrypted")
    assert refused.code == 2
    assert not (tmp_path / "other.csv").exists()
