"""Nights: the completeness of their tables, and the scoring of a range of dates."""

import re
from argparse import ArgumentTypeError
from pathlib import Path
from shutil import copytree, rmtree

import pyarrow.parquet as pq
import pytest
import yaml

from mlho.errors import DataError, SpecError
from mlho.spec.scoring import parse_scoring_spec
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.cli.scoring.dates import nights
from scheduler.engine.loop import carry_out
from scheduler.engine.scoring_run import prepare_scoring
from scheduler.runs.nights import nights_before
from tests.builders import InlineExecutor, NullObserver
from tests.unit.scoring.conftest import make_score_document


def night(folder, store, day="2019-05-01", complete=None, name="nightly"):
    """Score one night, with a completeness policy."""
    changes = {"index": {"date": day}, "data.tables.cohort": None, "checks": {"complete": complete}}
    document = make_score_document(changes)
    document["metadata"]["name"] = f"{name}-{day}" if day else name
    spec = parse_scoring_spec(yaml.safe_dump(document))
    run = prepare_scoring(spec, folder / "score.yaml", store, inspect=lambda *_: None)
    carry_out(run, InlineExecutor(store, folder), NullObserver(), n_slots=1)
    return run


def lose(folder: Path, *, keep: float) -> None:
    """Truncate the last file of events to its first rows."""
    path = sorted((folder / "events").iterdir())[-1]
    table = pq.read_table(path)
    pq.write_table(table.slice(0, int(keep * table.num_rows)), path)


def published(store) -> list[str]:
    return [key for key in store.keys("runs/") if "/scores/" in key]


@pytest.mark.parametrize(
    ("complete", "words"),
    [
        ({"partitions": ["events/part-*", "events/south-*"]}, r"got none for events/south-\*"),
        ({"minFiles": 4}, r"at least 4 files of events \(checks.complete.minFiles\); got 3"),
        ({"minRows": 10**9}, r"at least 1,000,000,000 event rows \(checks.complete.minRows\)"),
        ({"minSamples": 5000}, r"at least 5,000 samples"),
    ],
)
def test_a_night_that_is_not_complete_is_refused_with_a_remedy(trained, complete, words):
    """If the files show it, the night is refused before scoring; if the rows show it, before publication."""
    store = MemoryStore()
    with pytest.raises(DataError, match=words) as caught:
        night(trained.folder, store, complete=complete)

    assert "Wait for the tables and run the same command again" in str(caught.value)
    assert published(store) == []
    whole = {"partitions": ["events/part-*"], "minFiles": 3, "minRows": 10, "minSamples": 10}
    assert published(night(trained.folder, store, complete=whole).store)


def test_a_night_is_compared_with_the_nights_before(beside):
    """A night is compared with the median of earlier event rows. A refused night is scored once the late rows exist, and published nights stay."""
    folder, store = beside(), MemoryStore()
    policy = {"previousNights": {"nights": 3, "minShare": 0.9}}
    for day in ("2019-05-01", "2019-05-02"):
        night(folder, store, day, policy)
    late = folder.parent / "late"
    copytree(folder / "events", late)
    lose(folder, keep=0.1)
    with pytest.raises(
        DataError, match=r"at least 90 % of the median of 2 nights before.*got [\d,]+, \d\d %"
    ):
        night(folder, store, "2019-05-03", policy)
    night(folder, store, "2019-04-30", policy)  # no earlier night
    night(folder, store, "2019-05-03", policy, name="other")  # another series
    rmtree(folder / "events")
    copytree(late, folder / "events")
    run = night(folder, store, "2019-05-03", policy)

    assert [previous.name[-10:] for previous in nights_before(store, "nightly-2019-05-03", 9)] == [
        "2019-05-02",
        "2019-05-01",
        "2019-04-30",
    ]
    assert published(store).count(run.key("manifest.json")) == 1


def test_an_extract_that_was_not_renewed_is_refused(beside):
    """Events with the same bytes as the night before are refused, also under another name."""
    folder, store = beside(), MemoryStore()
    policy = {"previousNights": {"newEvents": True}}
    night(folder, store, "2019-05-01", policy)
    with pytest.raises(DataError, match=r"those of nightly-2019-05-01, byte for byte"):
        night(folder, store, "2019-05-02", policy)
    lose(folder, keep=0.95)

    night(folder, store, "2019-05-02", policy)


def test_nights_can_be_compared_only_if_the_name_has_a_date(trained):
    """Without a date in the name, earlier nights cannot be found."""
    document = make_score_document({"checks": {"complete": {"previousNights": {}}}})
    spec = parse_scoring_spec(yaml.safe_dump(document))
    with pytest.raises(SpecError, match="expected a name that ends with the date"):
        prepare_scoring(spec, trained.folder / "s.yaml", MemoryStore(), inspect=lambda *_: None)


@pytest.fixture
def template(beside):
    """Return the path of a night's specification with ``{date}``, in a folder with tables."""
    folder = beside()
    document = make_score_document({"index": {"date": "{date}"}, "data.tables.cohort": None})
    (folder / "nightly.yaml").write_text(yaml.safe_dump(document))
    return folder / "nightly.yaml"


