"""Samples without usable events are counted; too many of them fail the run, and differing alert rates give a warning."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlho.errors import DataError
from mlho.model.parts import TrainingSamples
from mlho.report.result import LedgerSummary
from mlho.scoring.account import AlertSummary
from mlho.scoring.checks import alert_warnings, check_empty_samples
from mlho.spec.scoring import normalised, parse_scoring_spec
from mlho.store.memory import MemoryStore
from tests.builders import Tables, make_tables
from tests.unit.scoring.conftest import CHANGES, Trained, make_score_document, score_inline, train

Beside = Callable[..., Path]


def with_late_events(tables: Tables, share: float) -> Tables:
    """Return the tables with the events of this share of the patients after every index date."""
    patients = pc.unique(tables.labels["patient_id"])
    late = pc.is_in(tables.events["patient_id"], patients.slice(0, round(share * len(patients))))
    days = pa.scalar(4_000 * 86_400_000_000, pa.duration("us"))
    times = pc.if_else(late, pc.add(tables.events["time"], days), tables.events["time"])
    return replace(tables, events=tables.events.set_column(1, "time", times))


def test_samples_without_usable_events_are_counted(tmp_path: Path):
    """Samples are counted as in training, so the same tables give the same share."""
    trained = train(tmp_path, CHANGES, with_late_events(make_tables(200, seed=4), 0.4))

    scores = score_inline(trained.folder, MemoryStore()).scores

    training = trained.bundle.document.training
    assert training is not None
    assert scores["samples_without_events"] > 40
    assert training.without_events == scores["training_share_without_events"]
    assert training.without_events == round(scores["samples_without_events"] / scores["samples"], 2)
    # Rules also give warnings. The few patients give a weak model, which can be used but not promoted.
    [weak] = [warning for warning in scores["warnings"] if "rule" not in warning and "PSI" not in warning]
    assert weak.startswith("The bundle fails 1 of its ")
    assert "floor.auroc" in weak


def test_many_more_samples_without_events_than_in_training_fail_the_run(trained: Trained, beside: Beside):
    """If many more samples have no usable event than in training, the error has the counts and the rule, and nothing is published."""
    folder, store = beside(with_late_events(trained.tables, 0.6)), MemoryStore()

    with pytest.raises(DataError, match=r"samples have no usable event .*rule: after index.*emptySamples"):
        score_inline(folder, store)
    assert not [key for key in store.keys("runs/") if "/scores/" in key]


def test_a_few_more_samples_without_events_are_accepted(trained: Trained, beside: Beside):
    """An increase of less than 20 percentage points is accepted."""
    scores = score_inline(beside(with_late_events(trained.tables, 0.1)), MemoryStore()).scores

    more = scores["samples_without_events"] / scores["samples"] - scores["training_share_without_events"]
    assert 0.05 < more < 0.2


@pytest.mark.parametrize(("n_patients", "share"), [(1, 0.02), (2, 0.1), (5, 0.3), (20, 0.3), (110, 0.1)])
def test_few_patients_without_change_rarely_fail_or_warn(n_patients, share):
    """Of nights without a change, at most 2 in 1,000 fail for samples without events or warn of an alert rate; real losses are found."""
    training = TrainingSamples(without_events=share, alert_rates={}, n_samples=2_000)
    ledger = LedgerSummary(rows_in=9, rows_used=1, rules=[])

    def is_found(n_found: int, n: int) -> bool:
        empty = check_empty_samples(n_found, n, training, ledger, n_patients=n, allows=True)
        alerts = [AlertSummary(rule="youden", value=0.3, alerts=n_found, training_rate=share)]
        return bool(empty or alert_warnings(alerts, n, n_patients=n, n_training=2_000))

    counts = np.random.default_rng(1).binomial(n_patients, share, 5_000).tolist()

    assert sum(is_found(n_found, n_patients) for n_found in counts) <= 10
    assert is_found(200, 200)


def test_the_specification_can_allow_samples_without_events(trained: Trained, beside: Beside):
    """With ``emptySamples: warn``, they give a warning in the published scores."""
    folder = beside(with_late_events(trained.tables, 0.6))

    scores = score_inline(folder, MemoryStore(), {"checks.emptySamples": "warn"}).scores

    assert "samples have no usable event" in scores["warnings"][0]


def test_the_default_of_checks_is_no_part_of_the_run_id():
    """The default keeps the ids of earlier runs, and ``warn`` gives another id."""
    documents = [
        make_score_document(change)
        for change in ({}, {"checks.emptySamples": "fail"}, {"checks.emptySamples": "warn"})
    ]
    plain = [normalised(parse_scoring_spec(str(document).replace("'", '"')).spec) for document in documents]

    assert "checks" not in plain[0]
    assert plain[0] == plain[1] != plain[2]


def test_an_alert_rate_far_from_training_is_a_warning(trained: Trained, beside: Beside):
    """Patients without most of their events have other alert rates, which gives a warning for the threshold."""
    folder = beside(with_late_events(trained.tables, 0.9))

    scores = score_inline(folder, MemoryStore(), {"checks.emptySamples": "warn"}).scores

    rates = {alert["rule"]: alert["training_rate"] for alert in scores["alerts"]}
    training = trained.bundle.document.training
    assert training is not None
    assert rates == training.alert_rates
    assert [warning for warning in scores["warnings"] if warning.startswith("Threshold ")]
