"""The synthetic cohort: its tables and its truth, independent of how it is written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlho.errors import DataError, SpecError
from mlho.synthetic import Truth, is_complete, make_cohort, read_truth
from mlho.synthetic.__main__ import main
from mlho.synthetic.verdict import judge

N_PATIENTS = 4_000
TABLES = ("events", "labels", "demographics")


def read(folder: Path, table: str) -> pd.DataFrame:
    """Return a table of a cohort with its rows in a fixed order."""
    files = sorted((folder / table).rglob("*.parquet"))
    rows = pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files])
    return rows.sort_values(list(rows.columns), ignore_index=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Return a cohort with enough patients to measure the planted frequencies."""
    folder = tmp_path_factory.mktemp("cohort")
    return folder, make_cohort(
        folder, n_patients=N_PATIENTS, n_codes=400, n_partitions=3, seed=5, rows_per_patient=40
    )


def test_tables_have_the_columns_and_types_of_dbmart(cohort: tuple[Path, Truth]) -> None:
    """Tables have R MLHO's column names; codes are text, times are naive timestamps, and dates are dates."""
    folder, _ = cohort
    schemas = {table: pq.read_schema(folder / table / "part-0000.parquet") for table in TABLES}
    assert dict(zip(schemas["events"].names, schemas["events"].types, strict=True)) == {
        "patient_num": pa.int64(),
        "start_date": pa.timestamp("ms"),
        "phenx": pa.string(),
        "value": pa.float32(),
    }
    assert schemas["labels"].names == ["patient_num", "index_date", "outcome", "outcome_date", "true_risk"]
    assert schemas["labels"].field("index_date").type == pa.date32()
    assert schemas["demographics"].names == [
        *("patient_num", "sex", "race", "site", "birth_date", "enrol_start", "enrol_end")
    ]


def test_every_patient_is_in_one_partition_with_a_label_and_demographics(cohort: tuple[Path, Truth]) -> None:
    """Patients 1 to n each have one row in labels and in demographics, and their events are in one file."""
    folder, truth = cohort
    for table in ("labels", "demographics"):
        assert sorted(read(folder, table).patient_num) == list(range(1, N_PATIENTS + 1))
    files = sorted((folder / "events").glob("*.parquet"))
    patients = [set(pq.read_table(file)["patient_num"].to_pylist()) for file in files]
    assert len(files) == 3
    assert sum(map(len, patients)) == len(set.union(*patients)) == N_PATIENTS
    assert truth.n_rows == len(read(folder, "events"))
    assert truth.n_positive == read(folder, "labels").outcome.sum()


def test_other_partitions_and_workers_give_the_same_rows(tmp_path: Path) -> None:
    """Partitions and number of workers do not change the rows, because the random stream belongs to a batch of patients."""
    size = {"n_patients": 130, "n_codes": 200, "rows_per_patient": 20}
    one = make_cohort(tmp_path / "one", **size, n_partitions=1)
    many = make_cohort(tmp_path / "many", **size, n_partitions=5, n_workers=2)
    other = make_cohort(tmp_path / "other", **size, n_partitions=1, seed=8)
    for table in TABLES:
        pd.testing.assert_frame_equal(read(tmp_path / "one", table), read(tmp_path / "many", table))
    assert one.causal == many.causal != other.causal


def test_the_outcome_follows_the_planted_risk(cohort: tuple[Path, Truth]) -> None:
    """The prevalence is as stated, and the true risk is calibrated within four standard errors in each fifth."""
    folder, _ = cohort
    labels = read(folder, "labels")
    assert abs(labels.true_risk.mean() - 0.1) < 0.01
    by_fifth = labels.groupby(pd.qcut(labels.true_risk, 5), observed=True)
    for _, fifth in by_fifth:
        spread = np.sqrt(fifth.true_risk.mean() / len(fifth))
        assert abs(fifth.outcome.mean() - fifth.true_risk.mean()) < 4 * spread


def test_a_planted_odds_ratio_is_in_the_data(cohort: tuple[Path, Truth]) -> None:
    """Where an odds ratio of 2.2 or more was planted, the crude one before the index date is above 1.7."""
    folder, truth = cohort
    has, labels = patients_before_index(folder), read(folder, "labels")
    crude = {effect.code: crude_odds_ratio(labels, has[effect.code]) for effect in truth.causal}
    assert [effect.odds_ratio for effect in truth.causal[:3]] == [3.0, 2.5, 2.2]
    assert min(crude[effect.code] for effect in truth.causal[:3]) > 1.7
    assert max(crude[effect.code] for effect in truth.causal[-2:]) < 1.0
    assert {effect.code for effect in truth.causal if effect.vanishes_from == "2019-01-01"} == {
        truth.causal[4].code,
        truth.causal[6].code,
    }


