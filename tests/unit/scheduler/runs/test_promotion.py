"""Promotion and rollback are verified, idempotent, atomic, and independent of the run."""

import json
import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

import scheduler.registry.promotion
from mlho.errors import BundleError, SpecError
from mlho.model.signature import sign_files
from mlho.report.changes import PairedChange
from mlho.report.parts import Estimate
from mlho.spec.scoring import BundleSource, parse_scoring_spec
from mlho.store.keys import model_key, run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.cli.evaluation.compare import paired_change
from scheduler.engine.scoring_run import read_bundle, with_run_id
from scheduler.registry.gates import GateFailed
from scheduler.registry.models import stored_models
from scheduler.registry.promotion import promote, roll_back
from scheduler.runs.channels import ChannelMoved, live_entry, read_channel
from scheduler.runs.deletion import delete_runs
from scheduler.runs.refusals import last_refusal
from scheduler.runs.stored import find_run, stored_runs
from tests.builders import run_inline
from tests.limits import GUARD_SECONDS
from tests.unit.model.signing_keys import write_key
from tests.unit.scheduler.runs.planted import GATES, author, failed, passed, plant_run, promoted
from tests.unit.scoring.conftest import make_score_document

A, B, C = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for run in (A, B, C):
        plant_run(store, run)
    return store


def shown(store, address="channel:production"):
    """Return the bundle that scoring reads."""
    return read_bundle(BundleSource(uri=address), Path("s.yaml"), store)


def test_a_promotion_is_logged_with_all_that_an_auditor_asks(store):
    """The entry of a promotion has author, time, reason, run, old and new bundle, test results and the previous entry's digest."""
    first = promoted(store, A).entry
    second = promoted(store, B, why="AUROC is higher", minutes=5).entry

    assert (second.number, second.previous) == (2, first.digest)
    assert (second.who, second.why, second.at.isoformat()) == (
        "ann@clinic",
        "AUROC is higher",
        "2026-11-30T12:05:00+00:00",
    )
    assert (second.run, second.model, second.replaces, second.tests_passed) == (B, "risk", first.bundle, 1)
    assert second.bundle == shown(store).digest


def test_the_model_in_use_is_not_promoted_again(store):
    """Promoting the model in use again writes nothing."""
    promoted(store, A)
    before = set(store.keys(""))
    again = promoted(store, A, minutes=9)

    assert (again.is_new, again.entry.number) == (False, 1)
    assert set(store.keys("")) == before


def test_a_failed_self_test_changes_nothing(store):
    """If a test of the bundle fails, nothing is promoted, and the channel keeps its model."""
    promoted(store, A)
    with pytest.raises(BundleError, match=r"1 of the 2 tests of the bundle failed, the first: scores.range"):
        promote(store, find_run(stored_runs(store), B), "production", author(), test=failed)

    assert live_entry(store, "production").run == A


def test_a_failed_gate_blocks_the_promotion_and_force_is_on_record(store):
    """A failed gate blocks the promotion, and the refusal is logged with the gate and the figure. A forced promotion logs
    them too, and so does a later rollback to it.
    """
    run = "d" * 16
    plant_run(store, run, gates=GATES)
    promoted(store, A)
    found = find_run(stored_runs(store), run)
    with pytest.raises(GateFailed, match=r"gates 1 of 2 failed: AUROC at least 0\.9: 0\.800.*--force"):
        promote(store, found, "production", author(), test=passed)

    refused = last_refusal(store, "production")
    assert refused is not None
    assert (refused.run, refused.who) == (run, "ann@clinic")
    assert "AUROC at least 0.9: 0.800" in refused.message
    assert live_entry(store, "production").run == A
    assert next(model.gates for model in stored_models(store)[0] if model.run == run) == "1 of 2 failed"
    entry = promote(store, found, "production", author("urgent"), force=True, test=passed).entry
    assert (entry.forced, [gate.passed for gate in entry.gates]) == (True, [True, False])
    promoted(store, B)
    assert roll_back(store, "production", author(), test=passed).entry.forced
    with pytest.raises(BundleError):  # --force does not apply here
        promote(store, find_run(stored_runs(store), C), "production", author(), force=True, test=failed)


