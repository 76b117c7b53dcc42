"""Terminal output of the command."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from scheduler.cli.terminal import (
    ProgressBars,
    ProgressLines,
    SafeConsole,
    StageLines,
    duration,
    features_table,
    print_table,
    size,
    text_table,
    words_of,
)
from scheduler.engine.progress import Counts, Facts, StageProgress


def test_the_title_of_a_narrow_table_is_one_line():
    """A title that is wider than its columns widens the table instead of being wrapped."""
    title = "Stable features of either run: confidence score and odds ratio (95 % CI)"
    console = Console(file=io.StringIO(), width=80)

    console.print(text_table(title, ["Feature", "A"], [["I10", "93"]]))

    assert console.file.getvalue().splitlines()[0].rstrip() == title


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (41.4, "41 s"), (89, "89 s"), (90, "2 min"), (180, "3 min"), (9000, "2.5 h")],
)
def test_a_duration_is_in_seconds_minutes_or_hours(seconds, words):
    """Durations are in seconds below a minute and a half, then in minutes, then in hours."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_141_592, "3.1 MB"), (2e9, "2.0 GB"), (5e13, "50.0 TB")],
)
def test_a_size_has_a_decimal_unit(n_bytes, words):
    """Sizes are in powers of a thousand."""
    assert size(n_bytes) == words


def test_a_pipe_gets_a_line_at_each_tenth_of_a_stage():
    """A pipe gets one line at a stage's start, at each tenth with the time left, and at its end. Lines do not repeat, and
    stages that have not begun have none.
    """
    lines: list[str] = []
    now = [0.0]
    track = StageLines("", "0" * 16, lines.append, clock=lambda: now[0])
    for done in range(31):
        now[0] = 2.0 * done
        track.update(
            (StageProgress("cohort", 1, 1), StageProgress("learn", done, 30), StageProgress("model", 0, 2)), 1
        )
        track.update(
            (StageProgress("cohort", 1, 1), StageProgress("learn", done, 30), StageProgress("model", 0, 2)), 1
        )

    assert lines[:3] == [
        "cohort: done, 1 task",
        "selecting and fitting: begins, 30 tasks",
        "selecting and fitting: 3 of 30 tasks (10 %), about 54 s left",
    ]
    assert lines[10:] == [
        "selecting and fitting: 27 of 30 tasks (90 %), about 6 s left",
        "selecting and fitting: done, 30 tasks in 60 s",
        "final model: begins, 2 tasks",
    ]


def test_lines_name_their_run_if_there_are_several_and_are_not_wrapped(capsys):
    """With several runs, each line names its run, and a long line is not wrapped at any width of the terminal."""
    with ProgressLines() as display:
        first, _ = display.tracks({"0" * 16: "a-long-name-" * 5, "1" * 16: "short"})
        first.follow(Counts(retried=12, quarantined=3))
        first.update((StageProgress("learn", 0, 9_000),), 3)
        first.update((StageProgress("learn", 5_000, 9_000),), 3)

    begins, tenth = capsys.readouterr().err.splitlines()
    assert begins == f"{'a-long-name-' * 5}: selecting and fitting: begins, 9,000 tasks"
    assert re.search(r": 5,000 of 9,000 tasks \(55 %\), about .* left, 12 retried, 3 quarantined$", tenth)


def test_progress_none_shows_nothing(capsys):
    """With `--progress none`, nothing is written."""
    with ProgressBars(enabled=False) as bars:
        (track,) = bars.tracks({"0123456789abcdef": "demo"})
        track.update((StageProgress("cohort", 1, 1), StageProgress("learn", 2, 5)), 3)
        track.end("finished")

    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_bar_on_a_terminal_shows_stage_tasks_and_final_state(monkeypatch):
    """A progress bar shows the run's name, stage, tasks, counts and final state."""
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("scheduler.cli.terminal.err", Console(file=terminal, force_terminal=True, width=140))
    with ProgressBars(enabled=True) as bars:
        first, second = bars.tracks({"0" * 16: "long", "1" * 16: "short"})
        first.follow(Counts(retried=2, quarantined=1, slots=4))
        first.update((StageProgress("cohort", 1, 1), StageProgress("learn", 2, 5)), 3)
        second.end("failed")

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(
        r"long +selecting and fitting .* 3/6 3 running, 4 slots, 2 retried, 1 quarantined 0:00:00", shown
    )
    assert re.search(r"short +starting .* failed", shown)


def test_facts_become_words():
    """Zeros and unknown figures are omitted."""
    assert words_of(Facts(running=2)) == "2 running"
    full = Facts(running=2, slots=4, retried=1, quarantined=3, rate=0.84, seconds_left=41.2, is_degraded=True)
    assert (
        words_of(full)
        == "2 running, 4 slots, 1 retried, 3 quarantined, 0.8/s, 41 s left, queue does not serve"
    )


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("width", "has_all"), [(70, False), (200, True)])
def test_a_narrow_terminal_leaves_out_columns_instead_of_cutting_off_all(width, has_all, monkeypatch):
    """Ids and states stay whole, and the columns that are left out are named."""
    table = Table(show_edge=False)
    for name in ("name", "run", "started", "state", "outcome"):
        table.add_column(name, no_wrap=True)
    table.add_row("nightly-2021-01-02", "9f6156e62652aebe", "2026-12-01 04:49", "finished", "readmission-30")
    stream = _Terminal()
    console = SafeConsole(width=width, file=stream, force_terminal=True, highlight=False)
    monkeypatch.setattr("scheduler.cli.terminal.out", console)

    print_table(table, optional=("started", "name"))

    written = stream.getvalue()
    assert all(cell in written for cell in ("9f6156e62652aebe", "finished", "readmission-30", "nightly"))
    assert ("2026-12-01 04:49" in written) == has_all
    assert "started" in written


