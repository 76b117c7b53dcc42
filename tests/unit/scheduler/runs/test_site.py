"""The site of a store: the content of its pages, equal bytes for equal stores, and concurrent writers."""

import datetime as dt
import json
import posixpath
import re
from shutil import copytree

import pytest
import yaml

from mlho.report.page.html import render_html
from mlho.report.page.performance import performance_charts, periods_by_day
from mlho.report.result import Result
from mlho.report.site import evaluated_facts
from mlho.store.keys import evaluation_key, run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.runs.record import RunRecord, RunState
from scheduler.runs.stored import headline_of, stored_runs
from scheduler.site.facts import facts_key
from scheduler.site.pages import INDEX, renew_site, write_site
from tests.unit.report.sample_result import sample_result
from tests.unit.scheduler.runs.conftest import turn_back
from tests.unit.scheduler.runs.planted import promoted

A, B, C = "a" * 16, "b" * 16, "c" * 16
DAY = dt.datetime(2026, 11, 1, 2, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def result() -> Result:
    return sample_result(n_features=12, n_iterations=3)


def plant(store, run, name, kind, files, *, state=RunState.FINISHED, day=0, spec=None, reason=None):
    document = {
        "apiVersion": "mlho.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec or {},
    }
    record = RunRecord(state=state, started=DAY + dt.timedelta(days=day), seconds=14.0, reason=reason)
    store.put_if_absent(run_key(run, "spec.yaml"), yaml.safe_dump(document).encode())
    store.put_if_absent(run_key(run, "record.json"), record.to_bytes())
    for file, content in files.items():
        store.put_if_absent(run_key(run, file), content)


def plant_training(store, run, result, *, name="readmission", day=0, bundle="1" * 64):
    plain = json.loads(result.model_dump_json(by_alias=True))
    plain["final_model"]["bundle_digest"] = bundle
    plain["made_at"] = (DAY + dt.timedelta(days=day)).isoformat()
    files = {"report.html": render_html(result).encode(), "result.json": json.dumps(plain).encode()}
    plant(store, run, name, "TrainingRun", files, day=day)


def plant_night(store, number, *, bundle="1" * 64, samples=3000, alerts=300, psi=0.02, date=None):
    run = f"{number:016x}"
    index = {"date": date or f"2026-11-{number + 1:02d}"}
    scores = {
        "outcome": "label",
        "bundle_digest": bundle,
        "index": index,
        "samples": samples,
        "ledger": {"rows_used": 200 * samples},
        "distribution": {"mean": 0.1},
        "drift": {
            "score_psi": psi,
            "n_shifted": 2,
            "n_compared": 100,
            "n_missing_compared": 4,
            "n_missing_shifted": 1,
            "codes": {"n_compared": 900, "n_new": 3, "n_vanished": 0},
        },
        "advice": {"action": "retrain", "reason": "A feature is absent.", "gain": "The gain is unknown."},
        "expected": {"auroc": {"value": 0.8, "low": 0.78, "high": 0.82}, "training_auroc": 0.81},
        "alerts": [{"rule": "fixed-alert-rate:0.1", "alerts": alerts, "training_rate": 0.1}],
        "warnings": ["The distribution of the scores differs from that in training."] if psi > 0.25 else [],
    }
    manifest = {"parts": [], "scores": scores}
    files = {
        "scores/scores.json": json.dumps(scores).encode(),
        "scores/manifest.json": json.dumps(manifest).encode(),
        "scores/retrain.yaml": b"kind: TrainingRun",
    }
    spec = {"bundle": {"uri": "channel:production/1"}}
    plant(store, run, "nightly", "ScoringRun", files, day=number, spec=spec)
    return run


def estimate(value):
    return {"value": value, "low": None if value is None else value - 0.02, "high": None, "reason": None}


def plant_evaluation(store, name, periods, *, by="month", bundle="1" * 64):
    """Write an evaluation with this AUROC for each period; None means a period with few patients."""
    evaluation = {
        "bundle_digest": bundle,
        "outcome": "label",
        "n_samples": 5000,
        "surveillance": {"period": by},
        "figures": {"auroc": estimate(0.79)},
        "expected": {"training_auroc": 0.81},
        "advice": {"action": "recalibrate"},
        "bias": {
            "groups": [
                {
                    "periods": [
                        {
                            "period": period,
                            "n_samples": None if auroc is None else n,
                            "n_positive": None if auroc is None else n // 10,
                            "figures": {} if auroc is None else {"auroc": estimate(auroc)},
                        }
                        for period, n, auroc in periods
                    ]
                }
            ]
        },
    }
    for file in ("report.html", "recalibrate.yaml"):
        store.put_if_absent(evaluation_key(name, file), b"written by mlho evaluate")
    store.put_if_absent(evaluation_key(name, "evaluation.json"), json.dumps(evaluation).encode())


@pytest.mark.parametrize(("n_positive", "rate"), [(0, None), (None, None), (20, 0.1), (200, None)])
def test_a_period_without_the_outcome_is_hidden_like_one_with_few(n_positive, rate):
    """Where 1 to 10 are hidden, a chart with the zeros would show an outcome that never occurs."""
    period = {"period": "2024-01", "n_samples": 200, "n_positive": n_positive, "figures": {}}
    evaluation = {
        "bundle_digest": "1" * 64,
        "outcome": "label",
        "n_samples": 200,
        "surveillance": {"period": "month"},
        "figures": {},
        "expected": {"training_auroc": None},
        "advice": {"action": "hold"},
        "bias": {"groups": [{"periods": [period]}]},
    }

    (facts,) = evaluated_facts(evaluation, lambda _: False).periods

    assert facts.outcome_rate == rate


def plant_store(store, result):
    plant_training(store, A, result)
    plant_training(store, B, result, day=5, bundle="2" * 64)
    plant(store, C, "broken", "TrainingRun", {}, state=RunState.FAILED, reason="no <b>labels</b>")
    for number in range(6):
        plant_night(store, number, bundle="1" * 64 if number < 4 else "2" * 64)
    return store


@pytest.fixture
def store(result) -> MemoryStore:
    return plant_store(MemoryStore(), result)


def pages(store) -> dict[str, str]:
    return {key: store.get(key).decode() for key in store.keys("site/") if key.endswith(".html")}


def model_page(store, name="readmission") -> str:
    (page,) = [text for text in pages(store).values() if f"<h1>{name}</h1>" in text]
    return page


def test_every_link_of_every_page_leads_to_an_object_of_the_store(store):
    """Every link is a relative address of an existing object, so that reports and scores are found from a folder and from a bucket."""
    write_site(store)

    links = {
        posixpath.normpath(posixpath.join("site", link))
        for page in pages(store).values()
        for link in re.findall(r'href="([^"#]+)"', page)
    }
    assert run_key(A, "report.html") in links
    assert f"runs/{5:016x}/scores/scores.json" in links
    assert {link for link in links if not store.exists(link)} == set()


def test_a_model_has_its_versions_and_the_scoring_runs_that_used_them(store):
    """The page of a model has all bundles of its name and the scoring runs of each. A line in the charts marks the change of version."""
    site = write_site(store).site

    (model,) = site.models
    page = model_page(store)
    assert [version.run for version in model.versions] == [A, B]
    assert [night.facts.date.day for night in model.nights] == [1, 2, 3, 4, 5, 6]
    assert "2 versions; 6 scoring runs from 2026-11-01 to 2026-11-06." in page
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img"') == 10
    assert (
        "retrain. A feature is absent. The gain is unknown. Manifest of the advised run, with the inputs to update first:"
        in page
    )
    assert f"../runs/{5:016x}/scores/retrain.yaml" in page
    assert "A dotted line marks a change of the model version" in page


def test_a_model_has_its_performance_by_month_and_night_where_evaluations_were_kept(store):
    """The page of a model has its performance by month and night from evaluations. If two evaluations have a month, the one
    with more samples is used; periods with few patients have no figure.
    """
    plant_evaluation(
        store, "e1", [("2026-08", 500, 0.7), ("2026-09", 300, 0.71), ("2026-10", 7, None), ("other", 9, 0.5)]
    )
    plant_evaluation(store, "e2", [("2026-09", 900, 0.78)], bundle="2" * 64)
    plant_evaluation(store, "e3", [("2026-11-01", 800, 0.8), ("2026-11-02", 800, 0.8)], by="night")

    (model,) = write_site(store).site.models

    page = model_page(store)
    titles = [title for title, *_ in performance_charts(model.evaluations)]
    assert titles == [
        f"{title} by {by}" for by in ("month", "night") for title in ("AUROC", "Share with the outcome")
    ]
    assert all(title in page for title in ("Performance with labels", *titles))
    shown = periods_by_day(model.evaluations, "month")
    assert [
        (day.isoformat(), evaluation.auroc.value, evaluation.n_samples)
        for day, (evaluation, _) in shown.items()
    ] == [
        ("2026-08-01", 0.7, 500),
        ("2026-09-01", 0.78, 900),
        ("2026-10-01", None, None),
    ]
    assert store.exists("evaluations/e1/report.html")
    assert 'href="../evaluations/e1/recalibrate.yaml">recalibrate<' in page
    assert "../evaluations/e1/report.html" in page
    assert "</time> to <time>2026-" in page  # neither a date nor the header below breaks within itself
    assert "AUROC, 95\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}CI</th>" in page
    assert write_site(store).n_new == 0


def test_a_failed_run_is_listed_with_its_reason_as_text(store):
    """A failed run is listed with its reason, in which HTML is escaped."""
    write_site(store)

    assert "no &lt;b&gt;labels&lt;/b&gt;" in store.get(INDEX).decode()


def test_the_figure_of_an_association_is_never_shown_alone(result):
    """A run without index dates does not predict: the table of models and the list of runs say so beside its AUROC."""
    store = MemoryStore()
    plant_training(store, A, result.model_copy(update={"predictive": False}))
    write_site(store)
    [run] = stored_runs(store)

    models = store.get(INDEX).decode().partition('id="models"')[2].partition("</section>")[0]
    assert "not predictive: association only" in models
    assert headline_of(store, run).endswith(" for readmit_30, not predictive")


def test_small_counts_are_not_shown(result):
    """Counts below 11 and shares that reveal them are not shown, because they could identify persons."""
    store = MemoryStore()
    plant_night(store, 1, alerts=7)
    plant_night(store, 2, alerts=2996)
    plant_night(store, 3, samples=9, alerts=0)
    site = write_site(store).site

    shares = [night.facts.alerts[0].share for night in site.models[0].nights]
    assert shares == [None, None, None]
    assert "under 11" in model_page(store, "bundle 111111111111")


def test_equal_stores_give_equal_bytes(result, tmp_path):
    """Equal stores give equal bytes, independent of the order of runs, the kind of store, and earlier writes of the site."""
    first = plant_store(MemoryStore(), result)
    write_site(first)
    second = LocalStore(tmp_path / "store")
    for number in reversed(range(6)):
        plant_night(second, number, bundle="1" * 64 if number < 4 else "2" * 64)
        write_site(second)
    plant_store(second, result)
    write_site(second)

    assert {key: second.get(key).decode() for key in pages(first)} == pages(first)


def test_a_second_call_writes_nothing_and_reads_no_result(store, monkeypatch):
    """A second call writes nothing and reads no result, because the facts of a run are stored separately."""
    write_site(store)
    before = {key: store.get(key) for key in store.keys("site/")}
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: (read.append(key), get(key))[1])

    assert write_site(store).n_new == 0
    assert {key: get(key) for key in store.keys("site/")} == before
    assert [key for key in read if key.endswith(("result.json", "manifest.json"))] == []