def test_proxies_follow_their_cause_and_clusters_their_condition(cohort: tuple[Path, Truth]) -> None:
    """Each proxy is recorded for three fifths of the patients with its cause and for a twentieth of the others."""
    folder, truth = cohort
    has = patients_before_index(folder)
    everyone = set(range(1, N_PATIENTS + 1))
    cause = has[truth.causal[0].code]
    for proxy in truth.causal[0].proxies:
        assert abs(len(has[proxy] & cause) / len(cause) - 0.6) < 0.1
        assert abs(len(has[proxy] - cause) / len(everyone - cause) - 0.05) < 0.02


def test_the_leak_and_the_outcome_code_come_after_the_index_date_only(cohort: tuple[Path, Truth]) -> None:
    """The leak and the outcome code are recorded after the index date; before it only because of misplaced dates (0.05 % of rows)."""
    folder, truth = cohort
    has = patients_before_index(folder)
    events = read(folder, "events")
    with_leak = set(events[events.phenx == truth.leak].patient_num)
    positives = set(read(folder, "labels").query("outcome == 1").patient_num)
    assert with_leak <= positives
    assert len(with_leak) > 0.6 * len(positives)
    assert len(has.get(truth.leak, set())) + len(has.get(truth.outcome_code.code, set())) <= 4


def test_recording_errors_have_their_stated_share(cohort: tuple[Path, Truth]) -> None:
    """The shares of missing codes and dates, future dates, dates before birth and lower-case codes are within a third of their stated rates."""
    folder, truth = cohort
    events = read(folder, "events").merge(read(folder, "demographics")[["patient_num", "birth_date"]])
    share = {
        "missing_code": events.phenx.isna().mean(),
        "missing_date": events.start_date.isna().mean(),
        "future_date": (events.start_date >= "2025-01-02").mean(),
        "before_birth": (events.start_date < pd.to_datetime(events.birth_date)).mean(),
        "lower_case": (events.phenx == events.phenx.str.lower()).mean(),
    }
    for name, found in share.items():
        assert truth.errors[name] * 0.6 < found < truth.errors[name] * 1.4, name


def test_names_change_on_the_day_of_the_recode(cohort: tuple[Path, Truth]) -> None:
    """A recoded diagnosis has its old name before 2015-10-01 and its new name afterwards."""
    folder, truth = cohort
    events = read(folder, "events")
    events = events[(events.start_date > "2010-01-01") & (events.start_date < "2025-01-01")]
    old = events[events.phenx.isin(truth.recoded)]
    new = events[events.phenx.str.startswith("DX10:", na=False)]
    assert len(old) > 100
    assert len(new) > 100
    # Dates are moved before birth after the code's name was chosen, so that a few new names are before the recode.
    assert (old.start_date < "2015-10-01").all()
    assert (new.start_date >= "2015-10-01").mean() > 0.99


def test_rows_are_lost_in_two_groups(cohort: tuple[Path, Truth]) -> None:
    """Under-recorded groups have fewer rows per patient than the largest group."""
    folder, _ = cohort
    events = read(folder, "events").merge(read(folder, "demographics")[["patient_num", "race"]])
    mean = events.groupby("race").size() / read(folder, "demographics").groupby("race").size()
    assert mean["Black"] < 0.8 * mean["White"]


def test_the_truth_survives_its_file_and_names_every_role(cohort: tuple[Path, Truth]) -> None:
    """truth.json is read back unchanged, the roles include recoded and lower-case spellings, and codes.parquet agrees."""
    folder, truth = cohort
    assert read_truth(folder) == Truth.from_json(json.loads(json.dumps(truth.to_json()))) == truth
    assert truth.role_of(truth.causal[0].code) == "causal"
    assert truth.role_of(truth.causal[0].proxies[0]) == "proxy"
    assert truth.role_of(truth.sequences[0].then) == "sequence"
    assert truth.role_of(truth.clusters[0].codes[-1]) == "cluster"
    assert truth.role_of(truth.leak) == "leak"
    assert truth.role_of(truth.causal[0].code.lower()) == "recoded"
    assert sum(cluster.log_odds > 0 for cluster in truth.clusters) == 3
    codes = pq.read_table(folder / "codes.parquet").to_pandas()
    assert (codes.role == [truth.role_of(code) for code in codes.phenx]).all()
    assert (codes.role == "causal").sum() == 20
    assert set(codes.phenx[codes.phenx != codes.phenx_from_2015_10]) == set(truth.recoded)
    assert not set(truth.recoded) & {effect.code for effect in truth.causal}


