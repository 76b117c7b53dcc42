"""Evolving phenotypes: new codes in windows after the index date, by group, from the specification to the figure."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from mlho.errors import SpecError
from mlho.model.bundle import load_bundle
from mlho.spec.expansion import expand
from mlho.spec.training import parse_spec
from mlho.store.memory import MemoryStore
from scheduler.cli.parser import main
from tests.builders import DAY_US, Tables, make_document, make_spec, run_inline, write_spec, write_tables

WINDOWS = [[0, 90], [90, 180]]
GROUPS = [{"name": "women", "sex": ["female"]}, {"name": "old", "age": {"atLeast": 60}}]
EVOLUTION = {"evolution": {"windows": WINDOWS, "pastDays": 700, "groups": GROUPS}}
INDEX_US = 18_000 * DAY_US
N = 400


def planted(seed: int = 3) -> Tables:
    """Return patients with and without the exposure.

    EARLY follows the exposure in the first window, LATE in the second, LASTING in both, and OFWOMEN in the first, for women only. OLD is recorded
    in both windows and in the past of everyone, so it is never new. Noise is independent of the exposure.
    """
    rng = np.random.default_rng(seed)
    ids = np.array([f"p{number:04d}" for number in range(N)])
    exposed, is_woman = rng.random(N) < 0.5, rng.random(N) < 0.5
    rows: list[tuple[str, int, str]] = []

    def add(code, who, low, high):
        rows.extend(
            (ids[i], INDEX_US + int(rng.integers(low, high)) * DAY_US, code) for i in np.flatnonzero(who)
        )

    def often(share, otherwise=0.08):
        return rng.random(N) < np.where(exposed, share, otherwise)

    add("EARLY", often(0.6), 5, 85)
    add("LATE", often(0.6), 95, 175)
    add("LASTING", often(0.7), 5, 85)
    add("LASTING", often(0.7), 95, 175)
    add("OFWOMEN", often(0.7) & is_woman, 5, 85)
    add("OLD", np.ones(N, np.bool_), -300, -10)
    add("OLD", exposed, 5, 85)
    add("OLD", exposed, 95, 175)
    for number in range(8):
        for low, high in ((-600, -5), (5, 85), (95, 175)):
            add(f"N{number}", rng.random(N) < 0.2, low, high)
    patient, time, code = zip(*rows, strict=True)
    events = pa.table(
        {
            "patient_id": list(patient),
            "time": pa.array(time, pa.timestamp("us")),
            "code": list(code),
            "numeric_value": pa.nulls(len(rows), pa.float64()),
        }
    )
    labels = pa.table(
        {
            "patient_id": ids,
            "index_date": pa.array([INDEX_US] * N, pa.timestamp("us")),
            "label": exposed.astype(np.int8),
        }
    )
    persons = pa.table(
        {
            "patient_id": ids,
            "age": pa.array(rng.uniform(40, 80, N).round(1)),
            "sex": np.where(is_woman, "female", "male"),
        }
    )
    concepts = pa.table(
        {
            "code": ["LATE"],
            "description": ["Late effect"],
            "low": pa.nulls(1, pa.float64()),
            "high": pa.nulls(1, pa.float64()),
        }
    )
    return Tables(events, labels, persons, concepts)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Write the planted cohort, with the events of a patient in two files."""
    return write_tables(tmp_path_factory.mktemp("data"), planted())


