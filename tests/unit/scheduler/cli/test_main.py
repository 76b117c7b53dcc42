"""The start of the ``mlho`` command, before its modules are imported."""

import os
import subprocess
import sys
from typing import Final

import pytest

from mlho.spec.schema import schema_of
from scheduler.__main__ import _WITH_TEXTS
from scheduler.api.crd import render_crds
from tests.builders import make_tables, write_tables

_PROGRAM = """
import signal, sys, weakref

class Thing: ...

def interrupt_now():
    signal.raise_signal(signal.SIGINT)

def interrupt_in_a_callback():
    thing = Thing()
    dropped = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing

class Interrupting:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            {interrupt}()

sys.meta_path.insert(0, Interrupting)
sys.argv = ["mlho", "list"]
from scheduler.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("interrupt", ["interrupt_now", "interrupt_in_a_callback"])
@pytest.mark.parametrize("module", ["multiprocessing.util", "scheduler.cli.parser"])
def test_ctrl_c_during_the_imports_of_the_command_is_no_traceback(module, interrupt):
    """The command takes some tenths of a second to import. Ctrl-C then ends it as it does later, with exit code 130.

    The import system has callbacks in which Python ignores a KeyboardInterrupt: the run would go on.
    """
    program = _PROGRAM.format(module=module, interrupt=interrupt)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nStopped before anything began.\n")


_COMMAND = """
import sys
from scheduler.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
"""


def test_modules_of_the_working_directory_are_not_imported(tmp_path):
    """A file random.py beside the tables is not imported by the worker processes in place of the module of Python."""
    write_tables(tmp_path / "data", make_tables(300))
    (tmp_path / "random.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    program = tmp_path / "bin" / "command.py"
    program.parent.mkdir()
    program.write_text(_COMMAND, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}

    for arguments in (("init", "data"), ("validate", "data/mlho.yaml")):
        done = subprocess.run(
            [sys.executable, str(program), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert "imported" not in done.stderr


def test_commands_that_print_the_texts_under_fields_have_read_them():
    """Most commands do not read them, because that takes a quarter of the imports. The schema, the CRDs, a dossier and ``mlho init`` need them."""

    def printed(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "scheduler", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    assert printed("schema", "TrainingRun") == schema_of("TrainingRun")
    assert printed("crd") == render_crds()
    assert {"dossier", "init"} < set(_WITH_TEXTS)


_IMPORTS = """
import sys
from {program}.__main__ import main

try:
    main()
except SystemExit:
    from mlho.spec.statements import Statements

    print(sorted(text for field in Statements.model_fields.values() if (text := field.description)))
"""


@pytest.mark.parametrize("program", ["scheduler", "worker"])
def test_programs_that_need_no_texts_under_fields_read_none(program):
    """Neither a command that prints no schema nor a worker reads the texts."""
    arguments = ["--help"] if program == "worker" else ["show", "--help"]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS.format(program=program), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1].startswith("[]")


def run_mlho(*arguments, environment=None, **streams):
    """Run the command in a process of its own, with these streams and additions to the environment."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(
        [sys.executable, "-m", "scheduler", *map(str, arguments)],
        env={**inherited, **(environment or {})},
        timeout=120,
        check=False,
        **streams,
    )


@pytest.mark.parametrize("arguments", [("version",), ("version", "--json")], ids=["table", "json"])
def test_a_reader_that_has_closed_the_pipe_is_no_failure(arguments):
    """`mlho … | head` ends with exit code 0 and without a message, for text and for JSON."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run_mlho(*arguments, stdout=writer)
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("version",), ("version", "--json")], ids=["table", "json"])
def test_output_on_a_full_disk_is_an_error_in_one_line(arguments):
    """Standard output that cannot be written is a failure with its reason, without a traceback."""
    with open("/dev/full", "w") as full:
        done = run_mlho(*arguments, stdout=full)

    assert done.returncode == 1
    assert done.stderr.startswith(b"error: a file: No space left on device. Free some space")
    assert done.stderr.count(b"\n") == 1


LATIN: Final = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}


def test_text_for_a_locale_without_its_characters_is_escaped(tmp_path):
    """A locale that is not UTF-8 gets escapes in place of missing characters, and no traceback after hours of work."""
    store = tmp_path / "Gebäude–2"
    store.mkdir()
    done = run_mlho("list", "--store", store, environment=LATIN)

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Geb\xe4ude\\u20132. Start one: mlho run spec.yaml" in done.stdout


def test_a_document_is_utf_8_in_every_locale():
    """JSON and YAML for other programs are UTF-8, as their standards require, also if the locale is not."""
    done = run_mlho("schema", "TrainingRun", environment=LATIN)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("utf-8").rstrip("\n") == schema_of("TrainingRun").rstrip("\n")
