"""Drift: differences from training are found, and chance is not reported as a shift."""

import json
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlho.arrays import read_arrays
from mlho.method.selection.features import VALUES, Cells, Encoding, n_with_value
from mlho.model.parts import BundleFeature, TrainingSamples, Vocabulary
from mlho.report.monitoring import CodeDrift, CodeShift
from mlho.scoring.code_drift import code_warnings, find_code_drift, split_codes
from mlho.scoring.drift import (
    Drift,
    deciles_of,
    drift_warnings,
    find_drift,
    find_missing,
    is_beyond_chance,
    large_score_psi,
    psi,
    psi_by_chance,
    score_psi,
    with_missing,
)
from mlho.spec.training import parse_spec
from mlho.steps.records import read_commit
from mlho.steps.score.artifacts import PRESENT_FILE
from mlho.store.keys import blob_key, run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from mlho.training.results.final import expected_scores
from scheduler.cli.show_scores import partitions_table, sentences, show_scores
from scheduler.controller.observation import scoring_metrics
from tests.unit.scoring.conftest import score_inline

N = 5_000


def feature(name):
    return SimpleNamespace(id=f"{name}|all|presence", words=name)


def drift_of(features, prevalence, present, *, n=N, n_patients=None, n_training=None):
    """Return the drift of samples of different patients, against exact shares of training."""
    return find_drift(
        features, prevalence, np.asarray(present), n, n_patients=n_patients or n, n_training=n_training
    )


def test_psi_is_the_sum_over_bins_and_zero_for_equal_distributions():
    then, now = [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]
    by_hand = 0.1 * np.log(0.3 / 0.2) + 0.0 - 0.1 * np.log(0.4 / 0.5)

    assert psi(then, now, 1000) == pytest.approx(by_hand, abs=1e-15)
    assert psi(then, then, 1000) == 0.0
    assert np.isfinite(psi([1.0, 0.0], [0.0, 1.0], 1000))


def test_scores_of_the_training_distribution_have_a_small_psi_and_shifted_ones_a_large():
    rng = np.random.default_rng(1)
    deciles = np.quantile(rng.beta(1, 9, 100_000), np.arange(1, 10) / 10).tolist()

    same, _ = score_psi(rng.beta(1, 9, N), deciles)
    shifted, _ = score_psi(rng.beta(2, 9, N), deciles)

    assert same < 0.02
    assert shifted > 0.25
    assert drift_warnings(Drift(score_psi=shifted, n_compared=9))
    assert not drift_warnings(Drift(score_psi=same, n_compared=9))


def share_warned(n, n_training, *, shift, seed, n_rounds=500):
    """Return the share of nights whose PSI is over 0.25, and the share with a warning; the logits are shifted."""
    rng = np.random.default_rng(seed)
    chance, over, warned = psi_by_chance(n, n_training), 0, 0
    for _ in range(n_rounds):
        training, now = rng.normal(-2, 1.2, n_training), rng.normal(-2 + shift, 1.2, n)
        index, _ = score_psi(1 / (1 + np.exp(-now)), deciles_of(1 / (1 + np.exp(-training))))
        over += index > 0.25
        warned += bool(drift_warnings(Drift(score_psi=index, score_psi_by_chance=chance)))
    return over / n_rounds, warned / n_rounds


@pytest.mark.parametrize(("n", "n_training"), [(110, 150), (110, 300), (150, 150)])
def test_the_psi_of_few_scores_without_drift_is_no_warning(n, n_training):
    over, warned = share_warned(n, n_training, shift=0.0, seed=3)

    assert over > 0.01
    assert warned <= 0.004


@pytest.mark.parametrize("n", [110, 300, 2000])
@pytest.mark.parametrize("n_training", [150, 1000])
def test_a_shift_of_the_scores_beyond_chance_is_a_warning(n, n_training):
    assert share_warned(n, n_training, shift=1.0, seed=4, n_rounds=100)[1] >= 0.9


def test_without_the_size_of_training_the_deciles_count_as_exact():
    assert psi_by_chance(110, None) == pytest.approx(psi_by_chance(110, 10**9), abs=1e-4)
    assert large_score_psi(Drift(score_psi=0.26)) == 0.26


