"""The command ``mlho changes``, on a synthetic cohort whose changes are known."""

import json
import re
import tempfile
import tracemalloc
from collections import Counter

import pytest
import yaml

from mlho.external.changes import _count, read_changes
from mlho.spec.expansion import expand
from mlho.spec.training import load_spec
from mlho.synthetic import make_cohort, read_truth
from tests.builders import call_command, make_tables, write_spec, write_tables
from tests.disks import small_disk


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Write a synthetic cohort of 12,000 patients in three files."""
    folder = tmp_path_factory.mktemp("changes")
    make_cohort(folder, n_patients=12_000, n_codes=200, n_partitions=3, rows_per_patient=60)
    return folder


def spec_of(folder, index=None):
    """Write a specification of the cohort."""
    document = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "changes"},
        "spec": {
            "data": {"source": "dbmart", "uri": ".", "tables": {"events": "events/", "labels": "labels/"}},
            "cohort": {"outcome": "outcome", "index": index or {"column": "index_date"}},
            "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [50]}}],
        },
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_recode_and_the_new_drug_are_dated(cohort, tmp_path, capsys):
    """The recode is dated to its month, its rare codes to within one month, and the new drug to its month. No other code begins or ends."""
    truth = read_truth(cohort)
    output = call_command(["changes", spec_of(cohort), "--json"], tmp_path, capsys)
    assert output.code == 0, output.err
    found = json.loads(output.out)["changes"]
    months = Counter(change["month"] for change in found if change["kind"] in ("begins", "ends"))
    recoded = {change["code"] for change in found if change["month"] == truth.shift["recode"][:7]}

    assert months.most_common(1)[0] == (truth.shift["recode"][:7], len(recoded))
    assert len(recoded) > 20
    assert {truth.role_of(code) for code in recoded} <= {"recoded", "cluster"}
    drug = [change["month"] for change in found if change["code"] == truth.shift["new_drug"]]
    assert drug == [truth.shift["new_drug_from"][:7]]
    assert set(months) <= {"2015-09", truth.shift["recode"][:7], "2015-11", *drug}


def test_changed_codes_have_their_descriptions(cohort, tmp_path, capsys):
    """The descriptions of the concepts table are next to the codes; without that table there is no such column."""
    spec = spec_of(cohort)
    drug = read_truth(cohort).shift["new_drug"]
    (cohort / "concepts.csv").write_text(f'phenx,DESCRIPTION\n{drug},"Apixaban, tablet"\n')
    page = tmp_path / "page.html"
    assert call_command(["changes", spec, "--html", page], tmp_path, capsys).code == 0
    assert "Description" not in page.read_text()
    document = yaml.safe_load(spec.read_text())
    document["spec"]["data"]["tables"]["concepts"] = "concepts.csv"
    spec.write_text(yaml.safe_dump(document))
    output = call_command(["changes", spec, "--json", "--html", page], tmp_path, capsys)

    assert output.code == 0, output.err
    described = {change["code"]: change["description"] for change in json.loads(output.out)["changes"]}
    assert described.pop(drug) == "Apixaban, tablet"
    assert set(described.values()) == {None}
    assert {"Description", "Apixaban, tablet"} <= set(re.findall(r">([^<>]+)</t[hd]>", page.read_text()))


def test_codes_in_parts_have_the_same_changes(cohort, monkeypatch):
    """The number of codes whose tables are held at once does not change the result."""
    (run,) = expand(load_spec(spec_of(cohort)))
    whole = read_changes(run.spec, cohort)
    monkeypatch.setattr("mlho.external.changes._CODES_AT_ONCE", 7)

    assert read_changes(run.spec, cohort) == whole
    assert len(whole) > 20


def test_the_memory_does_not_grow_with_rare_codes_and_wrong_dates(tmp_path, monkeypatch):
    """Counts by month are kept for codes of enough patients only: all codes by all months of a century would take gigabytes."""
    make_cohort(tmp_path, n_patients=1_000, n_codes=30_000, n_partitions=1, rows_per_patient=40)
    (run,) = expand(load_spec(spec_of(tmp_path)))
    seen = []

    def count(cohort, n_codes, partitions, least_patients):
        tracemalloc.start()
        counts = _count(cohort, n_codes, partitions, least_patients)
        seen.append((n_codes * len(counts.months) * 4, tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
        return counts

    monkeypatch.setattr("mlho.external.changes._count", count)
    read_changes(run.spec, tmp_path)

    ((one_table, peak),) = seen
    assert peak < one_table


def test_the_table_names_months_and_codes(cohort, tmp_path, capsys):
    """The table summarizes a month with many codes in one sentence, and the HTML page has the rows of the terminal."""
    page = tmp_path / "changes.html"
    output = call_command(["changes", spec_of(cohort), "--html", page], tmp_path, capsys)

    assert output.code == 0, output.err
    assert "2015-10: " in output.out
    assert "codes begin and" in output.out
    assert read_truth(cohort).shift["new_drug"] in output.out
    shown = page.read_text()
    n_rows = sum(line.count("│") == 4 for line in output.out.splitlines())
    assert shown.count("<tr>") - 1 == n_rows > 20
    assert read_truth(cohort).shift["new_drug"] in shown
    assert "2015-10: " in shown
    assert "share of patients with the code in the year before and after, or odds ratio (OR)" in shown


def test_without_a_change_there_is_no_table(tmp_path, capsys):
    """A cohort without changes gives one line, and no table without rows."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    output = call_command(["changes", write_spec(folder)], tmp_path, capsys)

    assert output.code == 0, output.err
    assert output.out.endswith(": 0 changes.\n")
    assert output.out.count("\n") == 1


def test_without_an_index_date_it_is_refused(cohort, tmp_path, capsys):
    """`mlho changes` rejects a specification without an index date, because effects are estimated by month."""
    output = call_command(["changes", spec_of(cohort, index="none")], tmp_path, capsys)

    assert output.code == 2
    assert "cohort.index: none has no index date" in output.err


def test_a_full_folder_of_temporary_files_is_named(cohort, tmp_path, capsys, monkeypatch):
    """A command that needs temporary files names their folder and the remedy instead of ending in a traceback."""
    with small_disk(tmp_path / "full", size="64k") as full:
        monkeypatch.setattr(tempfile, "tempdir", str(full))
        monkeypatch.setattr("scheduler.cli.results.changes.call_beside", lambda read, *paths: read(*paths))
        output = call_command(["changes", spec_of(cohort)], tmp_path / "store", capsys)

        assert output.code == 1
        assert output.error.startswith("error: a file: No space left on device. Free some space")
        assert f"Temporary files are in {full}; TMPDIR names another folder." in output.error
        assert list(full.iterdir()) == []
