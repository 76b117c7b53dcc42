"""The pages of the site are prepared while the last tasks of a run are carried out."""

import queue

import pytest
from jinja2 import Environment

from mlho.report.page import html
from scheduler.cli.results import site
from scheduler.cli.results.site import SitePreparation
from scheduler.engine.progress import StageProgress

LEARNING = (StageProgress("learn", 3, 7), StageProgress("model", 0, 2), StageProgress("report", 0, 1))
MODEL = (StageProgress("learn", 7, 7), StageProgress("model", 0, 2), StageProgress("report", 0, 1))
REPORT = (StageProgress("learn", 7, 7), StageProgress("model", 2, 2), StageProgress("report", 0, 1))


def test_pages_are_prepared_once_and_not_before_the_final_model(monkeypatch):
    """Before that all cores compute iterations, which the preparation would delay."""
    prepared: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(site, "prepare_pages", lambda: prepared.put("prepared"))
    preparation = SitePreparation()

    preparation.update(LEARNING, 2)
    assert prepared.empty()

    preparation.update(MODEL, 1)
    preparation.update(REPORT, 1)
    assert prepared.get(timeout=60) == "prepared"
    with pytest.raises(queue.Empty):
        prepared.get(timeout=0.1)


def test_prepared_templates_are_not_compiled_again(monkeypatch):
    """What the preparation compiles is what the pages use."""
    html._environment.cache_clear()
    html.prepare_site()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a template was compiled again")

    monkeypatch.setattr(Environment, "compile", refuse)
    for name in ("site.html.j2", "site_model.html.j2", "parts.html.j2"):
        assert html._environment().get_template(name).name == name
