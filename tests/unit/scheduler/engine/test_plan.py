"""The plan is pure, ordered, and repeats no finished work."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scheduler.engine.plan
from mlho.steps import STEPS
from mlho.steps.base import InputFile, Task
from mlho.steps.records import Commit, StoredFile
from mlho.store.memory import MemoryStore
from scheduler.engine.cost import worker_bytes
from scheduler.engine.plan import Manifest, Plan, plan_cohort, plan_run
from tests.builders import make_spec, make_tables, run_inline, write_tables

MANIFEST = Manifest(
    {
        name: tuple(InputFile(key=f"{name}/{n}", size=10 + n, version=f"{name}{n}") for n in range(count))
        for name, count in {"events": 3, "labels": 1, "demographics": 1, "concepts": 1}.items()
    }
)


def plan_of(
    changes: Mapping[str, Any] | None = None, *, manifest: Manifest = MANIFEST, n_samples: int = 100
) -> Plan:
    return plan_run(make_spec(changes).spec, manifest, n_blocks=2, n_samples=n_samples)


def keys_of(plan: Plan) -> dict[str, str]:
    """Return the key of each task by name, assuming that an artifact's content equals its task's key. Split checks that pass
    have a constant content.
    """
    commits: dict[str, Commit] = {}
    for name, planned in plan.items():
        task = planned.bind(commits)
        file = StoredFile(sha256="held" if task.kind == "check_splits" else task.key, size=1)
        commits[name] = Commit(task=task.key, kind=task.kind, files={"out": file}, seconds=0)
    return {name: commit.task for name, commit in commits.items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after.get(name)}


# Tasks after the ledger. In a real run, the ledger's bytes and these keys do not change if each patient is in one partition.
LEARNED = {"iteration/0001", "iteration/0002", "summary", "performance", "model", "model-tests", "report"}


@pytest.mark.parametrize("n_samples", [100, 10**6], ids=["by iteration", "by fold"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"selection.scope": "iteration"}, {"final.features": "consensus", "validation.folds": 3}],
    ids=["fold", "iteration", "consensus"],
)
def test_every_task_comes_after_what_it_needs(n_samples, changes):
    """The order is topological, and each need is a task of the plan."""
    seen: set[str] = set()
    for name, task in plan_of(changes, n_samples=n_samples).items():
        assert {need for needs in task.needs.values() for need in needs} <= seen, name
        seen.add(name)


def test_the_plan_is_pure():
    """Equal arguments give equal plans."""
    assert plan_of() == plan_of()


def test_a_plan_has_a_task_for_each_partition_block_iteration_and_fold():
    """The number of tasks of each kind is as counted by hand for 3 partitions, 2 blocks, 2 iterations and a final one of 2 folds."""
    kinds = [task.kind for task in plan_of(n_samples=10**6).values()]

    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "balance_ledger": 1,
        "check_leakage": 1,
        "check_quality": 1,
        "check_splits": 1,
        "define_cohort": 1,
        "describe_codes": 1,
        "encode_partition": 3,
        "finish_iteration": 2,
        "fit_final_model": 1,
        "judge_model": 1,
        "merge_dictionary": 1,
        "pack_features": 2,
        "run_fold": 6,
        "select_features": 3,
        "summarize_run": 1,
        "test_model": 1,
        "write_report": 1,
    }


QUICK_TREES = {"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [100]}}
SLOW = {"candidates": [{"classifier": "glmboost"}, {"classifier": "ebm"}], "selection.nFeatures": 200}


@pytest.mark.parametrize(
    ("changes", "n_samples", "is_by_fold"),
    [
        (None, 9_105, False),
        (None, 60_000, False),
        (None, 10**6, True),
        (SLOW, 9_105, True),
        (SLOW, 300, False),
        ({"candidates": [{"classifier": "glmboost"}, QUICK_TREES]}, 9_105, False),
    ],
    ids=["quick", "quick, many", "quick, very many", "slow", "slow, few", "moderate"],
)
def test_the_grain_depends_on_the_cost_of_a_fold(changes, n_samples, is_by_fold):
    """Learning on 9,105 samples is divided by fold if a fold takes seconds, so that the final model is not one long task."""
    kinds = {task.kind for task in plan_of(changes, n_samples=n_samples).values()}

    assert ("run_fold" in kinds) == is_by_fold


CONSENSUS = {"final.features": "consensus", "validation.folds": 3}


@pytest.mark.parametrize(
    ("n_samples", "n_subsamples", "n_final_folds"), [(100, 0, 0), (10**6, 12, 0)], ids=["small", "large"]
)
def test_a_consensus_is_evaluated_by_separate_tasks(n_samples, n_subsamples, n_final_folds):
    """A consensus is evaluated on 3 outer folds and 3 pairs of folds with 2 subsamples each. The folds of a ranking's final
    model are not run.
    """
    plan = plan_of(CONSENSUS, n_samples=n_samples)
    kinds = [task.kind for task in plan.values()]

    assert kinds.count("run_consensus_fold") == 6
    assert kinds.count("run_subsample") == n_subsamples
    assert sum(name.startswith("fold/final") for name in plan) == n_final_folds
    assert plan["performance"].needs["consensus_folds"] == (
        "consensus/00", "consensus/01", "consensus/02", "consensus/00-01", "consensus/00-02", "consensus/01-02",
    )  # fmt: skip
    assert not any(task.kind in ("run_subsample", "run_consensus_fold") for task in plan_of().values())


def test_subsamples_serve_every_threshold_and_final_classifier():
    """A change of the required confidence or of the final classifier reuses the subsamples and repeats only the tasks that follow them."""
    two = {**CONSENSUS, "candidates": [{"classifier": "glmboost"}, {"classifier": "xgboost"}]}
    spec, n_samples = {**two, "final.classifier": "glmboost"}, 10**6
    before = keys_of(plan_of(spec, n_samples=n_samples))
    for change in ({"consensus.minConfidence": 50}, {"final.classifier": "xgboost"}):
        redone = changed(before, keys_of(plan_of({**spec, **change}, n_samples=n_samples)))
        assert {name for name in redone if name.startswith("consensus/")} == {
            name for name in before if name.startswith("consensus/")
        }
        assert not any(name.startswith(("subsample/", "iteration/", "fold/")) for name in redone)


def test_the_first_part_is_the_beginning_of_the_whole():
    """The first part of the plan is a prefix of the whole plan: the cohort's task is the same in both."""
    first = plan_cohort(make_spec().spec, MANIFEST)

    assert list(first) == ["cohort"]
    assert plan_of()["cohort"] == first["cohort"]


