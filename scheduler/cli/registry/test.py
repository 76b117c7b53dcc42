"""The command ``mlho test``: the tests that a bundle carries, in a fresh process, as a table, JSON or JUnit XML."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from rich.text import Text

from mlho.errors import BundleError
from mlho.printable import printable
from mlho.spec.scoring import BundleSource
from scheduler.cli import terminal
from scheduler.cli.listing import checked_output, store_to_read
from scheduler.cli.options import Commands, StoreOptions
from scheduler.engine.scoring_checks import TESTS_FILE
from scheduler.engine.scoring_run import PinnedBundle, bundle_now, read_bundle
from scheduler.registry.bundle_tests import run_in_fresh_process

if TYPE_CHECKING:
    from mlho.model.testing.records import ModelTestResult

ABOUT: Final = """\
Verify every file of a bundle, then run the tests that it carries in a fresh process.

  mlho test run:NAME                   the bundle of the newest finished run of that name; or run:ID
  mlho test ./bundle                   a folder; or its address in object storage
  mlho test run:NAME --junit out.xml   also as JUnit XML, for a CI system

The same tests run when a bundle is built, before a promotion, and before each scoring run; time and memory are measured here and
before a promotion only. A failed test of level defect fails the build. A failed test of level defect or required prevents scoring.
Any failed test prevents promotion. Exit code 0: all passed; 4: a test failed, or the bundle is damaged.
"""


class Options(StoreOptions, Protocol):
    """Options of ``mlho test``."""

    bundle: str
    junit: Path | None
    json: bool


def add_test(commands: Commands) -> None:
    """Add ``mlho test``."""
    test = commands.add("test", _command, "run the tests that a bundle carries", ABOUT)
    test.add_argument(
        "bundle", help="folder, s3://bucket/prefix, or run:NAME, run:ID, channel:NAME of the store"
    )
    test.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    test.add_argument("--json", action="store_true", help="the results as JSON")


def _command(options: Options) -> int:
    """Run ``mlho test``. Return 0 if every test passed."""
    checked_output(options.junit, "--junit")
    store = store_to_read(options, options.bundle)
    bundle = read_bundle(bundle_now(BundleSource(uri=options.bundle), store), Path("spec.yaml"), store)
    results = run_in_fresh_process(bundle.files)
    failed = [result for result in results if not result.passed]
    if options.junit is not None:
        options.junit.write_bytes(junit(results, name=bundle.digest))
    if options.json:
        plain = {
            "bundle_digest": bundle.digest,
            "passed": not failed,
            "tests": [asdict(result) for result in results],
        }
        terminal.print_json(plain)
    else:
        _show(bundle, results)
    return BundleError.exit_code if failed else 0


def _show(bundle: PinnedBundle, results: "Sequence[ModelTestResult]") -> None:
    columns = ["test", "result", "level", "expected", "got"]
    table = terminal.new_table(f"Tests of bundle {bundle.digest[:12]}", columns)
    for result in results:
        outcome = Text("passed", style="green") if result.passed else Text("FAILED", style="bold red")
        table.add_row(Text(result.id), outcome, result.level, Text(result.expected), Text(result.got))
    terminal.print_table(table)
    terminal.out.print()
    if TESTS_FILE not in bundle.files:
        terminal.out.print(
            "The bundle carries no tests: an earlier version wrote it. These are the default tests that need no training data."
        )
    failed = [result for result in results if not result.passed]
    for result in failed:
        terminal.print_line(f"{result.id}: {result.defect}")
    terminal.out.print(f"{_counted(results)}. {_verdict(failed)}")


def _counted(results: "Sequence[ModelTestResult]") -> str:
    """Return how many tests passed. Those that measure this machine are counted separately; mlho models and channels omit them."""
    own, measured = (
        [result for result in results if result.is_measured is wanted] for wanted in (False, True)
    )
    words = f"{sum(result.passed for result in own)} of {len(own)} tests passed"
    if not measured:
        return words
    return f"{words}, and {sum(result.passed for result in measured)} of {len(measured)} that measure this machine"


def _verdict(failed: "Sequence[ModelTestResult]") -> str:
    if not failed:
        return "The bundle may be promoted."
    is_barred = any(result.level != "expected" for result in failed)
    return f"The bundle is not promoted{', and not used for scoring' if is_barred else ''}."


def junit(results: "Sequence[ModelTestResult]", *, name: str) -> bytes:
    """Return the results as a JUnit test suite."""
    n_failed = sum(not result.passed for result in results)
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(results)),
        failures=str(n_failed),
        errors="0",
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=result.kind, name=printable(result.id), time=f"{result.seconds:.3f}"
        )
        if not result.passed:
            failure = ET.SubElement(case, "failure", message=printable(result.defect), type=result.level)
            failure.text = printable(f"{result.meaning} Expected {result.expected}; got {result.got}.")
    content: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return content