def test_a_verdict_counts_found_and_falsely_selected_codes(cohort: tuple[Path, Truth]) -> None:
    """The verdict names a missing strong code, a selected noise code and the selected leak."""
    _, truth = cohort
    noise = next(f"LAB:{n:06d}" for n in range(3, 400, 7) if truth.role_of(f"LAB:{n:06d}") == "noise")
    back = [truth.causal[0].code, truth.causal[1].code, truth.causal[3].code, noise, truth.leak]
    features = [{"kind": "feature", "code": code, "in_consensus": True} for code in back]
    features.append({"kind": "feature", "code": truth.causal[2].code, "in_consensus": False})
    features.append({"kind": "demographic", "code": None, "in_consensus": True})
    verdict = judge(truth, {"features": features})
    assert verdict.missed == (truth.causal[2].code,)
    assert verdict.others == (truth.causal[3].code,)
    assert verdict.noise == (noise,)
    assert verdict.leaks == (truth.leak,)
    assert verdict.words == (
        "planted effects of 2.2 or more that were found: 2 of 3; noise codes in the consensus: 1"
    )


def test_a_cohort_is_replaced_whole_and_foreign_tables_are_refused(tmp_path: Path) -> None:
    """A cohort with truth.json is replaced without leaving old partitions. A folder with other tables is rejected."""
    make_cohort(tmp_path, n_patients=60, n_codes=200, n_partitions=3, rows_per_patient=10)
    make_cohort(tmp_path, n_patients=60, n_codes=200, n_partitions=1, rows_per_patient=10)
    assert [path.name for path in (tmp_path / "events").iterdir()] == ["part-0000.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*TABLES, "codes.parquet", "truth.json"]
    )
    assert is_complete(tmp_path, {"n_patients": 60, "n_partitions": 1})
    assert not is_complete(tmp_path, {"n_patients": 61})
    (tmp_path / "truth.json").unlink()
    assert not is_complete(tmp_path, {})
    with pytest.raises(SpecError, match="were not made here"):
        make_cohort(tmp_path, n_patients=60, n_codes=200, n_partitions=1)
    assert (tmp_path / "events/part-0000.parquet").is_file()


@pytest.mark.parametrize("broken", ["events", "labels", "truth.json"])
def test_a_replacement_that_was_interrupted_leaves_no_complete_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """After an interruption between the tables the cohort is not complete, and can be made again."""
    size = {"n_patients": 60, "n_codes": 200, "n_partitions": 1, "rows_per_patient": 10}
    make_cohort(tmp_path, **size)
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == broken:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_cohort(tmp_path, **{**size, "n_patients": 70})

    assert not is_complete(tmp_path, {})
    make_cohort(tmp_path, **size)
    assert is_complete(tmp_path, {"n_patients": 60})


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("n_workers", 0, "n_workers: expected 1 or more; got 0"),
        ("n_codes", 199, "n_codes: expected 200 or more; got 199"),
        ("n_patients", 0, "n_patients: expected 1 or more"),
        ("n_partitions", 11, "n_partitions: expected 1 to 10 for this number of patients; got 11"),
        ("prevalence", 1.0, "prevalence: expected between 0 and 1"),
        ("rows_per_patient", 3, "rows_per_patient: expected 4 or more"),
        ("seed", -1, "seed: expected 0 or more"),
        ("n_patients", 10.0, r"n_patients: expected a whole number \(int\); got 10\.0"),
        ("n_codes", 200.0, r"n_codes: expected a whole number \(int\); got 200\.0"),
        ("n_partitions", 1.0, r"n_partitions: expected a whole number \(int\); got 1\.0"),
        ("seed", "7", r"seed: expected a whole number \(int\); got '7'"),
        ("n_workers", 2.0, r"n_workers: expected a whole number \(int\); got 2\.0"),
        ("n_workers", True, r"n_workers: expected a whole number \(int\); got True"),
        ("prevalence", "0.1", "prevalence: expected a number; got '0.1'"),
        ("rows_per_patient", None, "rows_per_patient: expected a number; got None"),
    ],
)
def test_an_argument_out_of_range_is_refused_before_anything_is_written(
    tmp_path: Path, argument: str, value: object, message: str
) -> None:
    """The error for an argument out of range states the argument, the expected and the given value, and nothing is written."""
    arguments = {"n_patients": 10, "n_codes": 200, "n_partitions": 1, argument: value}
    with pytest.raises(SpecError, match=message):
        make_cohort(tmp_path / "cohort", **arguments)  # type: ignore[arg-type] # wrong on purpose
    assert not (tmp_path / "cohort").exists()