def test_concurrent_writers_show_the_runs_of_both(store, result, monkeypatch):
    """If another writer publishes a run and its index after the listing, the swap of the index fails, and the site is
    written again with both runs.
    """
    swap = store.compare_and_swap
    raced: list[str] = []

    def race(key, data, *, expected):
        if key == INDEX and not raced:
            raced.append(plant_night(store, 20))
            write_site(store)
        return swap(key, data, expected=expected)

    monkeypatch.setattr(store, "compare_and_swap", race)
    write_site(store)

    assert raced[0] in store.get(INDEX).decode()
    assert raced[0] in model_page(LinkedOnly(store))


class LinkedOnly:
    """The pages of a store that can be reached from its index."""

    def __init__(self, store):
        self.get = store.get
        index = store.get(INDEX).decode()
        self._keys = [INDEX, *(f"site/{name}" for name in re.findall(r'href="(model-[^"]+)"', index))]

    def keys(self, prefix):
        return [key for key in self._keys if key.startswith(prefix)]


def test_pages_of_an_earlier_state_are_removed_after_a_day(result, tmp_path):
    """Pages of an earlier state are deleted after a day, so that a reader of the earlier index still finds them until then."""
    store = LocalStore(tmp_path / "store")
    plant_store(store, result)
    write_site(store)
    earlier = set(store.keys("site/"))
    plant_night(store, 10)
    write_site(store)
    assert earlier <= set(store.keys("site/"))

    turn_back(store, hours=25)
    for key in list(store.keys(f"runs/{A}/")):
        store.delete(key)
    write_site(store)

    left = set(store.keys("site/"))
    assert facts_key(A) not in left
    assert {key for key in left if "/model-" in key} == set(LinkedOnly(store).keys("site/model-"))