def test_every_learning_task_waits_for_the_ledger_and_the_splits():
    """No model is fitted before the checks of the ledger and the splits pass."""
    for task in plan_of(n_samples=10**6).values():
        if task.stage == "learn" and task.kind != "check_splits":
            assert {"ledger", "splits"} <= set(task.needs)


def test_a_task_survives_a_round_trip_through_json():
    """A task can be serialized to JSON and back, and its message has less than 1 KB."""
    plan = plan_of()
    commits = {
        name: Commit(task="0" * 64, kind=planned.kind, files={}, seconds=0) for name, planned in plan.items()
    }
    for planned in plan.values():
        task = planned.bind(commits)
        assert Task.model_validate_json(task.model_dump_json()) == task


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data.uri": "/elsewhere"}, set()),
        ({"consensus.minConfidence": 50}, {"summary", "performance", "model", "model-tests", "report"}),
        ({"final.classifier": "glmboost"}, {"performance", "model", "model-tests", "report"}),
        ({"report.realProfiles": True}, {"summary", "performance", "model", "model-tests", "report"}),
        ({"data.partitionedBy": "patient"}, {"ledger", "leakage", "quality", "splits", *LEARNED}),
    ],
    ids=["uri", "minConfidence", "final", "report", "promise"],
)  # fmt: skip
def test_a_change_repeats_only_the_tasks_that_read_it(changes, expected):
    """A change of a field changes the keys of the tasks that read the field and of those that follow, and no other keys."""
    before = keys_of(plan_of())
    redone = changed(before, keys_of(plan_of(changes)))

    assert redone == expected