def test_the_command_writes_a_cohort_and_prints_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints its figures as one line of JSON. An error goes to stderr with exit code 2."""
    size = [
        "--patients",
        "40",
        "--codes",
        "200",
        "--partitions",
        "2",
        "--rows-per-patient",
        "10",
        "--workers",
        "1",
    ]
    assert main(["--out", str(tmp_path / "cohort"), *size]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["patients"] == 40
    assert figures["rows"] == read_truth(tmp_path / "cohort").n_rows
    assert main(["--out", str(tmp_path / "other"), "--codes", "5"]) == 2
    assert capsys.readouterr().err == "error: n_codes: expected 200 or more; got 5. Change it.\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command names a path that is not a folder, without a traceback."""
    (tmp_path / "file").touch()

    assert main(["--out", str(tmp_path / "file"), "--patients", "40", "--codes", "200"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'file'}: cannot be written (NotADirectoryError). Use a folder on a disk with free space.\n"
    )


def test_a_broken_truth_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """The error for a damaged truth.json names the file and how to create the cohort again."""
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(DataError, match="Make the cohort again"):
        read_truth(tmp_path)


def test_unknown_fields_of_a_truth_are_refused_by_name(cohort: tuple[Path, Truth], tmp_path: Path) -> None:
    """Fields that another version has written, at any depth, are not ignored: a comparison with the truth would not cover them."""
    plain = json.loads(json.dumps(cohort[1].to_json()))
    plain["seasons"] = []
    plain["causal"][3]["dose"] = 2
    (tmp_path / "truth.json").write_text(json.dumps(plain))

    with pytest.raises(DataError, match=r"unknown fields: causal\.3\.dose, seasons"):
        read_truth(tmp_path)


@pytest.mark.parametrize(
    "place", ["causal.0", "interaction", "sequences.0", "clusters.0", "outcome_code", "groups.0"]
)
def test_an_unknown_field_of_each_part_of_a_truth_is_refused(
    place: str, cohort: tuple[Path, Truth], tmp_path: Path
) -> None:
    """Each part of the truth has only known fields."""
    plain = json.loads(json.dumps(cohort[1].to_json()))
    name, _, number = place.partition(".")
    part = plain[name][int(number)] if number else plain[name]
    part["dose"] = 2
    (tmp_path / "truth.json").write_text(json.dumps(plain))

    with pytest.raises(DataError, match=rf"unknown fields: {place}\.dose\. "):
        read_truth(tmp_path)


def test_the_truth_is_read_without_numpy() -> None:
    """The truth is read without numpy, because the scheduler uses it to check a demo."""
    code = "import sys, mlho.synthetic, mlho.synthetic.verdict; print('numpy' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def patients_before_index(folder: Path) -> dict[str, set[int]]:
    """Return the patients with each code up to the index date."""
    events = read(folder, "events").merge(read(folder, "labels")[["patient_num", "index_date"]])
    seen = events[events.start_date <= pd.to_datetime(events.index_date)]
    return {code: set(rows.patient_num) for code, rows in seen.groupby("phenx")}


def crude_odds_ratio(labels: pd.DataFrame, patients: set[int]) -> float:
    """Return the odds ratio of the outcome for these patients, with 0.5 added to each cell."""
    has = labels.patient_num.isin(patients)
    a, b = (has & (labels.outcome == 1)).sum() + 0.5, (has & (labels.outcome == 0)).sum() + 0.5
    c, d = (~has & (labels.outcome == 1)).sum() + 0.5, (~has & (labels.outcome == 0)).sum() + 0.5
    return float(a * d / b / c)