def plant_against_champion(store, **bounds):
    """Write a finished run with a gate against the champion, and return its id."""
    gate = {"metric": "auroc", "champion": "production"} | (bounds or {"minDifference": -0.01})
    plant_run(store, "d" * 16, gates=[{"gate": gate, "words": "g", "passed": None, "detail": ""}])
    return "d" * 16


@pytest.mark.parametrize(
    ("bounds", "difference", "passes"),
    [
        ({"minDifference": -0.01}, -0.01, True),
        ({"minDifference": -0.01}, -0.011, False),
        ({"lower95": {"min": -0.03}}, -0.01, True),
        ({"lower95": {"min": -0.02}}, -0.01, False),
        ({"maxDifference": 0.0}, 0.001, False),
    ],
)
def test_a_model_is_held_against_the_one_in_use(store, bounds, difference, passes):
    """A candidate is compared with the model in use by the paired difference, which the entry keeps with both runs and the number of samples."""
    run = plant_against_champion(store, **bounds)
    promoted(store, A)
    pairs = []

    def compare(champion, candidate):
        pairs.append((champion, candidate))
        change = Estimate(value=difference, low=difference - 0.02, high=difference + 0.02)
        return PairedChange(n_samples=1200, n_patients=900, differences={"auroc": change})

    found = find_run(stored_runs(store), run)
    if not passes:
        with pytest.raises(GateFailed, match=r"on 1,200 samples against risk \(a+\), entry 1"):
            promote(store, found, "production", author(), compare=compare, test=passed)
    entry = promote(
        store, found, "production", author(), compare=compare, test=passed, force=not passes
    ).entry
    assert pairs[0] == ((A, "risk"), (run, "risk"))
    assert (entry.gates[0].passed, entry.forced) == (passes, not passes)


def test_without_a_model_in_use_a_champion_gate_passes(store):
    """Without a model in use, a gate against the champion passes. If the comparison is impossible, it fails with the reason."""
    run = plant_against_champion(store)
    assert "shows no model" in promoted(store, run, channel="staging").entry.gates[0].detail
    promoted(store, A)

    def impossible(*_):
        return PairedChange(n_samples=0, n_patients=0, reason="the runs share no sample")

    found = find_run(stored_runs(store), run)
    for compare, words in ((impossible, "share no sample"), (None, "cannot be compared here")):
        with pytest.raises(GateFailed, match=words):
            promote(store, found, "production", author(), compare=compare, test=passed)


def test_passed_gates_are_on_record(store):
    """Passed gates are in the entry, so that an auditor sees the requirements."""
    plant_run(store, "d" * 16, gates=GATES[:1])
    entry = promoted(store, "d" * 16).entry

    assert (entry.forced, entry.gates[0].gate) == (False, "AUROC at least 0.5")


@pytest.fixture
def signer(tmp_path, monkeypatch):
    """Return a signer whose public key is required for promotion and scoring from now on."""
    pytest.importorskip("model_signing")
    private, public, _ = write_key(tmp_path, "own")
    monkeypatch.setenv("MLHO_VERIFY_KEY", str(public))
    return partial(sign_files, key=private)