def test_a_document_with_windows_is_one_specification_of_each_window_and_group():
    """The specifications of everyone come first. Each has the window as ``features.after`` and the group as ``cohort.only``."""
    specs = expand(make_spec(EVOLUTION))

    assert [spec.metadata.name for spec in specs] == [
        f"small-{window}{group}" for group in ("", "-women", "-old") for window in ("0-90", "90-180")
    ]
    after = specs[1].spec.features.after
    assert (after.from_days, after.to_days, after.past_days) == (90, 180, 700)
    assert (specs[0].spec.cohort.only, specs[3].spec.cohort.only.sex) == (None, ("female",))
    assert specs[5].spec.cohort.only.age.at_least == 60
    assert not specs[0].spec.predicts
    assert len({spec.digest for spec in specs}) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evolution": {"windows": [[90, 30]]}}, "must start before it ends"),
        ({"evolution": {"windows": [[90, 180], [0, 90]]}}, "windows must be ascending"),
        ({"evolution": {"windows": [[0, 90]], "groups": [{"name": "a"}]}}, "give sex, age or both"),
        ({**EVOLUTION, "cohort.outcomes": ["a", "b"]}, r"evolution and cohort\.outcomes exclude each other"),
        ({**EVOLUTION, "cohort.lookBackDays": 30}, r"features\.after excludes cohort\.lookBackDays"),
        ({**EVOLUTION, "features.windows": [30]}, "after and windows exclude each other"),
        ({**EVOLUTION, "data.duplicates": "drop"}, r"features\.after excludes data\.duplicates"),
        ({**EVOLUTION, "cohort.index": {"none": True}}, r"features\.after requires an index date"),
        ({**EVOLUTION, "cohort.only": {"sex": ["female"]}}, r"sets features\.after and cohort\.only itself"),
    ],
)
def test_windows_that_make_no_sense_are_refused(changes, message):
    """Invalid windows are refused in the document, or by the checks of a window's specification."""
    with pytest.raises(SpecError, match=message):
        expand(parse_spec(yaml.safe_dump(make_document(changes))))


def test_sequences_that_are_not_enabled_are_the_same_as_none():
    """``sequences: {enabled: false}`` has the same effect as omitting it, also in a window after the index date."""
    (spec, *_) = expand(parse_spec(yaml.safe_dump(make_document(EVOLUTION))))
    disabled = {**EVOLUTION, "features.sequences": {"enabled": False}}

    assert expand(parse_spec(yaml.safe_dump(make_document(disabled))))[0].digest == spec.digest
    with pytest.raises(SpecError, match="after and sequences exclude each other"):
        expand(parse_spec(yaml.safe_dump(make_document({**EVOLUTION, "features.sequences": {}}))))


def present(home, code: str) -> set[str]:
    """Return the patients of a finished run who have the feature of a code, from its matrix."""
    from mlho.encoding.cohort.cohort import Cohort
    from mlho.encoding.events.dictionary import Dictionary
    from mlho.encoding.events.sequences import open_matrix
    from mlho.steps.base import Artifact
    from mlho.steps.records import read_commit

    store = home.run.store
    artifacts = {task.kind: Artifact(store, read_commit(store, task.key)) for task in home.submitted}
    cohort = Cohort.read(artifacts["define_cohort"].path("cohort.arr"))
    dictionary = Dictionary.read(artifacts["merge_dictionary"].path("dictionary.arr"))
    matrix = open_matrix(
        home.run.spec.spec, [artifacts["pack_features"].path("block.arr")], cohort, n_codes=len(dictionary)
    )
    block = matrix.column_block([int(dictionary.ids_of([code])[0])], numbers=[None])
    return {cohort.patient_ids[cohort.patient_of[sample]] for sample in block.indices.tolist()}


def expected(tables: Tables, code: str, window, past: int | None) -> set[str]:
    """Return the same patients by the definition, event by event."""
    end = INDEX_US + DAY_US - 1  # a date includes its whole day
    occurrences = [
        (patient, time)
        for patient, time, what in zip(
            tables.events["patient_id"].to_pylist(),
            tables.events["time"].cast(pa.int64()).to_pylist(),
            tables.events["code"].to_pylist(),
            strict=True,
        )
        if what == code
    ]
    begin = -np.inf if past is None else end - past * DAY_US
    before = {patient for patient, time in occurrences if begin < time <= end}
    return {p for p, t in occurrences if end + window[0] * DAY_US < t <= end + window[1] * DAY_US} - before


@pytest.mark.parametrize(("window", "past"), [((0, 90), 700), ((90, 180), 200), ((90, 180), None)])
def test_a_code_is_present_if_it_is_new_in_the_window(data, window, past):
    """The feature agrees with the definition, event by event, for a past of some days and for all history."""
    after = {"fromDays": window[0], "toDays": window[1], **({} if past is None else {"pastDays": past})}
    home = run_inline(data, MemoryStore(), {"features.after": after, "features.demographics": None})

    for code in ("EARLY", "OLD", "N0", "N5"):
        assert present(home, code) == expected(planted(), code, window, past), code
    assert present(home, "OLD") == set() or past == 200


