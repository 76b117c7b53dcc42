"""Contradicted labels: planted wrong labels lead the list, patients are pseudonyms, and without a key there is no list."""

import csv
import hashlib
import hmac
import io

import numpy as np
import pytest

from mlho.external.contradictions import find_contradictions
from mlho.store.local import LocalStore
from scheduler.cli.evaluation.worklist import PSEUDONYM_KEY
from tests.builders import make_tables, run_inline, write_tables

KEY = "a key of more than 16 bytes"


def iterations(outcome, truth, *, n=12, seed=1):
    """Half of the samples each time, scored by a model of the true outcome with an AUROC of about 0.96."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        samples = np.sort(rng.choice(len(outcome), len(outcome) // 2, replace=False))
        log_odds = -2.0 + 5.0 * truth[samples] + rng.normal(0, 1.5, len(samples))
        yield {"samples": samples, "glmboost": 1 / (1 + np.exp(-log_odds))}


def test_planted_wrong_labels_lead_the_list():
    """Of 4,000 labels 80 are turned over: at least 90 % of the first 60 are among them, where chance gives 2 %."""
    rng = np.random.default_rng(0)
    truth = (rng.random(4000) < 0.2).astype(np.uint8)
    wrong = rng.choice(4000, 80, replace=False)
    outcome = truth.copy()
    outcome[wrong] ^= 1

    found = find_contradictions(iterations(outcome, truth), "glmboost", outcome)
    first = found.ranked(outcome)[:60]

    assert np.isin(first, wrong).mean() >= 0.9


def test_a_sample_is_listed_if_most_of_at_least_three_iterations_contradict_it():
    """Contradicted in 2 of 3: listed; in 1 of 3, or tested twice only: not."""
    outcome = np.array([0, 0, 0, 0, 1, 1], np.uint8)
    high, low = 0.9, 0.1
    rows = [[high, high, low], [high, low, low], [high, high, None], [low, low, low], [0.8] * 3, [0.8] * 3]
    arrays = [
        {
            "samples": np.array([s for s, row in enumerate(rows) if row[i] is not None]),
            "m": np.array([row[i] for row in rows if row[i] is not None]),
        }
        for i in range(3)
    ]

    found = find_contradictions(arrays, "m", outcome)

    assert found.contradicted[:4].tolist() == [2, 1, 2, 0]
    assert found.tested.tolist() == [3, 3, 2, 3, 3, 3]
    assert found.ranked(outcome).tolist() == [0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worklist")
    data = write_tables(folder / "data", make_tables(200, seed=2))
    store = LocalStore(folder / "store")
    return store, run_inline(data, store, {"validation.iterations": 6}).finished.run_id


def test_the_command_writes_pseudonyms_and_no_id(trained, command, tmp_path, monkeypatch):
    """The key finds each patient again. Nothing is written into the store."""
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