def test_more_iterations_keep_the_first_ones():
    """Additional iterations add only their own tasks and the summary."""
    before, after = keys_of(plan_of()), keys_of(plan_of({"validation.iterations": 12}))

    redone = changed(before, after)
    assert not any(
        name.startswith(("iteration/", "pack", "encode", "dictionary", "cohort")) for name in redone
    )
    assert len([name for name in after if name.startswith("iteration/")]) == 12


@pytest.mark.parametrize("section", ["selection.nFeatures", "validation.seed", "validation.folds"])
def test_learning_differently_keeps_the_matrix(section):
    """A change of selection or splits reuses the encoded and packed matrix."""
    redone = changed(keys_of(plan_of()), keys_of(plan_of({section: 5})))

    assert any(name.startswith("iteration/") for name in redone)
    assert not any(
        name.startswith(("pack", "encode", "dictionary", "cohort", "concepts", "ledger")) for name in redone
    )


def test_other_demographics_keep_the_matrix():
    """The tasks for events do not depend on the model's choice of demographics, for the same cohort artifact."""
    before, after = (
        plan_of(changes)["pack/00000"].spec
        for changes in (None, {"features.demographics": ["age"], "features.categorical": ["age"]})
    )

    assert before == after


def test_changed_content_repeats_the_tasks_that_read_it():
    """A new version of one partition repeats that partition's encoding and the following tasks."""
    events = MANIFEST.tables["events"]
    other = Manifest({**MANIFEST.tables, "events": (*events[:2], replace(events[2], version="x"))})
    redone = changed(keys_of(plan_of()), keys_of(plan_of(manifest=other)))

    assert "encode/00002" in redone
    assert {"encode/00000", "encode/00001", "cohort", "concepts"}.isdisjoint(redone)


def test_every_kind_of_the_plan_is_a_step():
    """Every kind of task in the plan is a step. Narrowing a step's specification twice gives the same as once, so that keys
    do not depend on it.
    """
    spec = make_spec(CONSENSUS).spec
    for task in [*plan_of(n_samples=10**6).values(), *plan_of(CONSENSUS, n_samples=10**6).values()]:
        step = STEPS[task.kind]
        narrowed = step.narrow(spec)
        assert narrowed is None or step.narrow(narrowed) == narrowed


def test_recut_data_reuse_everything_after_packing(tmp_path):
    """The same rows in other files are encoded again, and no model is fitted again."""
    tables, store = make_tables(200, seed=8), MemoryStore()
    run_inline(write_tables(tmp_path / "two", tables, partitions=2), store)
    again = run_inline(write_tables(tmp_path / "three", tables, partitions=3, shuffle=1), store)

    assert {"run_iteration", "summarize_run", "fit_final_model", "test_model"}.isdisjoint(again.kinds())
    assert again.kinds().count("encode_partition") == 3


@pytest.mark.parametrize("grain", [1e9, 0.0], ids=["by iteration", "by fold"])
def test_an_added_iteration_is_the_only_one_that_is_learned(grain, tmp_path, monkeypatch):
    """In a real store, one additional iteration runs only its own learning tasks."""
    monkeypatch.setattr(scheduler.engine.plan, "FOLD_TASK_SECONDS", grain)
    data, store = write_tables(tmp_path, make_tables(200, seed=8)), MemoryStore()
    run_inline(data, store)
    again = run_inline(data, store, {"validation.iterations": 3})

    assert {task.params["iteration"] for task in again.submitted if "iteration" in task.params} == {3}