def test_a_range_is_scored_once_and_late_data_do_not_change_a_night(template, command, tmp_path):
    """Nights that were already scored are kept, also if tables have changed, until ``--again`` is given."""
    first = command("score", template, "--as-of", "2019-05-01..2019-05-02")
    store = LocalStore(tmp_path / "store")
    before = {key: store.get(key) for key in published(store)}
    again = command("score", template, "--as-of", "2019-05-01..2019-05-03")
    lose(template.parent, keep=0.9)
    late = command("score", template, "--as-of", "2019-05-03")
    repeated = command("score", template, "--as-of", "2019-05-03", "--again")

    assert [line.split()[:2] for line in first.out.splitlines()] == [
        ["nightly-2019-05-01", "scored"],
        ["nightly-2019-05-02", "scored"],
    ]
    assert [line.split()[1] for line in again.out.splitlines()] == ["kept", "kept", "scored"]
    assert {key: store.get(key) for key in before} == before
    assert "kept" in late.out
    assert "(late data, for example): --again" in late.out
    assert "scored" in repeated.out
    assert nights_before(store, "nightly-2019-05-04", 1)[0].run_id in repeated.out


def test_a_night_whose_published_scores_are_lost_is_named(template, command, tmp_path):
    """A lost file is named with the option that publishes it again, and a damaged manifest with its remedy."""
    score = ("score", template, "--as-of", "2019-05-01")
    command(*score)
    store = LocalStore(tmp_path / "store")
    part, *_ = [key for key in published(store) if "part-" in key]
    content = store.get(part)
    store.delete(part)

    assert f"1 file of its scores is missing, first {part}: --again" in command(*score).out
    command(*score, "--again")
    assert store.get(part) == content

    (manifest,) = [key for key in published(store) if key.endswith("/manifest.json")]
    store.delete(manifest)
    store.put_if_absent(manifest, b"{")
    assert f"{manifest}: is damaged. Delete this object" in command(*score).out


def test_the_warnings_of_a_night_are_counted_in_its_line(template, command, tmp_path):
    """A night with findings, such as events with unknown codes only, is not reported like any other."""
    command("score", template, "--as-of", "2019-05-01")
    document = yaml.safe_load(template.read_text())
    document["spec"]["checks"] = {"emptySamples": "warn"}
    document["metadata"]["name"] = "early"
    template.write_text(yaml.safe_dump(document))

    response = command("score", template, "--as-of", "1999-05-01")

    shown = command("show", "early-1999-05-01").out
    n_warnings = sum(line.startswith("Warning: ") for line in shown.splitlines())
    assert n_warnings > 0
    words = "1 warning" if n_warnings == 1 else f"{n_warnings} warnings"
    assert f"; {words}" in response.out
    assert "see mlho show early-1999-05-01" in response.out


def test_an_incomplete_night_does_not_stop_the_others(template, command):
    """The incomplete night is named on stderr, and the exit code is that of invalid tables."""
    document = yaml.safe_load(template.read_text())
    document["spec"]["data"]["tables"]["events"] = "{date}"
    template.write_text(yaml.safe_dump(document))
    for day in ("2019-05-01", "2019-05-03"):
        copytree(template.parent / "events", template.parent / day)
    response = command("score", template, "--as-of", "2019-05-01..2019-05-03")

    assert response.code == 3
    assert [line.split()[0][-2:] for line in response.out.splitlines()] == ["01", "03"]
    assert "nightly-2019-05-02  not scored" in response.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], r"has \{date\}. State the night to score: --as-of"),
        (["--again"], r"has \{date\}"),
        (["--as-of", "2298-01-01"], "index.date: in the future"),
    ],
)
def test_a_missing_or_future_date_is_refused(template, command, arguments, words):
    """A template without a date and a date in the future are refused."""
    response = command("score", template, *arguments)

    assert response.code == 2
    assert re.search(words, response.err)


@pytest.mark.parametrize("name", ["plan", "validate"])
def test_a_template_can_be_looked_at(template, command, name):
    """``plan`` and ``validate`` read the template as the night of today, and say so."""
    response = command(name, template)

    assert response.code == 0
    assert "{date} is read as today, 20" in response.err


def test_a_range_without_a_place_for_the_date_is_refused(template, command):
    """A range of dates requires ``{date}`` in the specification, because otherwise all nights would be the same run."""
    text = template.read_text().replace("'{date}'", "2019-05-01")
    template.write_text(text)

    assert "--as-of needs {date}" in command("score", template, "--as-of", "2019-05-01").err


def test_a_range_has_both_its_ends():
    """A range includes both ends, also across a year. Words and a reversed range are refused."""
    for text in ("2019-05-02..2019-05-01", "yesterday", "1900-01-01..2019-01-01"):
        with pytest.raises(ArgumentTypeError, match="expected"):
            nights(text)
    assert [str(date) for date in nights("2019-12-31..2020-01-01")] == ["2019-12-31", "2020-01-01"]