_EVIL = "E11 \x1b[2J\x1b]0;title\x07 \x9b31m \u202e [red]bold[/red]"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_control_characters_of_a_code_do_not_reach_the_terminal(is_terminal):
    """Control characters of a code are removed from tables and sentences. The console's own styles still work, and square
    brackets are not markup.
    """
    stream = io.StringIO()
    console = SafeConsole(file=stream, force_terminal=is_terminal, width=160, highlight=False)
    feature = {
        "words": _EVIL,
        "in_consensus": True,
        "confidence": {"score": 100, "n_seen": 3},
        "odds_ratio": None,
    }

    console.print(features_table([feature], most=1))
    console.print(f"First: {_EVIL}.", markup=False, style="bold")

    written = stream.getvalue()
    text = re.sub(r"\x1b\[[0-9;]*m", "", written)
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.count("E11 ␛[2J␛]0;title") == 2
    assert text.count("[red]bold[/red]") == 2
    assert not is_terminal or "\x1b[1m" in written


def test_an_odds_ratio_of_a_small_unit_is_shown_per_standard_deviation():
    """The odds ratio of a small unit is shown per standard deviation, because 1.00 (1.00–1.00) is uninformative."""
    stream = io.StringIO()
    odds = {"per_unit": 1.0001, "profile_low": 1.00005, "profile_high": 1.00015, "sd": 4000.0}
    odds |= {"per_sd": 1.49, "per_sd_low": 1.22, "per_sd_high": 1.82}
    feature = {
        "words": "platelets",
        "in_consensus": True,
        "confidence": {"score": 100, "n_seen": 3},
        "odds_ratio": odds,
    }

    SafeConsole(file=stream, width=120).print(features_table([feature], most=1))

    assert "1.49 (1.22–1.82) per SD of 4,000" in stream.getvalue()


@pytest.mark.parametrize(
    ("n_stable", "most", "title", "shown"),
    [
        (2, 20, "Stable features", ["I10", "age"]),
        (2, 1, "Stable features (1 more in the report)", ["I10"]),
        (0, 20, "No feature is stable; the highest confidence scores", ["I10", "E11", "age"]),
    ],
)
def test_only_stable_features_are_called_stable(n_stable, most, title, shown):
    """Stable features are listed, demographic ones included. Other features are listed only if none is stable, and the title says so."""
    stream = io.StringIO()
    of = {"confidence": {"score": 60, "n_seen": 3}, "odds_ratio": None}
    features = [
        {"words": words, "in_consensus": words != "E11" and n_stable > 0, **of}
        for words in ("I10", "E11", "age")
    ]

    SafeConsole(file=stream, width=120).print(features_table(features, most=most))

    assert title in stream.getvalue()
    assert [words for words in ("I10", "E11", "age") if f" {words} " in stream.getvalue()] == shown


def test_a_share_of_tasks_is_exact():
    """Two of three tasks are 66 %, although lines are written at tenths."""
    lines: list[str] = []
    track = StageLines("", "0" * 16, lines.append, clock=lambda: 0.0)
    for done in range(3):
        track.update((StageProgress("learn", done, 3),), 1)

    assert lines[1:] == [
        "selecting and fitting: 1 of 3 tasks (33 %), about 0 s left",
        "selecting and fitting: 2 of 3 tasks (66 %), about 0 s left",
    ]


def test_a_closed_standard_error_ends_no_command():
    """After `mlho run … 2>&1 >result | head -1` the run goes on, and its output and exit code are those of a run that is read."""
    program = (
        "from scheduler.cli import terminal\n"
        "for _ in range(3):\n"
        "    terminal.print_note('a note')\n"
        "terminal.print_line('done')"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)

    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_with_a_json_log_every_note_and_error_is_an_event():
    """Notes, such as the command that starts a worker, warnings and the last error are lines of JSON; progress stays as it is."""
    program = (
        "from mlho.log import configure\n"
        "from scheduler.cli import terminal\n"
        "configure('json', verbose=True)\n"
        "terminal.print_note('Start workers: worker [--slots 2]')\n"
        "terminal.print_warning('few patients')\n"
        "terminal.print_error('disk: full.')\n"
        "terminal.print_progress('plain')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)
    *events, last = done.stderr.splitlines()

    assert last == "plain"
    assert [
        {key: value for key, value in json.loads(line).items() if key != "timestamp"} for line in events
    ] == [
        {"event": "note_given", "level": "info", "note": "Start workers: worker [--slots 2]"},
        {"event": "warning_found", "level": "warning", "warning": "few patients"},
        {"event": "command_failed", "level": "error", "error": "disk: full."},
    ]