def test_the_bundle_of_a_window_scores_as_in_training_and_says_that_it_does_not_predict(data, tmp_path):
    """In scoring as in training, a code of the past and an event after the window do not count."""
    home = run_inline(data, tmp_path / "store", {"features.after": {"fromDays": 0, "toDays": 90}})
    bundle = load_bundle(tmp_path / "store" / "runs" / home.finished.run_id / "bundle")
    assert not bundle.document.predictive
    assert [selftest.name for selftest in bundle.run_tests(measured=False) if not selftest.passed] == []
    result = json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    assert not result["predictive"]
    page = home.run.store.get(f"runs/{home.finished.run_id}/report.html").decode()
    assert "1 to 90 days after the index date" in page

    import pandas as pd

    def score(*events):
        frame = pd.DataFrame(
            [("p", pd.Timestamp("2019-04-14") + pd.Timedelta(days=days), "EARLY", np.nan) for days in events],
            columns=["patient_id", "time", "code", "numeric_value"],
        ).astype({"time": "datetime64[us]", "numeric_value": "float64"})
        persons = pd.DataFrame({"patient_id": ["p"], "age": [60.0], "sex": ["female"]})
        index = pd.DataFrame({"patient_id": ["p"], "index_date": [pd.Timestamp("2019-04-14")]})
        return bundle.predict_events(frame, index, persons)["probability"].item()

    assert score(30) != score(-5, 30)
    with pytest.warns(UserWarning, match="None of 1 event row is used"):
        unused = score(120)
    assert score(-5, 30) == unused


def test_the_command_finds_which_phenotypes_follow_and_when(data, tmp_path, capsys):
    """EARLY is stable in the first window only, LATE in the second, LASTING in both, and OLD, which is not new, in none."""
    spec = write_spec(
        tmp_path,
        {
            "evolution": {"windows": WINDOWS, "groups": GROUPS[:1]},
            "validation.iterations": 5,
            "validation.bootstrapReplicates": 0,
        },
        uri=str(data),
    )
    command = ["run", str(spec), "--store", str(tmp_path / "store"), "--workers", "1", "--progress", "none"]

    assert main(command) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "Everyone:" in output
    assert "Samples with the outcome" in output  # as the number is of samples, also if a patient has several
    place = re.search(r"evolution (\S+)\.html", output)[1]
    found = json.loads(Path(f"{place}.json").read_text())
    stable = {
        feature["code"]: [
            cell["window"] for cell in feature["cells"] if cell["group"] == "everyone" and cell["is_stable"]
        ]
        for feature in found["features"]
    }
    assert stable["EARLY"] == ["1–90 days"]
    assert stable["LATE"] == ["91–180 days"]
    assert stable["LASTING"] == ["1–90 days", "91–180 days"]
    assert "OLD" not in stable
    women = {
        feature["code"]: [cell for cell in feature["cells"] if cell["group"] == "women"]
        for feature in found["features"]
    }
    first, second = women["OFWOMEN"]
    assert (first["is_stable"], second["confidence"]) == (True, None)
    assert first["odds_ratio"]["low"] > 1
    assert [run["n_patients"] for run in found["runs"]][:2] == [N, N]
    assert found["runs"][2]["n_patients"] < N
    page = Path(f"{place}.html").read_text()
    assert page.count("<svg") == 4  # for each group, wide and for a phone
    assert "Late effect (LATE)" in page


def test_a_subgroup_needs_its_columns_among_the_demographics(data):
    """If the column of a subgroup is not a demographic, the message names the field, and the filter is not ignored silently."""
    with pytest.raises(SpecError, match=r"cohort\.only: sex is not among the demographics"):
        run_inline(
            data, MemoryStore(), {"cohort.only": {"sex": ["female"]}, "features.demographics": ["age"]}
        )


def test_a_group_without_samples_is_named_by_its_run(data, tmp_path, capsys):
    """If a group has no samples, the error names its run, and no run of the document starts."""
    groups = [{"name": "absent", "sex": ["unknown level"]}]
    changes = {"evolution": {"windows": WINDOWS[:1], "groups": groups}, "validation.bootstrapReplicates": 0}
    spec = write_spec(tmp_path, changes, uri=str(data))
    command = ["run", str(spec), "--store", str(tmp_path / "store"), "--workers", "1", "--progress", "none"]

    assert main(command) == SpecError.exit_code
    output = " ".join(capsys.readouterr().err.split())
    assert "Not started, because of small-0-90-absent: error: cohort.only.sex" in output
