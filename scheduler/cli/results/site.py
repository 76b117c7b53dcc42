"""The command ``mlho site``: static pages of the runs, models and channels of a store."""

import threading
from typing import Final

from mlho.errors import plural
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.evaluation.compare import comparison_page
from scheduler.cli.listing import existing_store
from scheduler.cli.options import Commands, StoreOptions
from scheduler.engine.process_pool import call_beside
from scheduler.engine.progress import Stages, current_stage
from scheduler.site.pages import INDEX, Renderer, prepare_pages, renew_site, write_site

_LAST_STAGES: Final = ("model", "report")
SITE_ABOUT: Final = """\
Write static pages of a store into the store: site/index.html with channels, models and runs, and a page
for each model.

The page of a model shows its scoring runs over time (volume, drift, alert rate), its versions with links to their reports, and the
comparison of each version with the one before. The pages need no server: open them from the folder, or from a copy of the bucket.
They are also written at the end of each run, and after a promotion, a rollback and a deletion.
"""


def add_site(commands: Commands) -> None:
    """Add ``mlho site``."""
    commands.add("site", _site, "write static pages of a store's runs, models and channels", SITE_ABOUT)


def _site(options: StoreOptions) -> int:
    store = existing_store(options)
    written = write_site(store, render_comparison=_renderer(options.store))
    site = written.site
    numbers = {"run": len(site.runs), "model": len(site.models), "channel": len(site.channels)}
    found = ", ".join(plural(number, name) for name, number in numbers.items())
    terminal.print_line(f"site     {options.store.rstrip('/')}/{INDEX}")
    terminal.print_line(f"{found}; {plural(written.n_new, 'new page')}.")
    return 0


class SitePreparation:
    """An observer that prepares the pages of the site in the background while the last tasks of a run are carried out.

    At that time the command only waits and the tasks run one after another, so a core is idle.
    """

    def __init__(self) -> None:
        self._has_begun = False

    def update(self, stages: Stages, running: int) -> None:
        """Start the preparation at the stage of the final model."""
        if not self._has_begun and current_stage(stages) in _LAST_STAGES:
            self._has_begun = True
            threading.Thread(target=prepare_pages, daemon=True).start()


def renew(store: Store, address: str) -> None:
    """Write the site after a command has changed the store. A failure is only a warning."""
    reason = renew_site(store, render_comparison=_renderer(address))
    if reason is not None:
        terminal.print_warning(f"The site was not written: {reason.rstrip('.')}.")


def _renderer(address: str) -> Renderer:
    return lambda a, b: call_beside(comparison_page, address, a, b)
