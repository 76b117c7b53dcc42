"""The estimate: what a plan costs, from the specification and the manifest alone."""

import io

from rich.console import Console

from mlho.steps.base import InputFile
from scheduler.estimate import estimate
from scheduler.plan import Manifest
from tests.builders import make_spec


def shown(n_bytes: int, changes=None, *, n_workers: int = 1) -> str:
    tables = {name: (InputFile(key=name, size=n_bytes, version="0"),) for name in ("events", "labels")}
    out = io.StringIO()
    Console(file=out, width=120).print(estimate(make_spec(changes), Manifest(tables), n_workers=n_workers))
    return out.getvalue()


def test_a_small_run_is_seconds():
    """A kilobyte of events: every stage is there, and the total is seconds."""
    text = shown(1000)

    for words in ("cohort", "reading events", "packing features", "selecting and fitting", "report", "all"):
        assert words in text
    assert "2.0 kB" in text


def test_a_large_run_is_cut_by_fold_and_takes_longer():
    """Ten gigabytes: folds are tasks of their own."""
    small = shown(1000).splitlines()
    large = shown(10**10).splitlines()

    def n_tasks(lines: list[str]) -> int:
        (line,) = [line for line in lines if line.strip().startswith("all")]
        return int(line.replace("│", "|").split("|")[1])

    assert n_tasks(large) > n_tasks(small)


def test_more_workers_take_less_time():
    """And the caption says how many, and that it is a guess."""
    assert "4 worker(s)" in shown(10**10, n_workers=4)
    assert "guesses" in shown(10**10)
    assert shown(10**10) != shown(10**10, n_workers=4)


def test_a_model_on_the_consensus_is_counted_with_its_judging():
    """Six sets of folds held out more, in the table of tasks and in its sum."""
    folds = {"validation.folds": 3}
    ranked, consensus = (shown(1000, {**folds, "final.features": own}) for own in ("ranking", "consensus"))

    def n_tasks(text: str) -> int:
        (line,) = [line for line in text.splitlines() if line.strip().startswith("all")]
        return int(line.replace("│", "|").split("|")[1])

    assert n_tasks(consensus) == n_tasks(ranked) + 6
