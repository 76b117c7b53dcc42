"""Every kind of page in a browser: axe finds nothing serious, nothing is wider than the window, and the console stays empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mlho.report.dossier.document import make_dossier
from mlho.report.page.html import render_dossier, render_html
from mlho.report.result import Result
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from scheduler.site.pages import INDEX, write_site
from tests.builders import make_tables, run_inline, write_tables
from tests.unit.report.sample_result import sample_result
from tests.unit.scheduler.runs.test_site import plant_night

BROWSER: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PHONE, DESKTOP = 390, 1280
PAGES: Final = ("report", "association", "dossier", "site", "model")

pytestmark = pytest.mark.skipif(
    BROWSER is None and "CI" not in os.environ,
    reason="no Chromium here: apt-get install chromium. CI installs it and does not skip.",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the report and the dossier of a run, a report without index dates, and the site of a store with scoring runs."""
    folder = tmp_path_factory.mktemp("pages")
    store = LocalStore(folder / "store")
    run = run_inline(write_tables(folder / "data", make_tables(200, seed=5)), store).finished.run_id
    result = Result.model_validate_json(store.get(run_key(run, "result.json")))
    sample = sample_result(n_features=12, n_iterations=3, predictive=False, warnings=["The cohort is small."])
    (folder / "association.html").write_text(render_html(sample), encoding="utf-8")
    (folder / "dossier.html").write_text(render_dossier(make_dossier(run, result, {})), encoding="utf-8")
    for number in range(6):
        plant_night(store, number, bundle=result.final_model.bundle_digest)
    write_site(store)
    return {
        "report": store.path(run_key(run, "report.html")),
        "association": folder / "association.html",
        "dossier": folder / "dossier.html",
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
