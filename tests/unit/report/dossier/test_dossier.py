"""The dossier: answers from the run, statements of its author, and open items."""

import json
from html.parser import HTMLParser

import pytest

from mlho.report.dossier.checklists import CHECKLISTS
from mlho.report.dossier.document import make_dossier
from mlho.report.page.html import render_dossier
from mlho.report.result import Result
from mlho.spec.statements import Statements
from tests.builders import make_tables, run_inline, write_tables

RUN = "0123456789abcdef"
ALL_STATEMENTS = {
    field.alias: f"Stated in {name}." for name, field in Statements.model_fields.items() if field.alias
}


def items_of(dossier):
    return {
        f"{checklist['id']}/{item['id']}": item
        for checklist in dossier["checklists"]
        for item in checklist["items"]
    }


@pytest.fixture(scope="module")
def dossier(result):
    return make_dossier(RUN, result, {})


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Return the result of a run on 300 patients, in which small groups are hidden."""
    folder = tmp_path_factory.mktemp("dossier")
    data = write_tables(folder / "data", make_tables(300, seed=5))
    home = run_inline(data, folder / "store")
    return Result.model_validate_json(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))


def test_the_checklists_have_all_their_items():
    """TRIPOD+AI has 27 items with 52 parts, and HTI-1 has 31 source attributes."""
    n_items = {checklist.id: len({item.id for item in checklist.items}) for checklist in CHECKLISTS}

    assert n_items == {"tripod-ai": 52, "hti-1": 31, "chai": 17}
    numbers = {item.id.rstrip("abcdefg") for item in CHECKLISTS[0].items}
    assert numbers == {str(number) for number in range(1, 28)}


def test_every_item_is_answered_open_or_says_why_it_cannot_apply(dossier):
    for item in items_of(dossier).values():
        if item["state"] == "not applicable":
            assert item["reason"]
        else:
            assert bool(item["answers"]) == (item["state"] != "open")
            assert bool(item["missing"]) == (item["state"] != "answered")


def test_each_open_field_exists_in_the_specification(dossier):
    known = {f"metadata.statements.{name}" for name in ALL_STATEMENTS}
    open_fields = {
        field["field"] for field in dossier["open"] if field["field"].startswith("metadata.statements.")
    }

    assert open_fields == known  # no unknown statement is requested, and none is missing
    meanings = {field["field"]: field["meaning"] for field in dossier["open"]}
    assert meanings["metadata.statements.funding"] == "Funding, and the role of the funders"
    assert all(meanings.values())


def test_a_run_with_all_statements_leaves_nothing_open(result):
    about = {
        "title": "T", "description": "D", "outcome_definition": "O", "follow_up": "F", "intended_use": "I",
    }  # fmt: skip
    told = result.model_copy(update={"about": result.about.model_copy(update=about)})
    complete = make_dossier(RUN, told, ALL_STATEMENTS)

    assert complete["open"] == []
    assert items_of(complete)["tripod-ai/18a"]["answers"] == [
        {"text": "Stated in funding.", "evidence": "metadata.statements.funding", "section": ""}
    ]


def test_figures_are_those_of_the_result(dossier, result):
    (performance,) = items_of(dossier)["hti-1/7.1"]["answers"]
    auroc = result.headline["auroc"]

    assert f"AUROC {auroc.mean:.2f} (95" in performance["text"]
    assert performance["evidence"] == "result.json: headline"
    prepared = items_of(dossier)["tripod-ai/7"]["answers"][0]["text"]
    found = [check.check for check in result.quality.checks if check.n_findings]
    assert f"{result.ledger.rows_in:,} event rows" in prepared
    assert f"findings: {len(found)} of {len(result.quality.checks)}" in prepared
    assert all(name in prepared for name in found)


def test_a_group_that_the_report_hides_has_no_figure(dossier, result):
    hidden = [group for group in result.bias.groups if "auroc" not in group.figures]
    (answer,) = items_of(dossier)["chai/15"]["answers"]

    assert hidden
    assert not any(f"{group.by} {group.level}:" in answer["text"] for group in hidden)
    assert f"{len(hidden)} group" in answer["text"]


class Links(HTMLParser):
    """Collects the addresses that a page loads or links to, and its ids."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]


def test_the_page_loads_nothing_and_its_links_lead_somewhere(dossier):
    page, found = render_dossier(dossier), Links()
    found.feed(page)

    assert len(found.ids) == len(set(found.ids))
    for link in found.links:
        assert link.startswith(("#", "report.html"))
        assert not link.startswith("#") or link[1:] in found.ids
    assert render_dossier(json.loads(json.dumps(dossier))) == page


def test_a_statement_cannot_add_markup(result):
    page = render_dossier(make_dossier(RUN, result, {"funding": "<script>alert(1)</script>"}))

    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_windows_and_index_dates_are_answered_as_in_the_report(result):
    """All history beside a window, and a time after the index date, are named as in the head of the report."""

    def answered(**changes):
        features = {**result.lineage.spec["features"], **changes}
        lineage = result.lineage.model_copy(update={"spec": {**result.lineage.spec, "features": features}})
        changed = {"lineage": lineage, "predictive": "after" not in changes}
        return json.dumps(make_dossier(RUN, result.model_copy(update=changed), {}))

    assert "from 90 days and all history up to and including the index date" in answered(
        windows=[90], allHistory=True
    )
    assert "There is no index date" not in answered(after={"fromDays": 0, "toDays": 180})
