"""Declared dependencies are those that are imported, and locked ones are those that are declared."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
OURS = {"mlho", "scheduler", "worker"}
OTHERS = {*sys.stdlib_module_names, "_typeshed"}  # Python's, and the type checker's own

# Import names that differ from the distribution's name.
IMPORTED_AS = {
    "interpret-core": "interpret",
    "opentelemetry-api": "opentelemetry",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "model-signing": "model_signing",
    "prometheus-client": "prometheus_client",
    "pyopenssl": "OpenSSL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "xgboost-cpu": "xgboost",
}
# Packages that are part of another distribution's interface and are installed with it.
COMES_WITH = {"botocore": "boto3"}

# The extras of each lock, in addition to the base.
LOCKS = {
    "scheduler": ("scheduler",),
    "worker": ("worker",),
    "dev": ("scheduler", "worker", "embedded", "tracing", "signing", "dev"),
}
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)", re.MULTILINE)


def declared(*extras: str) -> list[Requirement]:
    """Return the requirements of the base and of these extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for group in lists for line in group]


def modules_of(requirements: list[Requirement]) -> set[str]:
    """Return the names under which requirements are imported."""
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    return {IMPORTED_AS.get(name, name) for name in names}


@cache
def imported_by(package: str) -> frozenset[str]:
    """Return the third-party packages that one of the project's packages imports, including imports in functions."""
    found = set()
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return frozenset(COMES_WITH.get(name, name) for name in found - OTHERS - OURS)


def locked(name: str) -> dict[str, Version]:
    """Return the distributions of a lock with their versions."""
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {canonicalize_name(pin["name"]): Version(pin["version"]) for pin in PINNED.finditer(text)}


def test_the_scheduler_declares_what_it_imports():
    """The scheduler imports only the base and the extras `scheduler` and `embedded`."""
    assert imported_by("scheduler") <= modules_of(declared("scheduler", "embedded"))


def test_the_worker_and_the_library_declare_what_they_import():
    """Worker and library import only the base and the extras `worker`, `tracing` and `signing`."""
    assert imported_by("worker") | imported_by("mlho") <= modules_of(declared("worker", "tracing", "signing"))


def test_nothing_is_declared_that_is_not_imported():
    """Every declared dependency is imported."""
    imported = imported_by("mlho") | imported_by("scheduler") | imported_by("worker")

    assert modules_of(declared()) <= imported_by("mlho") | imported_by("scheduler")
    assert modules_of(declared("scheduler", "worker", "embedded", "tracing", "signing")) <= imported


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items(), ids=LOCKS)
def test_a_lock_has_the_declared_dependencies_in_allowed_versions(lock, extras):
    """Every lock has the declared dependencies in allowed versions; `make lock` updates it."""
    pins = locked(lock)
    for requirement in declared(*extras):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements/{lock}.txt: make lock"
        assert pins[name] in requirement.specifier, (
            f"{name} {pins[name]} in requirements/{lock}.txt: make lock"
        )


def test_the_locks_agree():
    """The locks of the images have the versions of the lock for tests."""
    dev = locked("dev")
    for lock in ("scheduler", "worker"):
        assert {name: dev.get(name) for name in locked(lock)} == locked(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_file_has_a_hash_and_no_address(lock):
    """Every locked file has a hash, and a lock names no index, so that each machine uses its own index and accepts only these bytes."""
    text = (REPOSITORY / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")

    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_there_is_one_kind_of_lock():
    """The repository has one kind of lock, because two could disagree."""
    assert not (REPOSITORY / "uv.lock").exists()


def test_the_scheduler_lock_holds_nothing_heavy():
    """The scheduler's lock has no large library, so that its image is small and starts quickly."""
    heavy = {"numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "xgboost", "xgboost-cpu", "numba"}

    assert heavy & set(locked("scheduler")) == set()
