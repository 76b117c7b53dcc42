import re
import time
from collections import Counter
from html.parser import HTMLParser

import pytest

from mlho.report.figures.catalogue import figures_of
from mlho.report.page.html import render_html
from mlho.report.page.training import SECTIONS
from mlho.report.result import Result

MAX_BYTES = 2_000_000
VOID = {"meta", "input", "br", "link", "img", "hr"}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """Collects the elements that an accessibility checker looks at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.stack: list[str] = []
        self.tables: list[set[str]] = []
        self.pictures: list[tuple[dict[str, str | None], set[str]]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.heads_without_scope = 0
        self.labels: set[str] = set()
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if values.get("id"):
            self.ids.append(values["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append(set())
        if tag == "caption":
            self.tables[-1].add("caption")
        if tag == "th" and values.get("scope") not in ("col", "row"):
            self.heads_without_scope += 1
        if tag == "svg":
            self.pictures.append((values, set()))
        if tag in ("title", "desc") and "svg" in self.stack:
            self.pictures[-1][1].add(tag)
        if tag == "label":
            self.labels.add(values["for"])
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text.append(data)


@pytest.fixture(scope="session")
def parsed(page):
    return Page(page)


def test_equal_results_give_equal_bytes(result, page):
    """Rendering is a pure function of the result, also after a round trip through JSON."""
    again = Result.model_validate_json(result.model_dump_json())

    assert render_html(result) == page
    assert render_html(again) == page


def test_the_order_of_keys_does_not_show(result, page):
    """The keys of result.json are sorted, but those of a result in memory need not be."""
    shuffled = {
        "headline": dict(reversed(result.headline.items())),
        "cohort": result.cohort.model_copy(
            update={"label_ledger": dict(reversed(result.cohort.label_ledger.items()))}
        ),
        "consensus": dict(reversed(result.consensus.items())),
    }

    assert render_html(result.model_copy(update=shuffled)) == page


def test_a_large_run_stays_small_and_renders_at_once(make_result):
    """2,000 features and 20 iterations give less than 2 MB, within half a second of CPU time on an idle machine (two here)."""
    large = make_result(n_features=2_000, n_iterations=20)
    start = time.process_time()

    page = render_html(large)

    assert time.process_time() - start < 2.0
    assert len(page.encode()) < MAX_BYTES


def test_more_features_than_the_table_holds_are_announced(make_result):
    """Beyond 2,000 features, the others are only in result.json, and the report states their number."""
    page = render_html(make_result(n_features=3_000))

    assert len(page.encode()) < MAX_BYTES
    assert "The first 2000 are listed; 1,002 more are in result.json." in page


def test_tags_are_balanced_and_ids_unique(parsed):
    """Assistive technology follows ids; the parser asserts the nesting."""
    assert parsed.stack == []
    assert [i for i, n in Counter(parsed.ids).items() if n > 1] == []


def test_every_reference_within_the_page_has_its_target(parsed):
    """Contents, skip link, labels and descriptions refer to existing ids."""
    references = [value[1:] for _, name, value in parsed.attributes if name == "href" and value]
    for _, name, value in parsed.attributes:
        if name in ("aria-labelledby", "for", "data-filter") and value:
            references += value.split()

    assert set(references) <= set(parsed.ids)
    assert set(SECTIONS) <= set(references)


def test_headings_nest_in_order(parsed):
    """There is one h1, and no heading level is skipped."""
    assert parsed.headings.count(1) == 1
    assert all(
        after - before <= 1 for before, after in zip(parsed.headings, parsed.headings[1:], strict=False)
    )


def test_every_table_has_a_caption_and_every_head_a_scope(parsed):
    """A screen reader needs the caption of a table, and the head that a cell belongs to."""
    assert len(parsed.tables) > 15
    assert all("caption" in table for table in parsed.tables)
    assert parsed.heads_without_scope == 0


def test_every_picture_is_an_image_with_title_and_description(parsed):
    """Each inline SVG is one image for a screen reader."""
    # A part that clips lines has the role of presentation.
    whole = [picture for picture in parsed.pictures if picture[0].get("role") != "presentation"]
    assert len(whole) > 15
    for attributes, children in whole:
        assert attributes["role"] == "img"
        assert {"title", "desc"} <= children


def test_inputs_are_labelled_and_scrolling_regions_can_be_focused(parsed):
    """The filter has a label, and tables can be scrolled without a mouse."""
    inputs = {value for tag, name, value in parsed.attributes if tag == "input" and name == "id"}
    regions = sum(name == "role" and value == "region" for _, name, value in parsed.attributes)
    focusable = sum(name == "tabindex" and value == "0" for _, name, value in parsed.attributes)

    assert inputs <= parsed.labels
    assert focusable >= regions > 10


def test_nothing_is_fetched(page, parsed):
    """The only address is the SVG namespace, there is no source, import or link, and the policy forbids all requests."""
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) == {SVG_NAMESPACE}
    assert not [name for _, name, _ in parsed.attributes if name in ("src", "srcset", "data")]
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_the_language_and_the_viewport_are_declared(page):
    """A screen reader needs the language, and a phone the viewport."""
    assert '<html lang="en">' in page
    assert 'name="viewport"' in page


def test_a_run_without_index_date_says_so_in_every_heading(make_result):
    """Every heading says that the run is an association only."""
    page = render_html(make_result(predictive=False))

    headings = re.findall(r"<h2 id=\"\w+-heading\">(.*?)</h2>", page)
    assert len(headings) == len(SECTIONS)
    assert all("not predictive: association only" in heading for heading in headings)
    assert re.search(r"<title>.*not predictive.*</title>", page)


def test_one_test_set_is_in_the_singular(make_result):
    """The captions of a run with one iteration say "over 1 iteration"."""
    page = render_html(make_result(n_iterations=1))

    assert "1 test sets" not in page
    assert "procedure, over 1 iteration<" in page
    assert "to the highest test set" not in page


def test_intervals_of_figures_that_resampling_raises_are_explained(page):
    """The expected calibration error and the gaps are at least 0 and rise in replicates: an interval may exclude its figure."""
    assert "resampling inflates it, so its interval may lie above the value" in page
    assert "Resampling inflates a largest difference" in page


def test_a_test_set_of_a_site_is_named(result):
    """Sites are to be compared one by one, so that the chart and its table name the site that an iteration tests."""
    iterations = [i.model_copy(update={"test_set": f"site MGH {i.iteration}"}) for i in result.iterations]

    page = render_html(result.model_copy(update={"iterations": iterations}))

    assert ">iteration 1, site MGH 1<" in page
    assert ">Iteration 1, site MGH 1 (" in page


def test_the_units_of_the_odds_ratios_are_in_the_table(page):
    """Odds ratios over the iterations are per standard deviation, those of the consensus per unit."""
    for name in ("OR per SD over iterations", "OR per unit in consensus", "OR per SD in consensus"):
        assert f">{name}</th>" in page


def test_the_interval_over_iterations_is_not_called_a_confidence_interval(page):
    """The iterations share patients: the t-interval of 20 iterations contains the true odds ratio in about a fifth of cohorts."""
    figure = page[page.index("Odds ratios over the iterations") :]
    table = figure[: figure.index("</table>")]

    assert "Odds ratio (t-interval over the iterations)" in table
    assert "too narrow for the effect" in table
    assert "Odds ratio (95 % CI)" not in table


def test_a_predictive_run_does_not(page):
    """The report of a predictive run does not say "not predictive"."""
    assert "not predictive" not in page


def test_the_ledger_shows_that_it_adds_up_or_does_not(result, page):
    """The report computes the sum of the ledger and does not assume it."""
    wrong = result.ledger.model_copy(update={"rows_in": result.ledger.rows_in + 1})

    assert ">adds up<" in page
    assert "does NOT add up" in render_html(result.model_copy(update={"ledger": wrong}))


def test_suppressed_cells_are_words(page):
    """A count that is too small is replaced by words, never by a blank or zero."""
    assert page.count("fewer than 11") > 2


def test_absent_values_carry_their_reason(page):
    """The page has no empty cell, no NaN and no None."""
    assert "never reached" in page
    assert "the bound of stability selection holds for half-samples" in page
    visible = " ".join(Page(page).text)
    assert not re.search(r"\b(nan|None|undefined|inf)\b", visible)


def test_words_of_the_data_are_escaped(make_result):
    """Markup in a description, a warning or an outcome is escaped."""
    page = render_html(make_result(warnings=["<img src=x onerror=alert(1)> & more"]))

    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; more" in page


def test_control_characters_of_the_data_are_signs_in_page_and_pictures(result):
    """An escape sequence, a NUL and a reversed text direction appear neither in the page nor in a saved picture."""
    evil = "E11\x00 \x1b[31m\x9b \u202e end"
    first = result.features[0].model_copy(update={"words": evil, "description": evil, "code": evil})
    marked = result.model_copy(
        update={"warnings": [evil], "outcome": evil, "features": [first, *result.features[1:]]}
    )

    texts = [render_html(marked), *(figure.svg for figure in figures_of(marked).values())]

    for text in texts:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "E11␀ ␛[31m� � end" in texts[0]


def test_the_report_holds_nothing_but_its_result(result):
    """A marker in the result appears on the page, and no path or name of the machine does."""
    marked = result.model_copy(update={"warnings": ["CANARY-IN-RESULT"]})

    page = render_html(marked)

    assert page.count("CANARY-IN-RESULT") == 1
    for trace in ("/home/", "/tmp/", "/root/", ".py", "localhost"):
        assert trace not in page


def test_input_files_are_listed_with_their_digests_up_to_a_limit(page):
    """The lineage names the input files, but a thousand partitions do not fill the page."""
    assert "events/part-0029.parquet" in page
    assert f"{29:064x}" in page
    assert "part-0030" not in page
    assert "10 more are listed in result.json." in page


def test_the_lineage_is_drawn_from_tables_to_scores(result):
    """The lineage has the full digests of specification, matrix, bundle and result, and the image if the workers know it."""
    told = result.model_copy(update={"inputs": {**result.inputs, "image": "mlho-worker@sha256:0123"}})

    figure = figures_of(told)["lineage"]

    digests = {name: value for name, value, _ in figure.rows}
    assert list(digests) == ["Tables", "Specification", "Software", "Matrix", "Bundle", "Result", "Scores"]
    assert digests["Bundle"] == result.final_model.bundle_digest
    assert digests["Result"] == result.result_digest
    assert "mlho-worker@sha256:0123" in figure.wide
    assert digests["Matrix"][:12] in render_html(told)


def test_missing_values_have_one_name(make_result):
    """Characteristics, the audit of groups and gates all use the word unknown."""
    page = render_html(make_result())

    assert ">sex: unknown<" in page
    assert ": missing<" not in page


def test_a_minimal_result_renders(result):
    """Without iterations, curves, profiles and features, the sections say "not available", and the page renders."""
    empty = result.curves.model_copy(
        update={"roc": [], "precision_recall": [], "calibration": [], "decision": {}}
    )
    bare = result.model_copy(
        update={
            "features": [],
            "curves": empty,
            "errors": {},
            "headline": {},
            "headline_auroc": [],
            "test_sets": [],
            "winners": {},
            "iterations": [],
            "candidates": [],
            "summary": [],
            "warnings": [],
            "consensus": {},
            "final_model": result.final_model.model_copy(
                update={"profiles": [], "tests": [], "thresholds": []}
            ),
        }
    )

    parsed = Page(render_html(bare))

    assert parsed.stack == []
    assert "not available" in " ".join(parsed.text)
