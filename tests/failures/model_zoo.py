"""Broken and sound models: count how many of each are rejected by the tests of their bundles. Long form: ``make model-zoo``.

A model is broken in one of three places: in the tables before the fit, at the fit (the written model is not the fitted one), or in
the files after the fit, with digests that match. A model counts as rejected if its bundle is refused when it is loaded, or if one of its
own tests fails. It counts as named if a test that is meant for the defect is among those that fail.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import mlho.training.results.publish
from mlho.errors import MlhoError
from mlho.method.classifiers import classifier_named
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.model.bundle import load_bundle
from mlho.model.files import DIGEST, DOCUMENT, digest_line, facts_of
from mlho.training.results.publish import pack_bundle
from tests.builders import CREATININE, INFORMATIVE, Tables, make_tables, run_inline, write_tables

STRONG: Final = INFORMATIVE[0]
_CASES: Final = [
    {"name": "diabetes raises the risk", "higher": {"codes": [STRONG]}, "lower": {}},
    {
        "name": "high creatinine raises the risk",
        "higher": {"values": {CREATININE: 1.8}},
        "lower": {"values": {CREATININE: 0.8}},
    },
]
_SPEC: Final[Mapping[str, Any]] = {
    "features.aggregates": ["presence", "last"],
    "selection.nFeatures": 8,
    "validation": {"iterations": 3, "folds": 3, "seed": 7, "bootstrapReplicates": 0},
    "tests": {"cases": _CASES},
    "leakage": {"action": "warn"},  # by default the check for leakage stops the run before a model is fitted
}
_GRIDS: Final[Mapping[str, dict[str, list[float]]]] = {
    "glmboost": {"nSteps": [60]},
    "elasticnet": {"l1Ratio": [0.5]},
    "xgboost": {"maxDepth": [2], "nRounds": [40]},
    "ebm": {"rounds": [60]},
}
CLASSIFIERS: Final = ("glmboost", "xgboost", "elasticnet")


@dataclass(frozen=True)
class Built:
    """The bundle of a run, and the arguments from which it was packed."""

    folder: Path
    packed: tuple[Any, Any, Any, str]
    """Problem, final model, performance and digest of the matrix."""


@dataclass(frozen=True)
class Verdict:
    """Whether a bundle is rejected, and by which tests.

    Attributes
    ----------
    by : tuple of str
        Ids of the failed tests; ``load`` if the bundle is refused.
    words : str
        The error, or the defects.
    """

    by: tuple[str, ...]
    words: str


def build(tables: Tables, folder: Path, classifier: str = "glmboost", **changes: Any) -> Built:
    """Carry out a run on the tables, and return its bundle."""
    packed: list[Any] = []

    def remember(problem: Any, final: Any, performance: Any, *, matrix_digest: str, folder: Path) -> Any:
        packed.append((problem, final, performance, matrix_digest))
        return pack_bundle(problem, final, performance, matrix_digest=matrix_digest, folder=folder)

    data = write_tables(folder / "data", tables)
    candidates = [{"classifier": classifier, "grid": _GRIDS[classifier]}]
    with mock.patch.object(mlho.training.results.publish, "pack_bundle", remember):
        home = run_inline(data, folder / "store", {**_SPEC, "candidates": candidates, **changes})
    bundle = folder / "store" / "runs" / home.finished.run_id / "bundle"
    return Built(bundle, packed[0])


def judge(folder: Path) -> Verdict:
    """Load a bundle and run its tests, except those of time and memory."""
    try:
        results = load_bundle(folder).run_tests(measured=False)
    except MlhoError as error:
        return Verdict(("load",), str(error))
    failed = [test for test in results if not test.passed]
    return Verdict(tuple(test.id for test in failed), " ".join(test.defect for test in failed))


# Before the fit: the tables are wrong.


def _shuffled(tables: Tables) -> Tables:
    label = np.random.default_rng(5).permutation(tables.labels["label"].to_numpy())
    return _with_labels(tables, label)


def _inverted(tables: Tables) -> Tables:
    return _with_labels(tables, 1 - tables.labels["label"].to_numpy())


def _with_labels(tables: Tables, label: Any) -> Tables:
    place = tables.labels.schema.get_field_index("label")
    labels = tables.labels.set_column(place, "label", pa.array(label, pa.int8()))
    return dataclasses.replace(tables, labels=labels)


def _leaked(tables: Tables) -> Tables:
    """Add a code on the index date of each sample that has the outcome."""
    cases = tables.labels.filter(pc.equal(tables.labels["label"], 1)).to_pydict()
    n = len(cases["patient_id"])
    leak = pa.table(
        {
            "patient_id": cases["patient_id"],
            "time": cases["index_date"],
            "code": ["LEAK"] * n,
            "numeric_value": [None] * n,
        }
    ).cast(tables.events.select(["patient_id", "time", "code", "numeric_value"]).schema)
    events = tables.events.select(["patient_id", "time", "code", "numeric_value"])
    return dataclasses.replace(tables, events=pa.concat_tables([events, leak]))


def _recoded(tables: Tables) -> Tables:
    """Swap two codes, as a wrong map would: E11 becomes N00, a code without an effect."""
    swap = {STRONG: "N00", "N00": STRONG}
    code = [swap.get(old, old) for old in tables.events["code"].to_pylist()]
    place = tables.events.schema.get_field_index("code")
    return dataclasses.replace(tables, events=tables.events.set_column(place, "code", pa.array(code)))


def _other_unit(tables: Tables) -> Tables:
    """Convert creatinine to µmol/l in half of its rows."""
    value = tables.events["numeric_value"].to_pylist()
    value = [number * 88.4 if number is not None and row % 2 else number for row, number in enumerate(value)]
    place = tables.events.schema.get_field_index("numeric_value")
    column = pa.array(value, tables.events.schema.field(place).type)
    return dataclasses.replace(tables, events=tables.events.set_column(place, "numeric_value", column))


BEFORE: Final[Mapping[str, tuple[Callable[[Tables], Tables], tuple[str, ...]]]] = {
    "shuffled labels": (_shuffled, ("floor.auroc",)),
    "inverted labels": (_inverted, ("cases.",)),
    "leaked outcome": (_leaked, ("ceiling.auroc",)),
    "swapped codes in the tables": (_recoded, ("cases.",)),
    "two units in the tables": (_other_unit, ("cases.",)),
}


# At the fit: the written model is not the fitted one.


def _refitted(built: Built, X: Any, y: Any, setting: Mapping[str, Any] | None = None) -> Any:
    final = built.packed[1]
    kind = classifier_named(final.classifier)
    chosen = setting or dict(final.cv.settings[final.cv.chosen])
    model = kind.fit(X, y, chosen, seed=1, value_columns=final.model.value_columns)
    return dataclasses.replace(final, model=model)


def _swapped_at_fit(built: Built) -> Any:
    X = built.packed[1].X.tocsc()
    order = np.arange(X.shape[1])
    strong = _column_of(built, STRONG)
    noise = next(
        number
        for number, feature in enumerate(load_bundle(built.folder).document.features)
        if feature.code.startswith("N")
    )
    order[[strong, noise]] = order[[noise, strong]]
    return _refitted(built, X[:, order], built.packed[0].y)


def _column_of(built: Built, code: str) -> int:
    features = load_bundle(built.folder).document.features
    return next(number for number, feature in enumerate(features) if feature.code == code)


def _other_labels_at_fit(built: Built) -> Any:
    y = np.random.default_rng(3).permutation(built.packed[0].y)
    return _refitted(built, built.packed[1].X, y)


def _inverted_at_fit(built: Built) -> Any:
    return _refitted(built, built.packed[1].X, 1 - built.packed[0].y)


def _short_at_fit(built: Built) -> Any:
    short = {"glmboost": {"nSteps": 1}, "xgboost": {"nRounds": 1, "maxDepth": 1}}
    final = built.packed[1]
    return _refitted(built, final.X, built.packed[0].y, short[final.classifier])


def _with_calibrator(built: Built, intercept: float, slope: float) -> Any:
    final = built.packed[1]
    calibrator = final.calibrator
    return dataclasses.replace(
        final, calibrator=PlattCalibrator(calibrator.intercept + intercept, calibrator.slope * slope)
    )


def _with_thresholds(built: Built, value: float) -> Any:
    final = built.packed[1]
    thresholds = [dataclasses.replace(threshold, value=value) for threshold in final.thresholds]
    return dataclasses.replace(final, thresholds=thresholds)


AT_FIT: Final[Mapping[str, tuple[Callable[[Built], Any], tuple[str, ...]]]] = {
    "columns swapped at the fit": (_swapped_at_fit, ("fit.", "directions.", "cases.")),
    "labels of other rows at the fit": (_other_labels_at_fit, ("fit.",)),
    "signs flipped at the fit": (_inverted_at_fit, ("fit.", "directions.")),
    "one step or tree only": (_short_at_fit, ("fit.", "scores.spread", "cases.")),
    "calibrator of another prevalence": (lambda built: _with_calibrator(built, 1.0, 1.0), ("calibration.",)),
    "calibrator of another slope": (lambda built: _with_calibrator(built, 0.0, 0.4), ("calibration.",)),
    "threshold that always alerts": (lambda built: _with_thresholds(built, 0.0), ("alerts.",)),
    "threshold that never alerts": (lambda built: _with_thresholds(built, 1.0), ("alerts.",)),
}


# After the fit: the files are altered, and the digests match.

Document = dict[str, Any]


def _set(document: Document, *at: Any, to: Any) -> Document:
    place: Any = document
    for name in at[:-1]:
        place = place[name]
    place[at[-1]] = to(place[at[-1]]) if callable(to) else to
    return document


def _feature(document: Document, code: str, aggregate: str | None = None) -> int:
    return next(
        number
        for number, feature in enumerate(document["features"])
        if feature["code"] == code and aggregate in (None, feature["encoding"]["aggregate"])
    )


def _swap_columns(document: Document) -> Document:
    features, columns = document["features"], document["columns"]
    features[0], features[1] = features[1], features[0]
    columns[0], columns[1] = columns[1], columns[0]
    return document


def _rename(document: Document) -> Document:
    place = _feature(document, STRONG)
    document["features"][place]["code"] = "E11.9"
    return document


def _without_features(document: Document) -> Document:
    del document["features"]
    return document


def _other_centre(document: Document) -> Document:
    """Change the centre of creatinine in the dictionary to another unit."""
    place = _feature(document, CREATININE, "last")
    return _set(document, "features", place, "encoding", "centre", to=lambda centre: centre * 88.4 + 1.0)


def _window(document: Document) -> Document:
    for feature in document["features"]:
        feature["windowDays"] = 30
    return document


def _median(document: Document) -> Document:
    place = next(
        number for number, column in enumerate(document["demographics"]) if column["kind"] == "number"
    )
    return _set(document, "demographics", place, "median", to=5.0)


def _levels(document: Document) -> Document:
    """Reorder the levels of a category; the name of the column stays."""
    column = next(column for column in document["demographics"] if column["kind"] == "category")
    column["name"], column["levels"] = column["name"], [*column["levels"][1:], column["levels"][0]]
    return document


DOCUMENTS: Final[Mapping[str, tuple[Callable[[Document], Document], tuple[str, ...]]]] = {
    "calibrator of another model": (
        lambda document: _set(document, "calibrator", "intercept", to=lambda value: value - 0.7),
        ("scores.calibrated",),
    ),
    "threshold of another model": (
        lambda document: _set(document, "thresholds", 0, "value", to=0.77),
        ("thresholds.stored",),
    ),
    "swapped columns": (_swap_columns, ("dictionary.columns",)),
    "stale dictionary": (_rename, ("dictionary.columns",)),
    "missing dictionary": (_without_features, ("load",)),
    "another unit in the dictionary": (_other_centre, ("dictionary.encoding",)),
    "another look-back": (_window, ("dictionary.columns", "dictionary.encoding")),
    "another gap": (lambda document: _set(document, "scoring", "gapDays", to=90), ("scoring.rules",)),
    "other plausible years": (
        lambda document: _set(document, "scoring", "plausibleYears", to=[2000, 2010]),
        ("scoring.rules",),
    ),
    "another median of age": (_median, ("dictionary.encoding",)),
    "levels of sex in another order": (_levels, ("load", "dictionary.columns")),
    "another classifier in the document": (
        lambda document: _set(document, "classifier", to="ebm"),
        ("load",),
    ),
    "another major version": (lambda document: _set(document, "formatVersion", to=2), ("load",)),
    "another coefficient in the dictionary": (
        lambda document: _set(document, "features", 0, "coefficient", to=-3.0),
        ("dictionary.coefficients",),
    ),
}


def write_document(folder: Path, document: Document) -> None:
    """Write ``bundle.json`` with the digests of the current files."""
    for name in document["files"]:
        facts = facts_of((folder / name).read_bytes())
        document["files"][name] = {"sha256": facts.sha256, "bytes": facts.n_bytes}
    content = json.dumps(document).encode()
    (folder / DOCUMENT).write_bytes(content)
    (folder / DIGEST).write_bytes(digest_line(content))


def _flip_coefficient(folder: Path, other: Built) -> None:
    path = folder / "model" / "model.json"
    model = json.loads(path.read_bytes())
    name = next(field for field in ("coefficients", "values", "coef") if field in model)
    largest = max(range(len(model[name])), key=lambda place: abs(model[name][place]))
    model[name][largest] = -model[name][largest]
    path.write_bytes(json.dumps(model).encode())


def _model_of_another(folder: Path, other: Built) -> None:
    shutil.rmtree(folder / "model")
    shutil.copytree(other.folder / "model", folder / "model")


def _golden_of_another(folder: Path, other: Built) -> None:
    shutil.copyfile(other.folder / "tests" / "golden.json", folder / "tests" / "golden.json")


FILES: Final[Mapping[str, tuple[Callable[[Path, Built], None], tuple[str, ...]]]] = {
    "flipped coefficient": (_flip_coefficient, ("model.files", "directions.")),
    "model of another run": (_model_of_another, ("model.files", "load")),
    "golden rows of another model": (_golden_of_another, ("scores.golden", "load")),
}


def one_bit(folder: Path, name: str) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def truncated_trees(folder: Path, built: Built) -> None:
    """Write a model with half of the rounds, with digests that match."""
    final = built.packed[1]
    setting = {**final.cv.settings[final.cv.chosen], "nRounds": 20}
    model = _refitted(built, final.X, built.packed[0].y, setting).model
    for name, content in model.to_files().items():
        (folder / "model" / name).write_bytes(content)
    write_document(folder, json.loads((folder / DOCUMENT).read_bytes()))


@dataclass(frozen=True)
class Kind:
    """A kind of broken model: its name, where it arises, the tests that are meant for it, and a function that makes it."""

    name: str
    arises: str
    tests: tuple[str, ...]
    make: Callable[[Path], Path]
    """Makes it in a new folder and returns the bundle."""

    def is_named(self, verdict: Verdict) -> bool:
        """Return whether a test that is meant for the defect rejects the model."""
        return any(test.startswith(meant) for test in verdict.by for meant in self.tests)


def kinds(tables: Tables, built: Built, trees: Built, other: Built) -> Iterator[Kind]:
    """Yield every kind of broken model.

    Parameters
    ----------
    tables : Tables
        Tables of a sound run.
    built, trees : Built
        Bundles of that run with a linear model and with trees.
    other : Built
        A bundle of another run.
    """
    for name, (alter, tests) in BEFORE.items():
        yield Kind(
            name, "before the fit", tests, lambda folder, alter=alter: build(alter(tables), folder).folder
        )
    for name, (change, tests) in AT_FIT.items():
        for bundle, suffix in ((built, "linear"), (trees, "trees")):
            yield Kind(f"{name} ({suffix})", "at the fit", tests, _packer(bundle, change))
    for name, (edit, tests) in DOCUMENTS.items():
        yield Kind(name, "after the fit", tests, _editor(built, edit))
    for name, (replace, tests) in FILES.items():
        yield Kind(name, "after the fit", tests, _replacer(built, other, replace))
    yield Kind("truncated trees", "after the fit", ("model.files",), _truncator(trees))
    for name in ("bundle.json", "model/model.json", "tests/golden.json", "tests/tests.json", "model_card.md"):
        yield Kind(f"one bit of {name}", "after the fit", ("load",), _bit_flipper(built, name))


def _packer(built: Built, change: Callable[[Built], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        problem, _, performance, digest = built.packed
        pack_bundle(problem, change(built), performance, matrix_digest=digest, folder=folder / "bundle")
        return folder / "bundle"

    return make


def _copy(built: Built, folder: Path) -> Path:
    return Path(shutil.copytree(built.folder, folder / "bundle"))


def _editor(built: Built, edit: Callable[[Document], Document]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        bundle = _copy(built, folder)
        write_document(bundle, edit(json.loads((bundle / DOCUMENT).read_bytes())))
        return bundle

    return make


def _replacer(built: Built, other: Built, replace: Callable[[Path, Built], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        bundle = _copy(built, folder)
        replace(bundle, other)
        write_document(bundle, json.loads((bundle / DOCUMENT).read_bytes()))
        return bundle

    return make


def _truncator(trees: Built) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        bundle = _copy(trees, folder)
        truncated_trees(bundle, trees)
        return bundle

    return make


def _bit_flipper(built: Built, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        bundle = _copy(built, folder)
        one_bit(bundle, name)
        return bundle

    return make


def rejected(kind: Kind, folder: Path) -> Verdict:
    """Make a broken model and test its bundle. An error while the bundle is built also counts as a rejection."""
    folder.mkdir()
    try:
        return judge(kind.make(folder))
    except MlhoError as error:
        return Verdict(("load",), str(error))


def sound(number: int, folder: Path) -> Verdict:
    """Build a sound model, whose data, size and classifier depend on ``number``, and test it."""
    tables = make_tables(500 + 50 * (number % 9), seed=1000 + number, n_noise=6 + number % 7)
    return judge(build(tables, folder, CLASSIFIERS[number % len(CLASSIFIERS)]).folder)
