"""The documentation matches the code: examples run, and tables and links are correct."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path

import pytest

from mlho.encoding.events.ledger import Rule
from mlho.errors import MlhoError
from mlho.protocol import documents
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, RULES
from mlho.spec.schema import FILES, schema_of
from mlho.store import keys as keys_of
from mlho.store import local, probe
from mlho.tables import TABLES
from scheduler.api import cel_rules
from scheduler.api.client import ClusterError
from scheduler.api.status import TASKS_QUARANTINED, ConditionType, Phase
from scheduler.cli.cluster import TIMED_OUT
from scheduler.cli.demo import make_demo
from scheduler.cli.parser import INTERRUPTED
from scheduler.controller import cleanup, conditions, reasons, run_thread
from scheduler.controller.conditions import EventReason

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), *(REPOSITORY / "tests").glob("*.md")])
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
GENERATED = ("specification.md", "result.schema.json", *FILES.values())


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a smaller version of the demo, with fewer patients and iterations, and return its folder."""
    folder = tmp_path_factory.mktemp("notebook")
    spec = make_demo(folder / "demo", n_patients=600, with_rival=False)
    text = spec.read_text(encoding="utf-8")
    for name, value in {"iterations": "3", "folds": "2", "nSteps": "[50]", "minConfidence": "30"}.items():
        text, n_found = re.subn(rf"\b{name}: (\[.*?\]|\d+)", f"{name}: {value}", text)
        assert n_found == 1, name
    spec.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "run", "demo/spec.yaml", "--workers", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_notebook_page_runs(demo_folder, monkeypatch, capsys):
    """The code blocks of the notebook page run one after the other."""
    monkeypatch.chdir(demo_folder)
    names: dict[str, object] = {}
    blocks = PYTHON_BLOCK.findall((DOCS / "notebook.md").read_text(encoding="utf-8"))

    for block in blocks:
        exec(compile(block, "docs/notebook.md", "exec"), names)

    assert len(blocks) >= 5
    assert (demo_folder / "roc.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "True" in capsys.readouterr().out.splitlines()  # the bundle's own tests


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_up_to_date(name):
    """A generated page equals the output of `make docs`."""
    sys.path.insert(0, str(DOCS))
    try:
        import generate
    finally:
        sys.path.remove(str(DOCS))
    texts = {"specification.md": generate.specification, "result.schema.json": generate.result_schema}
    texts |= {file: partial(schema_of, kind) for kind, file in FILES.items()}
    text = texts[name]()

    assert (DOCS / name).read_text(encoding="utf-8") == text


def first_cells(page: str, head: str) -> set[str]:
    """Return the words in code style of the first cells of a table; ``head`` is the beginning of its header."""
    _, found, table = (DOCS / page).read_text(encoding="utf-8").partition(f"\n| {head}")
    assert found
    rows = table.partition("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


@pytest.mark.parametrize(
    ("head", "words"),
    [("phase | ", Phase), ("condition | ", ConditionType), ("event | ", EventReason)],
    ids=["phases", "conditions", "events"],
)
def test_the_kubernetes_page_lists_phases_conditions_and_reasons(head: str, words: type[StrEnum]):
    """The tables of the Kubernetes page have exactly the phases, conditions and Event reasons of the code."""
    assert first_cells("kubernetes.md", head) == set(words)


def test_the_kubernetes_page_has_a_remedy_for_every_reason():
    """The Kubernetes page has a remedy for every reason of a failed, degraded or waiting run."""
    reason_words = {TASKS_QUARANTINED} | {
        word
        for source in (
            conditions._no_worker_reason,
            conditions._progressing,
            conditions._trouble,
            reasons,
            run_thread,
        )
        for word in re.findall(r'"([A-Z][A-Za-z]+)"', inspect.getsource(source))
    }
    speak_for_themselves = {"Working", "Suspended", "Succeeded", "Cancelled"}

    assert reason_words - speak_for_themselves - first_cells("kubernetes.md", "reason | ") == set()


def test_the_kubernetes_page_names_the_frozen_fields_of_workers():
    """The Kubernetes page names exactly the fields of ``workers`` that the API server's rules freeze after the acceptance."""
    page = (DOCS / "kubernetes.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(
        r"\n- \*\*`workers`\*\*: .*?\. (.*?) may be changed until the run is accepted", page
    )
    frozen = re.findall(
        r"spec\.workers\.(\w+) cannot change",
        "\n".join(rule.message for rule in cel_rules.RULES["TrainingRun"]),
    )

    assert set(re.findall(r"`(\w+)`", sentence)) == set(frozen)


def test_the_data_page_has_every_column_in_the_words_of_the_tables():
    """docs/data.md, which is written by hand, has every column with the words of the tables."""
    page = (DOCS / "data.md").read_text(encoding="utf-8")

    missing = [
        f"{table.name}.{column.name}"
        for table in TABLES
        for column in table.columns
        if f"| `{column.name}` | {'yes' if column.required else 'no'} | {column.kind.value} | {column.meaning} |"
        not in page
    ]
    assert missing == []


def test_the_data_page_has_the_ledger_rules_in_their_order():
    """The data page has the ledger rules in the order of their application."""
    page = (DOCS / "data.md").read_text(encoding="utf-8")

    rows = "\n".join(f"| {place} | {rule.words} | {rule.meaning} |" for place, rule in enumerate(Rule, 1))
    assert rows in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    """Every relative link names an existing file."""
    broken = [
        target
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_test_that_a_page_names_exists():
    """Every test file that a page names exists."""
    named = {
        name for page in PAGES for name in re.findall(r"`(test_\w+\.py)`", page.read_text(encoding="utf-8"))
    }
    there = {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}

    assert "test_hostile_queue.py" in named
    assert named <= there


def test_every_decision_has_context_decision_and_consequences():
    """Every decision has a unique number, a context, a decision and consequences."""
    decisions = sorted((DOCS / "decisions").glob("*.md"))

    assert len({int(path.name[:4]) for path in decisions}) == len(decisions)
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences")), path.name


def test_the_operations_page_has_the_failure_classes_as_the_code_has_them():
    """The operations page has the table of failure classes of the code, which decides retries."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")

    for failure, rule in RULES.items():
        starts = rule.max_attempts or f"for {INFRASTRUCTURE_SECONDS:.0f} s"
        counts = "yes" if rule.counts else "no"
        assert f"| {failure.value} | {rule.meaning} | {starts} | {counts} | {rule.exit_code} |" in page


def test_the_operations_page_has_every_exit_code():
    """The operations page has the exit codes of every error, of the worker and of commands that wait."""
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    table = page.partition("| code | of |")[2].partition("\n\n")[0]

    codes = {error.exit_code for error in errors_below(MlhoError)} | {
        rule.exit_code for rule in RULES.values()
    }
    codes |= {0, INTERRUPTED, TIMED_OUT, os.EX_CONFIG, ClusterError.exit_code}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes


def errors_below(kind: type[MlhoError]) -> Iterator[type[MlhoError]]:
    """Yield a class and all its subclasses."""
    yield kind
    for subclass in kind.__subclasses__():
        yield from errors_below(subclass)


def test_the_operations_page_has_every_kind_of_key():
    """The operations page has every kind of key in a store, and says whether it may be deleted."""
    keys = [
        keys_of.blob_key("ab"),
        keys_of.commit_key("ab"),
        keys_of.proposals_prefix("ab"),
        keys_of.run_key("ab", "result.json"),
        keys_of.uses_prefix("ab"),
        keys_of.model_key("ab", "bundle.json"),
        keys_of.channel_key("production", 1),
        keys_of.signature_prefix("ab"),
        keys_of.refusal_prefix("production"),
        keys_of.site_key("index.html"),
        keys_of.evaluation_key("ab", "report.html"),
        documents.task_document_key("ab"),
        documents.attempt_key("ab-1", "task", "nonce"),
        f"{probe.PROBES}/",
        f"{cleanup._UNDER_WAY}/",
        f"{local._TEMPORARY}/",
    ]
    shown = first_cells("operations.md", "key | what | may be deleted")

    assert {key.partition("/")[0] for key in keys} == {key.partition("/")[0] for key in shown}


def test_the_operations_page_has_every_setting():
    """Every environment variable that the code reads is on the page of operations or of object storage."""
    pages = "".join(
        (DOCS / name).read_text(encoding="utf-8") for name in ("operations.md", "object-storage.md")
    )
    read = {
        name
        for package in ("mlho", "scheduler", "worker")
        for path in (REPOSITORY / package).rglob("*.py")
        for name in re.findall(r"\bMLHO_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8"))
    }

    assert {name for name in read if f"`{name}`" not in pages} == set()
