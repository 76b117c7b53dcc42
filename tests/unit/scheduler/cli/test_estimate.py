"""The estimated cost of a plan, from the specification, the manifest and the numbers of label and event rows."""

import io

import pytest
from rich.console import Console

from mlho.inspection.findings import Inspection
from mlho.sources.counting import RowCount
from mlho.steps.base import InputFile
from scheduler.cli.estimate import (
    Rows,
    estimate,
    look_up_rows,
    outcome_window_sentences,
    sample_size_of,
)
from scheduler.engine.cost import learning_seconds, model_seconds, stage_seconds
from scheduler.engine.manifest import make_manifest
from scheduler.engine.plan import Manifest
from tests.builders import make_spec, make_tables, write_tables

SLOW = {"candidates": [{"classifier": "glmboost"}, {"classifier": "ebm"}], "selection.nFeatures": 200}


def shown(n_samples: int, n_events: int = 100_000, changes=None, *, n_workers: int = 1) -> str:
    tables = {name: (InputFile(key=name, size=1000, version="0"),) for name in ("events", "labels")}
    rows = Rows(RowCount(n_samples, "counted"), RowCount(n_events, "from size and a sample of rows"))
    out = io.StringIO()
    table = estimate(make_spec(changes), Manifest(tables), rows, n_workers=n_workers)
    Console(file=out, width=120).print(table.table())
    return out.getvalue()


def total_of(text: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith("all")]
    return [cell.strip() for cell in line.replace("│", "|").split("|")]


def test_a_small_run_is_seconds():
    """A run with 300 samples is estimated at a few seconds, and the table has every stage."""
    text = shown(300)

    for words in ("cohort", "reading events", "packing features", "selecting and fitting", "report", "all"):
        assert words in text
    assert total_of(text)[2:] == ["2.0 kB", "7 s"]


def test_the_estimate_names_its_row_counts():
    """The estimate names the row counts of labels and events that it is based on, and how they were determined."""
    text = " ".join(shown(9_105, 2_000_000, n_workers=4).split())

    assert "4 workers, each with about " in text
    assert "Rests on 9,105 rows of labels (counted)" in text
    assert "2,000,000 of events (from size and a sample of rows)" in text


def test_slow_classifiers_on_few_samples_take_minutes():
    """An EBM with its defaults on 9,105 samples takes minutes in tasks by fold, independent of the size of the events."""
    _, n_tasks, _, about = total_of(shown(9_105, changes={**SLOW, "validation.iterations": 20}))

    assert "min" in about
    assert int(n_tasks) > int(total_of(shown(9_105))[1])


def test_a_model_on_the_consensus_is_counted_with_its_evaluation():
    """A model on the consensus adds six tasks for held-out sets of folds to the table and its total."""
    ranked, consensus = (
        total_of(shown(300, changes={"validation.folds": 3, "final.features": features}))
        for features in ("ranking", "consensus")
    )

    assert int(consensus[1]) == int(ranked[1]) + 6


def test_the_estimate_has_cpu_hours_and_stored_bytes():
    """The estimated core hours do not depend on the number of workers; the stored bytes grow with the rows."""
    few, many = (" ".join(shown(10**5, 10**8, n_workers=n).split()) for n in (1, 16))

    hours = [text.partition("About ")[2].partition(" in the store")[0] for text in (few, many)]
    assert hours[0] == hours[1]
    assert hours[0].endswith("GB")
    assert " core hours, and up to " in hours[0]


@pytest.mark.parametrize(
    ("n_samples", "n_events", "n_features", "sequences", "learn", "model"),
    [
        (3_000, 75_000, 50, {}, 0.31, 0.22),
        (3_000, 75_000, 200, {}, 0.58, 0.42),
        (3_000, 300_000, 50, {}, 1.04, 0.66),
        (12_000, 1_200_000, 50, {}, 3.40, 2.10),
        (3_000, 300_000, 50, {"durations": ["mean"]}, 6.68, 3.95),
    ],
)
def test_sequences_take_the_measured_time_within_a_factor_of_two(
    n_samples, n_events, n_features, sequences, learn, model
):
    """The additional seconds of sequences are about those measured for one iteration with two folds, and for the final model."""

    def seconds(changes):
        stated = {
            "validation.iterations": 1,
            "validation.folds": 2,
            "selection.nFeatures": n_features,
            **changes,
        }
        spec = make_spec(stated).spec
        return stage_seconds(spec, n_samples=n_samples, n_events=n_events, is_by_fold=False)

    plain, ordered = seconds({}), seconds({"features.sequences": sequences})

    for stage, measured in (("learn", learn), ("model", model)):
        added = ordered[stage] - plain[stage]
        assert measured / 2 <= added <= measured * 2


