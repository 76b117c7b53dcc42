"""No code is executed when data are read: no pickle or similar format anywhere in the project."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("mlho", "scheduler", "worker", "benchmarks")
# joblib may run tasks in parallel; its files are pickle.
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickle5",
    "pickletools",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}
SAFE_YAML = {"safe_load", "safe_load_all"}


def findings(source: str) -> Iterator[str]:
    """Yield the calls and imports of a module that read or write executable data."""
    tree = ast.parse(source)
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in MODULES:
                yield node.module
            if node.module.split(".")[0] == "joblib":
                yield from (
                    f"joblib.{alias.name}" for alias in node.names if alias.name in ("load", "dump", "*")
                )
        elif isinstance(node, ast.Call):
            yield from _bad_call(node, names)
        elif isinstance(node, ast.Constant) and node.value in MODULES and _is_imported_by_name(tree, node):
            yield f"import of {node.value!r} by name"


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return the full name behind each imported name."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _full_name(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return ""


def _bad_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = _full_name(call.func, names)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    last = name.split(".")[-1]
    if name in ("eval", "exec", "builtins.eval", "builtins.exec", "joblib.load", "joblib.dump"):
        yield name
    if last in ("read_pickle", "to_pickle"):
        yield name
    if name.startswith("yaml.") and last in (
        "load",
        "load_all",
        "unsafe_load",
        "full_load",
        "unsafe_load_all",
        "full_load_all",
    ):
        loader = keywords.get("Loader", call.args[1] if len(call.args) > 1 else None)
        is_safe = loader is not None and _full_name(loader, names).split(".")[-1] in SAFE_LOADERS
        if not (last in ("load", "load_all") and is_safe):
            yield name
    allows = keywords.get("allow_pickle")
    if allows is not None and not (isinstance(allows, ast.Constant) and allows.value is False):
        yield f"{name}(allow_pickle)"


def _is_imported_by_name(tree: ast.AST, constant: ast.Constant) -> bool:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and constant in node.args)
    return any(_full_name(call.func, {}).split(".")[-1] in ("import_module", "__import__") for call in calls)


def modules() -> list[Path]:
    """Return every module of the project."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_no_module_reads_or_writes_executable_data():
    """The library, the programs and the benchmarks use no pickle, joblib files, marshal, eval or unsafe YAML."""
    found = {
        str(path.relative_to(ROOT)): bad
        for path in modules()
        if (bad := list(findings(path.read_text(encoding="utf-8"))))
    }

    assert len(modules()) > 20
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "import cloudpickle.compat",
        "from pickle import loads",
        "from joblib import load",
        "import joblib as j\nj.dump(1, 'x')",
        "import marshal, shelve",
        "import dill",
        "eval('1')",
        "exec('1')",
        "import builtins\nbuiltins.exec('1')",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.UnsafeLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "from yaml import full_load\nfull_load(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import pandas as pd\npd.read_pickle(path)",
        "frame.to_pickle(path)",
        "import importlib\nimportlib.import_module('pickle')",
    ],
)
def test_each_use_of_an_executable_format_is_found(source):
    """Each way to read or write executable data is found."""
    assert list(findings(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.loads(text)",
        "import yaml\nyaml.safe_load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.load(text, yaml.CSafeLoader)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import multiprocessing",
        "from joblib import Parallel",
        "frame.eval_metric('x')",
        "words = 'no pickle here'",
    ],
)
def test_safe_code_is_not_reported(source):
    """Safe code is not reported, because false alarms would be ignored."""
    assert list(findings(source)) == []
