"""The command ``mlho site``: static pages of the runs, models and channels of a store."""

from typing import Final

from mlho.errors import plural
from mlho.store.base import Store
from scheduler.cli import terminal
from scheduler.cli.evaluation.compare import comparison_page
from scheduler.cli.listing import existing_store
from scheduler.cli.options import Commands, StoreOptions
from scheduler.engine.process_pool import call_beside
from scheduler.site.pages import INDEX, Renderer, renew_site, write_site

SITE_ABOUT: Final = """\
Write static pages of a store into the store: site/index.html with channels, models and runs, and a page of each model.

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
    found = ", ".join(
        (
            plural(len(site.runs), "run"),
            plural(len(site.models), "model"),
            plural(len(site.channels), "channel"),
        )
    )
    terminal.print_line(f"site     {options.store.rstrip('/')}/{INDEX}")
    terminal.print_line(f"{found}; {plural(written.n_new, 'new page')}.")
    return 0


def renew(store: Store, address: str) -> None:
    """Write the site after a command has changed the store. A failure is only a warning."""
    reason = renew_site(store, render_comparison=_renderer(address))
    if reason is not None:
        terminal.print_note(f"Warning: the site was not written: {reason.rstrip('.')}.")


def _renderer(address: str) -> Renderer:
    return lambda a, b: call_beside(comparison_page, address, a, b)