def test_with_a_key_only_signed_models_are_promoted_and_scored(store, signer, monkeypatch, tmp_path):
    """With a key configured, unsigned models and models signed with another key are neither promoted nor scored. The error has the remedy."""
    with pytest.raises(BundleError, match=r"not signed.*--sign-key"):
        promoted(store, A)
    with pytest.raises(BundleError, match=r"run:a+: not signed"):
        shown(store, f"run:{A}")
    wrong = partial(sign_files, key=write_key(tmp_path, "wrong")[0])
    run = find_run(stored_runs(store), A)
    with pytest.raises(BundleError, match="no valid signature"):
        promote(store, run, "production", author(), signer=wrong, test=passed)
    assert list(store.keys("channels/")) == list(store.keys("signatures/")) == []
    entry = promote(store, run, "production", author(), signer=signer, test=passed).entry

    assert shown(store).digest == entry.bundle
    n_signatures = len(list(store.keys("signatures/")))
    assert not promote(store, run, "production", author(), signer=signer, test=passed).is_new
    assert len(list(store.keys("signatures/"))) == n_signatures
    monkeypatch.setenv("MLHO_VERIFY_KEY", str(write_key(tmp_path, "third")[1]))
    with pytest.raises(BundleError, match="no valid signature"):
        shown(store)


def test_a_model_in_use_can_be_signed_afterwards(store, signer, monkeypatch):
    """Promoting the model in use with a key adds a signature and no entry."""
    monkeypatch.delenv("MLHO_VERIFY_KEY")
    promoted(store, A)
    run = find_run(stored_runs(store), A)
    assert not promote(store, run, "production", author(), signer=signer, test=passed).is_new

    assert [model.n_signatures for model in stored_models(store)[0] if model.run == A] == [1]


def test_a_signature_beside_a_folder_counts(store, signer, tmp_path):
    """A signature file beside a folder is accepted, for a bundle that was signed elsewhere with the library's own command."""
    folder = tmp_path / "bundle"
    files = {
        name: store.get(run_key(A, f"bundle/{name}"))
        for name in ("bundle.json", "bundle.sha256", "model/model.json")
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match="not signed"):
        shown(store, str(folder))
    (tmp_path / "bundle.sig").write_bytes(signer(files))

    assert shown(store, str(folder)).files == files


def test_a_damaged_bundle_is_not_promoted(store):
    """A bundle with one flipped bit is not promoted."""
    key = run_key(A, "bundle/model/model.json")
    content = bytearray(store.get(key))
    content[3] ^= 4
    store.delete(key)
    store.put_if_absent(key, bytes(content))

    with pytest.raises(BundleError, match="damaged"):
        promoted(store, A)
    assert list(store.keys("channels/")) == []


def test_a_bundle_that_is_not_that_of_the_result_is_not_promoted(store):
    """Gates are those of the result. A whole bundle of another run in the folder of the run has none of them."""
    for name in ("bundle.json", "bundle.sha256", "model/model.json"):
        key = run_key(A, f"bundle/{name}")
        store.delete(key)
        store.put_if_absent(key, store.get(run_key(B, f"bundle/{name}")))

    with pytest.raises(BundleError, match=r"run a+: its bundle is not the one that its result describes"):
        promoted(store, A)

    assert read_channel(store, "production").head is None


def test_a_rollback_undoes_promotions_one_by_one(store):
    """Each rollback restores the previous model. A rollback is itself an entry and can be undone by number."""
    for run in (A, B, C):
        promoted(store, run)
    back = [roll_back(store, "production", author(), test=passed).entry for _ in range(2)]

    assert [(entry.number, entry.restores, entry.run) for entry in back] == [(4, 2, B), (5, 1, A)]
    with pytest.raises(SpecError, match="no earlier model to go back to"):
        roll_back(store, "production", author(), test=passed)
    assert roll_back(store, "production", author(), to=4, test=passed).entry.run == B
    # Entry 6 restores entry 4, which restores entry 2: the model before it is that of entry 1.
    assert roll_back(store, "production", author(), test=passed).entry.run == A
    assert not roll_back(store, "production", author(), to=1, test=passed).is_new
    with pytest.raises(SpecError, match="no entry 99"):
        roll_back(store, "production", author(), to=99, test=passed)


class Stopped(BaseException):
    """Stands for the end of a killed process."""


class Killed(MemoryStore):
    """A store that stops at the n-th write."""

    left = 10**6

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if self.left == 0:
            raise Stopped
        self.left -= 1
        return super().put_if_absent(key, data)