def test_a_kept_promise_redoes_nothing_learned(tmp_path):
    """The declaration `partitionedBy: patient` is verified and changes no artifact that models are learned from."""
    data, store = write_tables(tmp_path, make_tables(200, seed=8), by_patient=True), MemoryStore()
    run_inline(data, store)
    again = run_inline(data, store, {"data.partitionedBy": "patient"})

    assert again.kinds() == ["balance_ledger", "write_report"]


def test_moved_data_redo_nothing(tmp_path):
    """The same files in another folder give the same run id and run nothing."""
    tables, store = make_tables(200, seed=8), MemoryStore()
    first = run_inline(write_tables(tmp_path / "here", tables), store)
    Path(tmp_path / "here").rename(tmp_path / "there")
    again = run_inline(tmp_path / "there", store)

    assert again.finished.run_id == first.finished.run_id
    assert again.kinds() == []


def test_a_title_changes_only_the_task_of_the_report():
    """A title changes only the report's task. Without a title, the task's parameters do not change."""
    spec, manifest = make_spec().spec, MANIFEST
    plain = plan_run(spec, manifest, n_blocks=2, n_samples=100)
    titled = plan_run(spec, manifest, n_blocks=2, n_samples=100, about={"title": "Readmission"})

    assert [name for name, planned in plain.items() if planned != titled[name]] == ["report"]
    assert titled["report"].params == {"about": {"title": "Readmission"}}


def test_the_estimated_memory_is_near_the_measured_one_and_grows_in_proportion():
    """The estimated memory is within 25 % of the measured 536 MB for 250,000 patients and 52 M rows of presence, and grows
    in proportion to the rows.
    """
    spec = make_spec({"features": {"aggregates": ["presence"]}}).spec
    none, some, many = (
        worker_bytes(spec, n_samples=max(1, n * 250_000), n_events=n * 52_400_000) for n in (0, 1, 4)
    )

    assert 0.8 * 536e6 < some < 1.25 * 536e6
    assert many - none == pytest.approx(4 * (some - none), rel=1e-3)


BY_RULE = {
    "data.tables.labels": None,
    "cohort.index": None,
    "cohort.rules": {"entry": {"codes": ["A"]}, "outcome": {"codes": ["B"], "toDays": 30}},
}


def test_rules_make_the_labels_from_every_partition():
    """With a cohort by rule, each events file has a task, one task joins them, and the cohort reads the resulting labels
    instead of a labels table.
    """
    tables = {name: files for name, files in MANIFEST.tables.items() if name != "labels"}

    plan = plan_of(BY_RULE, manifest=Manifest(tables))

    extracted = tuple(f"rules/{number:05d}" for number in range(3))
    assert [plan[name].sources for name in extracted] == [(file,) for file in tables["events"]]
    assert plan["labels"].needs == {"events": extracted}
    assert plan["labels"].sources == tables["demographics"]
    assert plan["cohort"].needs == {"labels": ("labels",)}


def test_rules_change_the_keys_of_the_tasks_that_read_them_only():
    """A change of a rule changes only the tasks that read the rules. Later keys depend on the resulting labels, assumed equal here."""
    tables = {name: files for name, files in MANIFEST.tables.items() if name != "labels"}
    other = {
        **BY_RULE,
        "cohort.rules": {"entry": {"codes": ["A", "A"]}, "outcome": {"codes": ["B"], "toDays": 30}},
    }
    plans = [plan_of(definition, manifest=Manifest(tables)) for definition in (BY_RULE, other)]

    specs = [{name: task.spec for name, task in plan.items()} for plan in plans]

    differing = {name for name in specs[0] if specs[0][name] != specs[1][name]}
    assert differing == {"rules/00000", "rules/00001", "rules/00002", "labels", "report"}