def test_sequences_of_a_shared_encoding_are_counted():
    """A run that shares an encoding of another still selects its own sequences."""
    tables = {name: (InputFile(key=name, size=1000, version="0"),) for name in ("events", "labels")}
    rows = Rows(RowCount(10_000, "counted"), RowCount(2_000_000, "counted"))
    spec = make_spec({"features.sequences": {}})

    def of_learning(*, is_shared: bool) -> float | None:
        found = estimate(spec, Manifest(tables), rows, n_workers=1, is_shared=is_shared)
        return {stage.stage: stage.seconds for stage in found.stages}["learn"]

    assert of_learning(is_shared=True) == of_learning(is_shared=False)


BY_RULES = {
    "data.tables.labels": None,
    "cohort.index": None,
    "cohort.rules": {"entry": {"codes": ["I10"]}, "outcome": {"codes": ["E11"], "toDays": 90}},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"validation.split": "temporal"}, ["Outcome window: cohort.followUpDays is not given"]),
        (
            {"validation.split": "temporal", "cohort.followUpDays": 60},
            ["Outcome window: 60 days (cohort.followUpDays); samples"],
        ),
        (
            {**BY_RULES, "validation.split": "temporal"},
            ["Outcome window: 90 days (cohort.rules.outcome.toDays); samples"],
        ),
        (
            {**BY_RULES, "validation.temporalCheck": True},
            ["Outcome window: 90 days (cohort.rules.outcome.toDays); samples"],
        ),
    ],
    ids=["drawn", "not given", "given", "by rules", "temporal check"],
)
def test_a_plan_states_the_outcome_window_of_a_split_by_date(changes, expected):
    """Samples that the window takes out of training should not surprise, so the plan names the field that it is from."""
    found = outcome_window_sentences(make_spec(changes).spec)

    assert [sentence[: len(words)] for sentence, words in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("n_patients", "n_positive", "expected"),
    [
        (
            10_000,
            960,
            "4.7 events per candidate feature (203: at most selection.nFeatures, and the demographics)",
        ),
        (10_000, 960, "ask for 24,959 patients: 24,959 for a shrinkage"),
        (
            10_000,
            960,
            "The sample is too small. This sample supports 81 candidate features, including the demographics: lower",
        ),
        (
            30_000,
            2_880,
            "The sample is large enough for features chosen beforehand; the run chooses them by the outcome, which needs more patients.",
        ),
        (300, 5, "too few patients with, or without, the outcome"),
        (300, 300, "too few patients with, or without, the outcome"),
    ],
)
def test_the_sample_size_is_assessed(n_patients, n_positive, expected):
    """The sample size is assessed by events per candidate feature and the criteria of Riley et al. Small cells are not shown."""
    spec = make_spec({"selection.nFeatures": 200, "features.demographics": ["age", "sex", "race"]}).spec

    verdict = sample_size_of(spec, Inspection(size=(n_patients, n_positive)))
    assert expected in verdict.sentences
    assert verdict.is_too_small is (n_patients == 10_000)


def test_more_workers_take_less_time():
    """More workers shorten the estimate of a large run, but not that of a run with few tasks."""
    assert shown(10**6) != shown(10**6, n_workers=4)
    assert total_of(shown(300, n_workers=4)) == total_of(shown(300, n_workers=8))


def test_a_grid_costs_its_longest_fits():
    """Shorter boosts are prefixes of the longest one and cost nothing. Deeper trees, more penalties and more samples cost more."""

    def seconds(grid, name="glmboost", n=10_000):
        candidates = [{"classifier": "glmboost", "grid": {"nSteps": [1]}}] if name != "glmboost" else []
        spec = make_spec({"candidates": [*candidates, {"classifier": name, "grid": grid}]}).spec
        return learning_seconds(spec, n) + model_seconds(spec, n)

    assert seconds({"nSteps": [50, 100, 150]}) == seconds({"nSteps": [150]}) > seconds({"nSteps": [50]})
    assert seconds({"maxDepth": [4]}, "xgboost") > seconds({"maxDepth": [2]}, "xgboost")
    assert seconds({"c": [0.1, 1.0]}, "elasticnet") > seconds({"c": [0.1]}, "elasticnet")
    assert seconds({"nBags": [8]}, "ebm") > seconds({"nBags": [4]}, "ebm")
    assert seconds({}, n=20_000) == pytest.approx(2 * seconds({}), rel=1e-3)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_rows_are_counted_in_the_files(suffix, tmp_path):
    """Rows of labels and events are found for every file format of a folder; small files are counted."""
    tables = make_tables(200, seed=1)
    write_tables(tmp_path, tables, partitions=3, suffix=suffix)
    names = {f"data.tables.{name}": f"{name}{suffix}" for name in ("labels", "demographics", "concepts")}
    manifest = make_manifest(make_spec(names).spec.data.tables, tmp_path)

    assert look_up_rows(manifest, tmp_path) == Rows(
        RowCount(tables.labels.num_rows, "counted"), RowCount(tables.events.num_rows, "counted")
    )