def test_a_site_that_cannot_be_written_is_a_reason_and_no_error(store, monkeypatch):
    """If the site cannot be written, the reason is returned and no error is raised, so that the run stays finished."""
    monkeypatch.setattr("scheduler.site.pages.read_site", lambda *_: 1 / 0)

    assert renew_site(store) == "ZeroDivisionError. Report this as a defect"


def test_the_command_compares_the_versions_of_a_model(two_runs, tmp_path, command):
    """For two real runs of one name, the comparison page is written once and linked from the model's page."""
    _, source, older, newer = two_runs
    store = LocalStore(copytree(source, tmp_path / "store"))
    promoted(store, newer)

    output = command("site", store=store.root)

    # Results are ordered by their time in seconds, and within one second by run id.
    (page,) = [key.removeprefix("site/") for key in store.keys("site/compare-")]
    assert {older, newer} == set(page.split("-")[1:3])
    assert "2 runs, 1 model, 1 channel; 2 new pages." in output.out
    since = store.get(INDEX).decode().partition("Since (UTC)")[2].partition("</table>")[0]
    assert re.search(r">\s*<time>\d{4}-\d\d-\d\d \d\d:\d\d</time>\s*<", since)
    assert f'href="{page}"' in model_page(store, "small")
    assert "Comparison of two runs" in store.get(f"site/{page}").decode()
    assert "2 runs, 1 model, 1 channel; 0 new pages." in command("site", store=store.root).out


def test_a_copy_of_a_store_has_the_same_site(two_runs, tmp_path):
    """The pages depend neither on the clock nor on file times."""
    stores = [LocalStore(copytree(two_runs[1], tmp_path / name)) for name in ("a", "b")]
    for store in stores:
        write_site(store)
        turn_back(stores[1], hours=48)

    assert pages(stores[0]) == pages(stores[1])