def test_equal_deciles_are_one_bin():
    """If a model gives most samples the same score, equal deciles form one bin, whose share in training is 0.9 to 1."""
    deciles = [0.1] * 9

    assert score_psi(np.full(N, 0.1), deciles) == (0.0, None)
    value, _ = score_psi(np.repeat([0.1, 0.2], [N // 2, N // 2]), deciles)
    assert value == pytest.approx(psi([0.9, 0.1], [0.5, 0.5], N), abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_few_different_scores_of_the_training_distribution_have_a_small_psi(seed):
    """Deciles of eight scores are rounded and end within equal scores: neither moves samples into another bin."""
    rng = np.random.default_rng(seed)
    scores, shares = np.sort(rng.uniform(0.02, 0.6, 8)), np.arange(8, 0, -1) / 36
    training = rng.choice(scores, 10 * N, p=shares)
    deciles = np.round(np.quantile(training, np.arange(1, 10) / 10, method="inverted_cdf"), 4).tolist()

    assert score_psi(rng.choice(scores, N, p=shares), deciles)[0] < 0.02
    assert score_psi(rng.choice(scores, N, p=shares[::-1]), deciles)[0] > 0.25


def test_deciles_are_those_of_the_model_where_many_samples_share_its_score():
    """Out of fold, such samples have a score for each fold, which no new sample has."""
    rng = np.random.default_rng(5)
    own = np.repeat([0.1, 0.3, 0.6], [500, 490, 10])
    outside = own + rng.choice([-0.02, -0.01, 0.01, 0.02], 1000)

    found = expected_scores(own, np.arange(1000)[::-1], outside[::-1], min_cell=11)[::-1]

    assert found[:990].tolist() == own[:990].tolist()
    assert found[990:].tolist() == outside[990:].tolist()


def test_few_samples_and_old_bundles_have_a_reason_instead_of_a_figure():
    assert score_psi(np.full(20, 0.1), [0.1] * 9) == (None, "fewer than 110 samples")
    assert score_psi(np.full(N, 0.1), None)[0] is None
    assert drift_of([feature("a")], None, [7]).n_compared == 0


@pytest.mark.parametrize("n_training", [150, 1_000, 10_000])
@pytest.mark.parametrize("n", [10, 20, 50, 100, 200, N])
def test_chance_is_no_shift(n, n_training):
    """Of 40,000 features of one population, at most 8 are shifted: also in few samples, and against the shares of a small training cohort."""
    rng = np.random.default_rng(n + n_training)
    true = rng.uniform(0.005, 0.5, 40_000)
    training = rng.binomial(n_training, true) / n_training
    known = [share if share * n_training >= 11 else None for share in training.tolist()]
    features = [feature(str(place)) for place in range(len(true))]

    found = drift_of(features, known, rng.binomial(n, true), n=n, n_training=n_training)

    assert found.n_shifted <= 8


def test_samples_of_a_patient_count_as_one():
    """A code that all ten samples of a patient have is no shift of the patients, nor new or vanished; in as many patients it is."""
    rng = np.random.default_rng(6)
    features, share = [feature(str(place)) for place in range(2_000)], 0.1
    present, n = 10 * rng.binomial(40, share, 2_000), 400

    found = drift_of(features, [share] * 2_000, present, n=n, n_patients=40)
    training = vocabulary(GONE=share)

    assert (found.n_shifted, found.vanished) == (0, [])
    assert drift_of(features, [share] * 2_000, present, n=n).n_shifted > 100
    for n_patients, n_new, n_vanished in ((40, 0, 0), (400, 1, 1)):
        codes = find_code_drift(training, np.array([0]), {"NEW": 40}, n, n_patients=n_patients)
        assert (codes.n_new, codes.n_vanished) == (n_new, n_vanished)
    assert is_beyond_chance(0.3, 0.1, 400, None)
    assert not is_beyond_chance(0.3, 0.1, 10, None)


def test_a_shifted_and_a_vanished_feature_are_found_and_only_they():
    features = [feature(name) for name in "abcd"]
    found = drift_of(features, [0.2, 0.2, 0.2, None], [1000, 3000, 0, 3000])

    assert found.n_compared == 3
    assert {shift.feature: shift.now for shift in found.shifted} == {
        "b|all|presence": 0.6,
        "c|all|presence": 0.0,
    }
    assert found.vanished == ["c|all|presence"]
    assert "c|all|presence" in drift_warnings(found)[0]


def test_warnings_name_features_and_codes_by_the_descriptions_of_the_bundle():
    """A clinician reads the description, and the code next to it; a code that the bundle does not describe stands alone. One feature is singular."""
    named = BundleFeature(
        id="RX:305|all|presence",
        code="RX:305",
        description="Obesity, follow-up",
        encoding=Encoding("presence"),
        words="Obesity, follow-up (RX:305): ever recorded",
        importance=0.1,
    )
    codes = CodeDrift(
        n_compared=9,
        vanished=[CodeShift(code=code, training=0.2, now=0.0) for code in ("RX:305", "DX:1")],
    )
    found = Drift(score_psi=0.31, n_compared=200, n_shifted=1, vanished=[named.id], codes=codes)

    warned = drift_warnings(found, [named])

    assert "1 of 200 features is shifted." in warned[0]
    assert "absent from all samples: Obesity, follow-up (RX:305): ever recorded. Check" in warned[1]
    assert "RX:305 Obesity, follow-up (20.0 % of the training samples); DX:1 (20.0 %" in warned[2]


def test_a_share_of_few_samples_is_not_shown():
    found = drift_of([feature("a")], [0.2], [5])

    assert (found.shifted[0].now, found.shifted[0].psi) == (None, None)


def test_training_samples_have_not_drifted(trained):
    """On the training samples, each prevalence of the bundle is the one that scoring finds."""
    scored = score_inline(trained.folder, MemoryStore())
    drift, training = scored.scores["drift"], trained.bundle.document.training
    assert scored.manifest["warnings"] == []

    assert len(training.prevalence) == len(trained.bundle.document.features)
    assert drift["n_compared"] == sum(share is not None for share in training.prevalence) > 0
    assert (drift["n_shifted"], drift["vanished"]) == (0, [])
    assert drift["score_psi"] is not None  # of scores on training samples, against out-of-fold scores
    codes = drift["codes"]
    assert codes["n_compared"] == len(training.codes.shares) > len(trained.bundle.document.codes)
    assert (codes["n_new"], codes["n_vanished"], drift["n_missing_shifted"]) == (0, 0, 0)
    assert {column["column"] for column in drift["missing"]} >= {"age", "sex"}


def vocabulary(**shares):
    codes = Vocabulary(floor=0.002, shares=shares, exclude=("X*",))
    return TrainingSamples(without_events=0.0, alert_rates={}, missing={"sex": 0.01}, codes=codes)


def test_new_and_vanished_codes_are_found_and_chance_and_excluded_codes_are_not():
    """A code that training did not list had at most the share of the floor, and a rare code may be absent by chance."""
    training = vocabulary(GONE=0.2, RARE=0.004, KEPT=0.1)
    by_code = {"KEPT": 510, "NEW": 400, "SEASON": 60, "FEW": 25, "FLOOR": 19, "X1": 900}

    found = find_code_drift(training, *split_codes(training, by_code), N, n_patients=N)

    assert [(code.code, code.training, code.now) for code in found.vanished] == [("GONE", 0.2, 0.0)]
    assert [(code.code, code.now) for code in found.new] == [("NEW", 0.08), ("SEASON", 0.012)]
    assert (found.n_compared, found.n_new, found.n_vanished) == (3, 2, 1)
    assert ["NEW" in code_warnings(found)[0], "GONE" in code_warnings(found)[1]] == [True, True]
    absent = find_code_drift(None, np.empty(0), {}, N, n_patients=N)
    assert absent.reason == "the bundle does not have the codes of training"


def test_chance_is_no_new_code():
    """Ten thousand codes whose share is that of the floor are not new."""
    counts = np.random.default_rng(3).binomial(100_000, 0.002, 10_000)
    training = vocabulary()

    others = {str(place): n for place, n in enumerate(counts.tolist())}
    found = find_code_drift(training, np.empty(0), others, 100_000, n_patients=100_000)

    assert found.n_new == 0


@pytest.mark.parametrize(
    ("n_missing", "is_shifted", "now"), [(60, False, 0.012), (3_000, True, 0.6), (4_995, True, None)]
)
def test_more_missing_values_are_a_shift_and_few_persons_are_not_shown(n_missing, is_shifted, now):
    missing = {"sex": n_missing, "unknown to the bundle": 9}
    (found,) = find_missing([], vocabulary(), np.empty(0), missing, N, n_patients=N)

    assert (found.column, found.is_shifted, found.now) == ("sex", is_shifted, now)
    warned = drift_warnings(with_missing(Drift(), [found]))
    assert bool(warned) == (is_shifted and now is not None)


def test_a_value_of_an_event_is_missing_where_the_feature_is_absent():
    """The missing share in training is the complement of the prevalence. Recency is not a value."""
    features = [
        SimpleNamespace(id=name, words=name, aggregate=name) for name in ("mean", "recency", "presence")
    ]
    training = vocabulary().model_copy(update={"prevalence": (0.8, 0.8, 0.8)})

    found = find_missing(features, training, np.array([1_000, 0, 0]), {}, N, n_patients=N)

    assert [(column.column, column.training, column.now, column.is_shifted) for column in found] == [
        ("mean", 0.2, 0.8, True)
    ]


def test_a_value_that_equals_the_median_of_a_linear_model_is_a_value():
    """The design has no cell for it, as for a missing value; the count of values does not come from the design."""
    cells = Cells(np.arange(4, dtype=np.int32), np.ones(4, np.int32), np.array([5.0, 5.0, 7.0, np.nan]))

    assert len(Encoding("last", centre=5.0).encode(cells)[0]) == 1
    assert n_with_value(cells) == 3


def test_a_value_that_equals_the_median_counts_in_training_and_scoring(trained, tmp_path):
    """The share of the samples with a number is that with a value; those at the median have no cell in the design."""
    document, store = trained.bundle.document, MemoryStore()
    scored = score_inline(trained.folder, store)
    commits = [read_commit(store, task.key) for task in scored.submitted if task.kind == "score_partition"]
    present = np.zeros(len(document.features))
    for commit in commits:
        (tmp_path / "present").write_bytes(store.get(blob_key(commit.files[PRESENT_FILE].sha256)))
        present += read_arrays(tmp_path / "present")["present"]

    shares = zip(
        document.features, document.training.prevalence, present / scored.scores["samples"], strict=True
    )
    values = [row for row in shares if row[0].aggregate in VALUES and row[1] is not None]
    assert values
    for feature, then, now in values:
        assert then == pytest.approx(now, abs=2e-4)
        assert then == pytest.approx(1 - document.training.missing[feature.id], abs=2e-4)


def test_a_value_within_its_range_is_not_missing(trained):
    """Missing is the share of the samples without a number, in training and in a scoring run."""
    events, cohort, _ = trained.frames()
    lab = events[(events["code"] == "LOINC:2160-0") & np.isfinite(events["numeric_value"])]
    pairs = cohort.drop_duplicates().merge(lab, on="patient_id")
    bound = pairs["index_date"].dt.normalize() + pd.Timedelta(days=1 - 5)  # gapDays: 5
    n_with = len(pairs[pairs["time"] < bound].groupby(["patient_id", "index_date"]))
    column = "LOINC:2160-0|all|outOfRange"

    scored = score_inline(trained.folder, MemoryStore()).scores

    (found,) = [column_ for column_ in scored["drift"]["missing"] if column_["column"] == column]
    share = 1 - n_with / scored["samples"]
    assert found["now"] == pytest.approx(
        share, abs=0.01
    )  # some events are not used: before birth, for example
    assert found["training"] == pytest.approx(found["now"], abs=2e-4)


def test_a_code_that_is_renamed_and_values_that_disappear_are_named(trained, tmp_path, capsys):
    """If one code is renamed and the sex of most patients is lost, the run names the vanished code, the new code and the column."""
    training, features = trained.bundle.document.training, trained.bundle.document.features
    most = max(
        (p, feature.code)
        for p, feature in zip(training.prevalence, features, strict=True)
        if p is not None and feature.code
    )[1]
    folder = tmp_path / "data"
    copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        table = pq.read_table(path)
        renamed = pc.if_else(pc.fill_null(pc.equal(table["code"], most), False), "NEW", table["code"])
        pq.write_table(table.set_column(table.column_names.index("code"), "code", renamed), path)
    persons = pq.read_table(folder / "demographics.parquet")
    lost = pc.if_else(pc.equal(persons["sex"], "female"), None, persons["sex"])
    pq.write_table(
        persons.set_column(persons.column_names.index("sex"), "sex", lost), folder / "demographics.parquet"
    )

    copytree(trained.store.root, tmp_path / "store")
    store, made_by = LocalStore(tmp_path / "store"), trained.home.run.run_id
    scored = score_inline(folder, store, {"bundle.uri": f"run:{made_by}"})
    scores = scored.scores

    lost = [feature.id for feature in features if feature.code == most]
    assert set(scores["drift"]["vanished"]) & set(lost)
    assert any(
        most in warning and "Features that were common in training are absent" in warning
        for warning in scores["warnings"]
    )
    codes, shares = scores["drift"]["codes"], trained.bundle.document.training.codes.shares
    assert [(code["code"], code["training"]) for code in codes["vanished"]] == [(most, shares[most])]
    assert [(code["code"], code["now"]) for code in codes["new"]] == [("NEW", round(shares[most], 4))]
    (sex,) = [column for column in scores["drift"]["missing"] if column["column"] == "sex"]
    assert sex["is_shifted"]
    assert sex["now"] > 0.3 > sex["training"]
    (described,) = {feature.description for feature in features if feature.code == most and not feature.then}
    for text in ("NEW (", f"{most} {described} (", "sex ("):
        assert any(text in warning for warning in scores["warnings"])
    # A vanished feature is a reason to retrain: the training specification is written under another name.
    again, before = (
        parse_spec(text.decode())
        for text in (scored.file("retrain.yaml"), store.get(run_key(made_by, "spec.yaml")))
    )
    assert scores["advice"]["action"] == "retrain"
    assert again.metadata.name == f"{before.metadata.name}-retrained"
    assert again.spec == before.spec
    status = scoring_metrics(scores, None)
    counts = ("newCodes", "vanishedCodes", "columnsMissingMore", "advisesRetraining")
    assert [status[count] for count in counts] == ["1", "1", str(scores["drift"]["n_missing_shifted"]), "1"]
    show_scores(store, scored.run.run_id)
    assert "retrain.yaml in the store" in " ".join(capsys.readouterr().out.split())


def test_shifted_features_are_named_with_their_shares(trained):
    """A reader sees which features are shifted, except for shares of few samples."""
    scores = score_inline(trained.folder, MemoryStore()).scores
    drift = drift_of([feature("Iron"), feature("Rare")], [0.2, 0.2], [3000, 5])
    shown = " ".join(sentences({**scores, "drift": {**scores["drift"], **drift.model_dump(mode="json")}}))

    assert "2 of 2 features are shifted: Iron (60.0 %, 20.0 % in training)." in shown
    one = drift_of([feature("Iron"), feature("Other")], [0.2, 0.2], [3000, 1000])
    shown = " ".join(sentences({**scores, "drift": {**scores["drift"], **one.model_dump(mode="json")}}))
    assert "1 of 2 features is shifted: Iron" in shown


def test_rows_of_each_partition_are_shown_and_few_are_hidden():
    """The partition with the smallest share of used rows comes first."""
    parts = [
        {"source": name, "ledger": {"rows_in": n, "rows_used": used}, "rows": rows}
        for name, n, used, rows in [("a", 5_000, 4_900, 300), ("b", 4_000, 7, 200)]
    ]
    table = partitions_table([*parts, {"source": None, "ledger": None, "rows": 4}])

    assert list(zip(*(column.cells for column in table.columns), strict=True)) == [
        ("no events", "0", "0", "under 11"),
        ("b", "4,000", "under 11", "200"),
        ("a", "5,000", "4,900", "300"),
    ]


def test_a_partition_that_loses_its_rows_is_named_in_the_manifest_and_shown(trained, tmp_path, capsys):
    """If all events of a partition are after the index dates, the manifest names its file. The scores do not name files."""
    copytree(trained.folder, tmp_path / "data")
    path = tmp_path / "data" / "events" / "part-1.parquet"
    table = pq.read_table(path)
    late = pc.add(table["time"], pa.scalar(4_000 * 86_400_000_000, pa.duration("us")))
    pq.write_table(table.set_column(table.column_names.index("time"), "time", late), path)

    scored = score_inline(tmp_path / "data", MemoryStore(), {"checks": {"emptySamples": "warn"}})

    (warning,) = scored.manifest["warnings"]
    assert warning.startswith("In 1 of 3 partitions the share of used event rows is less than half")
    assert "events/part-1.parquet (0 % of" in warning
    assert "part-1" not in json.dumps(scored.scores)
    show_scores(scored.run.store, scored.run.run_id)
    assert "Warning: In 1 of 3 partitions" in capsys.readouterr().out
