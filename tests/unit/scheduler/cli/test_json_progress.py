"""Progress as JSON: lines are complete, follow the manual, and come at most once a second."""

import io
import json
import re
from pathlib import Path

from scheduler.cli.json_progress import JsonProgress, JsonTrack
from scheduler.engine.outages import Outage
from scheduler.engine.progress import Counts, Facts, StageProgress

MANUAL = Path(__file__).parents[4] / "docs/operations.md"
RUN = "0123456789abcdef"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def _track():
    lines, clock = [], Clock()
    return JsonTrack("demo", RUN, lambda line: lines.append(json.loads(line)), clock=clock), lines, clock


def test_a_line_has_the_fields_of_the_manual():
    """A line has the fields of the table in docs/operations.md, in the same order."""
    track, lines, _ = _track()
    track.show(Facts(stage="learn", done=1, total=4))
    section = MANUAL.read_text().split("## Progress")[1].split("\n## ")[0]
    assert list(lines[0]) == re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_a_line_has_the_state_of_the_run():
    """A line has all figures of the run's state; its timestamp is UTC in milliseconds."""
    track, lines, _ = _track()
    facts = Facts("learn", 3, 10, 2, 1, 4, 5, rate=0.51239, seconds_left=13.661)
    track.show(facts)
    (line,) = lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "event": "progress",
        "run": RUN,
        "name": "demo",
        "state": "running",
        "reason": None,
        "since": None,
        "stage": "learn",
        "done": 3,
        "total": 10,
        "running": 2,
        "slots": 5,
        "retried": 1,
        "quarantined": 4,
        "rate": 0.512,
        "seconds_left": 13.7,
    }


def test_lines_are_written_at_most_once_a_second_and_only_after_changes():
    """At most one line is written per second: three changes within a second give two lines. A change of the rate alone gives none."""
    track, lines, clock = _track()
    for moment, done, rate in ((0.0, 1, None), (0.4, 2, None), (0.9, 3, None), (1.0, 4, 3.0), (2.5, 4, 2.9)):
        clock.now = moment
        track.show(Facts(stage="learn", done=done, total=9, rate=rate))
    assert [line["done"] for line in lines] == [1, 4]


def test_the_last_line_has_the_final_state_and_the_latest_figures():
    """The last line has the final state and the latest figures, even if less than a second passed since the line before."""
    track, lines, clock = _track()
    track.show(Facts(stage="learn", done=8, total=9, running=1, rate=2.0, seconds_left=0.5))
    clock.now = 0.1
    track.show(Facts(stage="report", done=9, total=9, running=0, rate=2.0))
    track.end("finished")
    last = lines[-1]
    assert (last["state"], last["done"], last["running"], last["rate"]) == ("finished", 9, 0, None)


def test_a_queue_that_does_not_answer_is_a_state():
    """The state is ``degraded`` while the queue does not answer, and ``running`` again afterwards."""
    track, lines, clock = _track()
    for moment, is_degraded in ((0, False), (1, True), (2, False)):
        clock.now = moment
        track.show(Facts(done=1, total=2, is_degraded=is_degraded))
    assert [line["state"] for line in lines] == ["running", "degraded", "running"]


def test_several_runs_share_a_stream_line_by_line():
    """The lines of several runs share one stream, and each line names its run."""
    stream = io.StringIO()
    with JsonProgress(stream) as display:
        first, second = display.tracks({"a" * 16: "one", "b" * 16: "two"})
        first.follow(Counts(retried=7))
        first.update((StageProgress("learn", 1, 2),), 1)
        second.update((StageProgress("learn", 2, 2),), 0)
        second.end("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["name"], line["state"], line["retried"]) for line in lines] == [
        ("one", "running", 7),
        ("two", "running", 0),
        ("two", "failed", 0),
    ]


def test_a_line_has_the_outage_of_the_store():
    """A line during a store outage has its reason and start time; the last line of the run no longer has them."""
    lines: list[str] = []
    track = JsonTrack("demo", RUN, lines.append)
    outage = Outage("StoreAccessDenied", 1_790_000_000.0, "s3://b: access denied.")

    track.show(Facts("learn", 3, 10, outage=outage))
    track.end("failed")
    first, last = map(json.loads, lines)

    assert (first["state"], first["reason"], first["since"]) == (
        "degraded",
        "StoreAccessDenied",
        "2026-09-21T14:13:20.000Z",
    )
    assert (last["state"], last["reason"], last["since"]) == ("failed", None, None)