def test_a_rollback_of_a_channel_without_a_model_names_the_channels(store):
    """A misspelled name is the likely cause, not a channel at its first model."""
    promoted(store, A)
    for to in (None, 1):
        with pytest.raises(
            SpecError, match=r"channel prod: no model was promoted to it\. The store has: production\."
        ):
            roll_back(store, "prod", author(), to=to, test=passed)


def test_a_run_of_another_kind_is_named_as_such(store):
    """A scoring run is in the store, so that its name is not unknown; it has no model."""
    runs = [replace(run, kind="ScoringRun") if run.run_id == A else run for run in stored_runs(store)]

    with pytest.raises(SpecError, match=rf"run {A} \(risk\): is a ScoringRun\. Expected a TrainingRun"):
        find_run(runs, A, kind=("TrainingRun",))


@pytest.mark.parametrize("n_writes", range(5))
def test_a_killed_promotion_shows_the_old_model_or_the_new_one_whole(n_writes):
    """After a kill at any write, the channel has either the old or the new model in full, and the same command completes the promotion."""
    store = Killed()
    plant_run(store, A)
    digest = plant_run(store, B)
    promoted(store, A)
    store.left = n_writes
    if n_writes < 4:  # three files and the entry
        with pytest.raises(Stopped):
            promoted(store, B)
        store.left = 10**6
        assert shown(store).digest == live_entry(store, "production").bundle != digest
    assert promoted(store, B).entry.bundle == shown(store).digest == digest


def _promote(root, run, barrier, outcomes):
    store = LocalStore(root)
    barrier.wait()
    try:
        outcomes.put(("won", promoted(store, run).entry.run))
    except ChannelMoved as error:
        outcomes.put(("told", str(error)))


def test_two_promotions_at_once(local_store):
    """Of two concurrent promotions, both get an entry or one fails with an error; the log stays valid."""
    plant_run(local_store, A)
    plant_run(local_store, B)
    context = multiprocessing.get_context("fork")
    barrier, outcomes = context.Barrier(2), context.Queue()
    both = [
        context.Process(target=_promote, args=(local_store.root, run, barrier, outcomes)) for run in (A, B)
    ]
    for thread in both:
        thread.start()
    found = [outcomes.get(timeout=GUARD_SECONDS) for _ in both]
    for thread in both:
        thread.join()

    won = [run for outcome, run in found if outcome == "won"]
    assert {entry.run for entry in read_channel(local_store, "production").entries} == set(won)
    assert all("This command changed nothing" in words for outcome, words in found if outcome == "told")


def test_a_second_concurrent_promotion_fails(store, monkeypatch):
    """A promotion fails if another was written after it read the channel."""
    before = read_channel(store, "production")
    promoted(store, A)
    monkeypatch.setattr(scheduler.registry.promotion, "read_channel", lambda *_: before)

    with pytest.raises(ChannelMoved, match="by ann@clinic: promote of risk"):
        promoted(store, B)


def test_a_promoted_model_outlives_its_run(store):
    """A promoted model can be scored and is listed even if its run's files were deleted by hand."""
    promoted(store, A)
    for key in list(store.keys(f"runs/{A}/")):
        store.delete(key)

    assert shown(store).files["model/model.json"] == f"model of {A}".encode()
    (last,) = [model for model in stored_models(store)[0] if model.run == A]
    assert (last.made, last.channels) == (None, ["production"])


def test_a_run_that_a_channel_shows_is_not_deleted(store):
    """A run whose model a channel shows or has recently shown cannot be deleted; other runs can."""
    promoted(store, A)
    promoted(store, B)
    runs = {stored.run_id: stored for stored in stored_runs(store)}

    for run, words in ((A, r"has shown its model \(entry 1\)"), (B, "shows its model")):
        with pytest.raises(SpecError, match=f"channel production {words}"):
            delete_runs(store, [runs[run]], act=True)
    delete_runs(store, [runs[C]], act=True)
    assert {stored.run_id for stored in stored_runs(store)} == {A, B}


