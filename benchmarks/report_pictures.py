"""Take screenshots of reports on real and public data, for the documentation.

    python benchmarks/report_pictures.py [syntheticmass gibleed uci] [--store FOLDER] [--to docs]

Trains the specification ``specs/report_<name>.yaml`` on the data beside the reference folder (``MLHO_REFERENCE``), opens the
report in Chromium and writes ``report-<name>.png``. A run that is already in the store is not trained again. The pictures
show sums and shares; small cells are hidden, as in every report.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from shutil import which
from typing import Final, NamedTuple

from _command import DATA, run_mlho, skip_without, write_spec

DOCS = Path(__file__).parents[1] / "docs"
MOST_BYTES = 180_000
WIDTH: Final = 1000


class Picture(NamedTuple):
    """The folder of the data, and the part of the page, given by the element at its top and its height in pixels."""

    data: str
    element: str
    height: int


PICTURES: Final = {
    "syntheticmass": Picture("syntheticmass", "#questions", 760),
    "gibleed": Picture("omop_gibleed", "#quality", 900),
    "uci": Picture("uci_diabetes130", "#figure-groups", 900),
}


def draw(report: Path, picture: Picture, target: Path) -> int:
    """Write a part of a report as PNG and return its bytes."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.add_style_tag(content="nav.toc{display:none}.page{display:block}")
        box = page.locator(picture.element).first.bounding_box()
        assert box is not None, f"the report has no {picture.element}"
        clip = {"x": box["x"] - 12, "y": box["y"], "width": box["width"] + 24, "height": picture.height}
        page.screenshot(path=target, full_page=True, clip=clip)
        opened.close()
    return target.stat().st_size


def main() -> int:
    """Write each picture and print its size against the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=list(PICTURES), metavar="NAME")
    parser.add_argument("--store", type=Path, help="keep the runs here (default: a temporary folder)")
    parser.add_argument("--to", type=Path, default=DOCS)
    options = parser.parse_args()
    large = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names or PICTURES:
            picture = PICTURES[name]
            skip_without(DATA / picture.data)
            store = (options.store or Path(scratch)) / name
            run_mlho(write_spec(f"report_{name}", DATA / picture.data, Path(scratch), {}), store, n_workers=2)
            newest = max(store.glob("runs/*/report.html"), key=lambda path: path.stat().st_mtime)
            n_bytes = draw(newest, picture, options.to / f"report-{name}.png")
            large += n_bytes > MOST_BYTES
            print(f"report-{name}.png: {n_bytes:,} bytes of at most {MOST_BYTES:,}")
    return int(large > 0)


if __name__ == "__main__":
    sys.exit(main())
