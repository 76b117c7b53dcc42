"""Write the site of a store.

Every page but the first is written once: the page of a model under the digest of its content, a comparison under the
ids of both runs. Only ``site/index.html`` is overwritten, by compare-and-swap. A writer reads it before it lists the
store. If another writer has replaced it since, the swap fails and the writer lists the store again. The index
therefore never loses a run that an earlier index had, and the last of several concurrent writers shows all runs. In
compat mode the last write wins. The end of the next run completes the index.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final

from mlho.errors import MlhoError
from mlho.log import log
from mlho.report.site import Site, SiteRun
from mlho.store.base import Store, StoredObject, get_if_present
from mlho.store.keys import SITE, site_key
from scheduler.runs.garbage import GRACE, garbage, store_time
from scheduler.site.facts import evaluation_facts_key, facts_key, read_site

INDEX: Final = site_key("index.html")
COMPARISON_VERSION: Final = 2  # increase it when the layout of a comparison page changes
_MAX_WRITES: Final = 8
_DIGEST_LENGTH: Final = 16

#: Renders the comparison of two training runs, given as (id, name).
Renderer = Callable[[tuple[str, str], tuple[str, str]], str]


@dataclass(frozen=True)
class Written:
    """The site that a writer has written."""

    site: Site
    n_new: int
    """Number of pages written, not counting the first page."""


def write_site(store: Store, *, render_comparison: Renderer | None = None) -> Written:
    """Write the pages of a store that are missing, and replace the first page if it changes.

    Raise MlhoError if other writers keep replacing the first page at the same time.

    Parameters
    ----------
    render_comparison : callable, optional
        Without it, no comparison is rendered; those of earlier writers are still linked.
    """
    n_new = 0
    for _ in range(_MAX_WRITES):
        before = get_if_present(store, INDEX)
        present = {obj.key: obj for obj in store.objects(f"{SITE}/")}
        comparisons = _Comparisons(store, present, render_comparison)
        site = read_site(store, comparisons.page)
        pages, index = _rendered(site)
        n_new += comparisons.n_new + _write_pages(store, pages, present, before or b"")
        if index == before or store.compare_and_swap(INDEX, index, expected=before):
            facts = [facts_key(run.run) for run in site.runs]
            facts += [
                evaluation_facts_key(evaluation.id)
                for model in site.models
                for evaluation in model.evaluations
            ]
            kept = {INDEX, *pages, *comparisons.keys, *facts}
            _remove_stale(store, present, kept)
            return Written(site, n_new)
    raise MlhoError(f"{INDEX}: other processes replace it at the same time. Run mlho site again.")


def prepare_pages() -> None:
    """Import and compile the code that renders the site. If that fails, writing the site shows the reason."""
    if find_spec("jinja2") is None:
        return
    with suppress(Exception):
        from mlho.report.page.html import prepare_site

        prepare_site()


def renew_site(store: Store, *, render_comparison: Renderer | None = None) -> str | None:
    """Write the site after a run, whose outcome it must not change. Return why it was not written; None if it was."""
    if find_spec("jinja2") is None:
        return "jinja2 is not installed. Install mlho-batch[scheduler]"
    try:
        write_site(store, render_comparison=render_comparison)
    except MlhoError as error:
        log.warning("site_not_written", error=str(error))
        return str(error)
    except Exception as error:  # a defect of a page must not fail a finished run
        log.exception("site_not_written")
        return f"{type(error).__name__}. Report this as a defect"
    return None


@dataclass
class _Comparisons:
    """Pages of comparisons: written once, because finished runs do not change."""

    store: Store
    known: Mapping[str, StoredObject]
    render: Renderer | None
    keys: set[str] = field(default_factory=set)
    n_new: int = 0

    def page(self, a: SiteRun, b: SiteRun) -> str | None:
        """Return the address of the comparison of two runs; None if it does not exist and cannot be rendered here."""
        name = f"compare-{a.run}-{b.run}-v{COMPARISON_VERSION}.html"
        key = site_key(name)
        if key not in self.known:
            if self.render is None:
                return None
            try:
                text = self.render((a.run, a.name), (b.run, b.name))
            except MlhoError as error:  # artifacts of a run were removed
                log.warning("runs_not_compared", run_id=a.run, other_run_id=b.run, error=str(error))
                return None
            self.n_new += self.store.put_if_absent(key, text.encode())
        self.keys.add(key)
        return name


def _rendered(site: Site) -> tuple[dict[str, bytes], bytes]:
    """Return the pages of the models by key, and the first page."""
    from mlho.report.page.html import render_site, render_site_model

    pages: dict[str, bytes] = {}
    addresses: dict[str, str] = {}
    for model in site.models:
        content = render_site_model(model, site).encode()
        name = f"model-{hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]}.html"
        pages[site_key(name)] = content
        addresses[model.name] = name
    return pages, render_site(site, addresses).encode()


def _write_pages(
    store: Store, pages: Mapping[str, bytes], present: Mapping[str, StoredObject], before: bytes
) -> int:
    """Write the pages that the store does not have. Return their number."""
    n_new = 0
    for key, content in pages.items():
        is_linked = key.rpartition("/")[2].encode() in before
        # A page that the first page does not link may be about to be removed.
        if key in present and (is_linked or store.refresh(key)):
            continue
        n_new += store.put_if_absent(key, content)
    return n_new


def _remove_stale(store: Store, present: Mapping[str, StoredObject], kept: set[str]) -> None:
    """Remove pages and facts of an earlier state of the store. Other writers may need those of the last 24 hours."""
    if present.keys() <= kept:
        return
    old, _, _ = garbage(
        present.values(), is_needed=lambda obj: obj.key in kept, before=store_time(store) - GRACE
    )
    for obj in old:
        store.delete(obj.key)