def test_the_run_of_a_recalibrated_model_is_not_deleted(store):
    """Without it, an evaluation of the recalibration would not know which labels its model was trained on."""
    spec = yaml.safe_load(store.get(run_key(B, "spec.yaml")))
    spec |= {"kind": "RecalibrationRun", "spec": {"bundle": {"uri": f"run:{A}"}}}
    store.delete(run_key(B, "spec.yaml"))
    store.put_if_absent(run_key(B, "spec.yaml"), yaml.safe_dump(spec).encode())
    runs = {stored.run_id: stored for stored in stored_runs(store)}
    assert delete_runs(store, [runs[A]], act=False).n_files

    promote(store, runs[B], "production", author(), test=passed)

    with pytest.raises(SpecError, match=f"run {B} recalibrates its model, and channel production shows"):
        delete_runs(store, [runs[A]], act=True)


def test_a_damaged_result_hides_no_other_model(store):
    """The other models are listed, and so is the damaged one if a channel shows it. The damaged result is named."""
    bundle = promoted(store, A).entry.bundle
    for run, content in ((A, b"{"), (B, b"{}")):  # no JSON; without fields
        store.delete(run_key(run, "result.json"))
        store.put_if_absent(run_key(run, "result.json"), content)

    models, damaged = stored_models(store)
    assert [(model.run, model.bundle, model.outcome) for model in models[1:]] == [(A, bundle, None)]
    assert (models[0].run, models[0].outcome) == (C, "label")
    assert sorted(words.partition(":")[0] for words in damaged) == [
        run_key(run, "result.json") for run in (A, B)
    ]


@pytest.mark.parametrize("channel", ["staging", "production"])
def test_a_damaged_copy_of_a_model_is_refused_and_replaced_by_a_promotion(store, channel):
    """Scoring rejects a damaged copy of a model. Promoting the run again, to any channel, replaces the copy."""
    digest = promoted(store, A).entry.bundle
    key = model_key(digest, "model/model.json")
    store.delete(key)
    store.put_if_absent(key, b"model of another")

    with pytest.raises(BundleError, match="channel:production"):
        shown(store)
    promoted(store, A, channel=channel)
    assert shown(store).digest == digest


@pytest.mark.parametrize(
    "address", ["channel:production/x", "channel:production/", "channel:production/-1", "channel:"]
)
def test_a_malformed_address_is_refused(store, address):
    """The error for a malformed address has the expected form."""
    promoted(store, A)
    with pytest.raises(SpecError, match=r"expected (channel:NAME|lower-case)"):
        shown(store, address)


def test_the_commands_from_training_to_production_and_back(command, two_runs, old_store):
    """With a real bundle: promotion runs its tests, scoring follows the channel, and the log has every entry."""
    data, root = two_runs[0], old_store.root
    weak = {"tests": {"floors": {"auroc": 0.0}}}  # the models of this small cohort are accepted on purpose
    older, newer = (
        run_inline(data, old_store, {"validation.seed": seed, **weak}).finished.run_id for seed in (7, 8)
    )

    def output_of(*arguments):
        done = command(*arguments, store=root)
        assert done.code == 0, done.err
        return done

    first = json.loads(output_of("promote", older, "--channel", "production", "--why", "first", "--json").out)
    assert (first["changed"], first["number"], first["run"]) == (True, 1, older)
    assert first["tests_passed"] >= 25
    assert "in place of bundle" in output_of("promote", newer, "--channel", "production", "--why", "x").out
    assert "already shows" in output_of("promote", newer, "--channel", "production", "--why", "x").out
    models = {model["run"]: model for model in json.loads(output_of("models", "--json").out)}
    assert (models[newer]["channels"], models[older]["channels"]) == (["production"], [])
    assert models[older]["tests"] == {"passed": first["tests_passed"], "total": first["tests_passed"]}
    back = json.loads(output_of("rollback", "--channel", "production", "--why", "alerts", "--json").out)
    assert (back["restores"], back["bundle"]) == (1, first["bundle"])
    assert "production" in output_of("models").out
    assert "Whole: 3 entries" in output_of("audit", "--channel", "production").out
    output_of("audit", "--includes", back["digest"])
    assert command("audit", "--includes", "0" * 64, store=root).code == 1
    for mistaken, got in ((back["digest"][:12], "another text"), (back["bundle"], "the digest of a bundle")):
        refused = command("audit", "--includes", mistaken, store=root)
        assert (refused.code, f"got {got}" in refused.err) == (2, True)
    assert command("delete", newer, "--yes", store=root).code == 2
    assert "Kept run" in output_of("prune", "--keep", "1", "--older-than", "0h", "--yes").err


