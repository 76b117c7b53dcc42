"""Every kind of page in a browser: axe finds nothing serious, nothing is wider than the window, and the console stays empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mlho.model.bundle import load_bundle
from mlho.report.dossier.document import make_dossier
from mlho.report.page.html import render_changes, render_dossier, render_evaluation, render_html
from mlho.report.result import Result
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from scheduler.cli.evaluation.compare import comparison_page
from scheduler.site.pages import INDEX, write_site
from tests.builders import make_tables, run_inline, write_tables
from tests.unit.external.test_evaluation import evaluated
from tests.unit.report.sample_result import sample_result
from tests.unit.scheduler.runs.test_site import plant_night

BROWSER: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHONE, DESKTOP = 390, 1280
PAGES: Final = (
    "report",
    "association",
    "dossier",
    "site",
    "model",
    "evaluation",
    "comparison",
    "changes",
)
CHANGES: Final = (
    "Changes in the tables",
    ("Month", "Code", "Description", "Change", "Before", "After"),
    [("2015-10", "DX10:000007", "Coronary artery disease", "begins", "0.00 %", "6.91 %")] * 30,
)

pytestmark = pytest.mark.skipif(
    BROWSER is None and "CI" not in os.environ,
    reason="no Chromium here: apt-get install chromium. CI installs it and does not skip.",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages of a run, of an evaluation of its bundle, of a study, and a report without index dates.

    The page of variants has the template and the kinds of tables of the comparison.
    """
    folder = tmp_path_factory.mktemp("pages")
    store = LocalStore(folder / "store")
    run = run_inline(write_tables(folder / "data", make_tables(200, seed=5)), store).finished.run_id
    result = Result.model_validate_json(store.get(run_key(run, "result.json")))
    sample = sample_result(n_features=12, n_iterations=3, predictive=False, warnings=["The cohort is small."])
    (folder / "association.html").write_text(render_html(sample), encoding="utf-8")
    (folder / "dossier.html").write_text(render_dossier(make_dossier(run, result, {})), encoding="utf-8")
    (folder / "changes.html").write_text(
        render_changes("tables", ["2015-10: 2 codes begin"], [CHANGES]), encoding="utf-8"
    )
    compared = comparison_page(str(store.root), (run, "a"), (run, "b"))
    (folder / "comparison.html").write_text(compared, encoding="utf-8")
    bundle = load_bundle(store.root / run_key(run, "bundle"))
    others = write_tables(folder / "others", make_tables(200, seed=6))
    (folder / "evaluation.html").write_text(render_evaluation(evaluated(bundle, others)), encoding="utf-8")
    for number in range(6):
        plant_night(store, number, bundle=result.final_model.bundle_digest)
    write_site(store)
    return {
        "report": store.path(run_key(run, "report.html")),
        "association": folder / "association.html",
        **{name: folder / f"{name}.html" for name in ("dossier", "changes", "comparison", "evaluation")},
        "site": store.path(INDEX),
        "model": next((store.root / "site").glob("model-*.html")),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert BROWSER is not None, "CI needs Chromium: apt-get install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


# The report and the report without index dates have the same layout and style: each is checked at one width.
@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("report", PHONE),
        ("association", DESKTOP),
        ("dossier", PHONE),
        ("evaluation", PHONE),
        ("comparison", PHONE),
        ("changes", PHONE),
        *((name, width) for name in ("site", "model") for width in (PHONE, DESKTOP)),
    ],
)
def test_axe_finds_nothing_serious(browser, pages, name, width):
    """Phones use the dark scheme and desktops the light one, so that the contrast of both palettes is checked."""
    from axe_playwright_python.sync_playwright import Axe

    scheme = "dark" if width == PHONE else "light"
    # The policy of the page would block axe, which is an external script.
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.goto(pages[name].as_uri())
    # A chart is one image for a screen reader, but axe would check each of its thousands of marks.
    page.evaluate(
        "document.querySelectorAll('svg[role=img] > :not(title, desc)').forEach(own => own.remove())"
    )
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    is_within = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()

    serious = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(violation["id"], violation["nodes"][0]["html"][:200]) for violation in serious] == []
    assert is_within


def test_text_is_on_the_left_of_a_column_and_the_dossier_fits_a_phone(browser, pages):
    """A description is read from the left and a share is compared on the right; no table of the dossier must be moved sideways."""
    page = browser.new_page(viewport={"width": PHONE, "height": 900}, bypass_csp=True)
    page.goto(pages["changes"].as_uri())
    sides = page.evaluate(
        "[...document.querySelectorAll('thead th')].map(one => getComputedStyle(one).textAlign)"
    )
    page.goto(pages["dossier"].as_uri())
    wider = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(one => one.scrollWidth - one.clientWidth).filter(by => by > 0)"
    )
    page.close()

    assert sides == ["left"] * 4 + ["right"] * 2
    assert wider == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_its_script_runs_without_an_error(browser, pages, name):
    """The page makes no request and logs nothing while its own policy is in force."""
    requests: list[str] = []
    messages: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(pages[name].as_uri())
    page.close()

    assert requests == [pages[name].as_uri()]
    assert messages == []


def test_paper_shows_long_lines_bars_and_heads_with_their_rows(browser, pages):
    """A printed report cuts no line, prints the bars of the ledger, wraps no number of bytes, and separates no head from its rows."""
    page = browser.new_page(viewport={"width": DESKTOP, "height": 900}, bypass_csp=True)
    page.goto(pages["report"].as_uri())
    page.emulate_media(media="print")

    def style(selector: str, name: str) -> str:
        return page.eval_on_selector(selector, f"element => getComputedStyle(element).{name}")

    assert style("pre", "whiteSpace") == "pre-wrap"
    assert style(".meter", "printColorAdjust") == "exact"
    assert style(".files td:nth-child(2)", "whiteSpace") == "nowrap"
    assert (style("thead", "breakAfter"), style("tbody tr:first-child", "breakBefore")) == ("avoid", "avoid")
    page.close()


def test_axe_finds_a_planted_fault(browser, tmp_path):
    """Axe finds grey text on white and an image without a text, so the test above can fail."""
    from axe_playwright_python.sync_playwright import Axe

    file = tmp_path / "page.html"
    file.write_text(
        '<html lang="en"><title>x</title><main><h1>x</h1><p style="color:#bbb">grey</p><img src="data:,"></main>'
    )
    page = browser.new_page()
    page.goto(file.as_uri())
    found = {
        violation["id"]
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    }
    page.close()

    assert found == {"color-contrast", "image-alt"}