def test_gates_change_the_report_only(two_runs, old_store):
    """Gates change only result and report; bundle, figures and tasks are those of the run without gates. A failed gate blocks the promotion."""
    data, _, older, _ = two_runs
    gates = [{"metric": "auroc", "min": 0.01}, {"metric": "auroc", "group": {"sex": "female"}, "min": 0.99}]
    home = run_inline(data, old_store, {"gates": gates})
    before, after = (
        json.loads(old_store.get(run_key(run, "result.json"))) for run in (older, home.finished.run_id)
    )
    page = old_store.get(run_key(home.finished.run_id, "report.html")).decode()

    assert home.kinds() == ["write_report"]
    assert "gates" not in before
    assert [gate["passed"] for gate in after.pop("gates")] == [
        False,
        True,
        False,
    ]  # a model of so few patients fails a test of its bundle
    for result in (before, after):
        for name in ("lineage", "warnings", "made_at", "timing", "inputs"):
            del result[name]
    assert before == after
    assert "AUROC of sex female at least 0.99" in page
    with pytest.raises(GateFailed, match=r"AUROC of sex female at least 0\.99"):
        promoted(old_store, home.finished.run_id)


def test_two_runs_are_compared_from_their_artifacts(two_runs, old_store):
    """The comparison with the champion uses the samples that both runs tested, as ``mlho compare`` does."""
    data, _, older, _ = two_runs
    gates = [{"metric": "auroc", "champion": "production", "minDifference": -1.0}]
    home = run_inline(data, old_store, {"gates": gates, "validation.seed": 8})
    result = json.loads(old_store.get(run_key(home.finished.run_id, "result.json")))
    assert [gate["passed"] for gate in result["gates"]] == [True, None]
    for run in (older, home.finished.run_id):
        entry = promote(
            old_store,
            find_run(stored_runs(old_store), run),
            "production",
            author(),
            compare=partial(paired_change, str(old_store.root)),
            test=passed,
        ).entry

    assert f"samples against small ({older}), entry 1" in entry.gates[1].detail


def test_a_scoring_run_records_the_entry(two_runs, old_store):
    """A scoring run's specification has the entry's channel, number and digest. Later entries do not change it."""

    _, _, older, newer = two_runs
    for run in (older, newer):
        runs = stored_runs(old_store)
        entry = promote(old_store, find_run(runs, run), "production", author(), test=passed).entry
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document({"bundle": {"uri": "channel:production"}})))

    found = with_run_id(spec, old_store).spec.bundle
    assert (found.uri, found.digest) == ("channel:production/2", entry.bundle)
    roll_back(old_store, "production", author(), test=passed)
    again = spec.model_copy(update={"spec": spec.spec.model_copy(update={"bundle": found})})
    assert with_run_id(again, old_store).spec.bundle == found
    assert with_run_id(spec, old_store).spec.bundle.uri == "channel:production/3"


def test_wrong_words_for_the_log_are_refused(command, local_store):
    """An invalid reason or channel name is rejected first. An empty reason is invalid."""
    for why in ("", " ", "a\nb", "x" * 1001):
        done = command("promote", "risk", "--channel", "production", "--why", why, store=local_store.root)
        assert done.code == 2
        assert "--why: expected one line" in done.err
    assert command("promote", "risk", "--channel", "Prod", "--why", "x", store=local_store.root).code == 2
