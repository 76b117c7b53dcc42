"""Bundles with altered fields and matching digests are refused or usable, and never cause another error."""

import copy
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlho.errors import BundleError, DataError
from mlho.model.bundle import load_bundle, write_bundle
from mlho.model.files import DIGEST, digest_line, facts_of
from tests.unit.model.conftest import make_parts

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**400,
    -1.5,
    1e308,
    "",
    "x",
    "1",
    [],
    [[]],
    {},
    {"a": 1},
    [None],
    ["a", 2],
)
EVENTS = pd.DataFrame(
    {
        "patient_id": ["1", "1", "2"],
        "time": pd.to_datetime(["2026-01-02", "2026-01-03", "2026-01-04"]),
        "code": ["I10", "A1C", "J45"],
        "numeric_value": [None, 7.5, None],
    }
)
INDEX = pd.DataFrame({"patient_id": ["1", "2"], "index_date": pd.to_datetime(["2026-02-01", "2026-02-01"])})


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every field and every element."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in items:
        yield from places(child, (*at, name))


def altered(value: Any, at: tuple[Any, ...], wrong: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = wrong
    return changed


def save(folder: Path, document: dict[str, Any]) -> None:
    content = json.dumps(document).encode()
    (folder / "bundle.json").write_bytes(content)
    (folder / DIGEST).write_bytes(digest_line(content))


def outcome_of(folder: Path, *, failing: object = "") -> str:
    """Return ``refused``, ``used`` if it gives probabilities, or else the error."""
    try:
        bundle = load_bundle(folder)
        scores = bundle.predict_events(EVENTS, INDEX)
        if zlib.crc32(str(failing).encode()) % 8 == 0:  # the tests take a tenth of a second
            bundle.run_tests(measured=False)
    except (BundleError, DataError):
        return "refused"
    except Exception as error:
        return f"{str(failing)[:90]}: {type(error).__name__}: {str(error)[:90]}"
    return "used" if scores["probability"].between(0, 1).all() else f"{str(failing)[:90]}: no probabilities"


def bad(outcomes: list[str]) -> list[str]:
    return [outcome for outcome in outcomes if outcome not in ("used", "refused")]


@pytest.fixture(scope="module", params=["glmboost", "elasticnet", "xgboost"])
def folder(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("altered") / request.param
    write_bundle(folder, make_parts(request.param))
    assert outcome_of(folder) == "used"
    return folder


def test_no_altered_field_of_the_document_is_a_traceback(folder):
    """Each field of ``bundle.json`` is set to values of a wrong type or range. The document differs little between classifiers."""
    n_values = 4 if folder.name == "glmboost" else 1
    whole = json.loads((folder / "bundle.json").read_bytes())
    dice = random.Random(11)
    outcomes = []
    for at in places(whole):
        for wrong in dice.sample(WRONG, n_values):
            save(folder, altered(whole, at, wrong))
            outcomes.append(outcome_of(folder, failing=(at, wrong)))
    save(folder, whole)

    assert outcome_of(folder) == "used"
    assert bad(outcomes) == []
    assert len(outcomes) > 75 * n_values
    assert outcomes.count("refused") > len(outcomes) / 2


def test_no_altered_field_of_the_model_is_a_traceback(folder):
    """Fields of the model's JSON files and of the golden rows are set to wrong values."""
    whole = json.loads((folder / "bundle.json").read_bytes())
    dice = random.Random(12)
    names = [name for name in whole["files"] if name.endswith(".json")]
    assert names
    outcomes: list[str] = []
    for name in names:
        content = (folder / name).read_bytes()
        model = json.loads(content)
        every = list(places(model))
        for at in dice.sample(every, min(60, len(every))):
            wrong = dice.choice(WRONG)
            changed = json.dumps(altered(model, at, wrong)).encode()
            (folder / name).write_bytes(changed)
            facts = facts_of(changed)
            entry = {"sha256": facts.sha256, "bytes": facts.n_bytes}
            save(folder, {**whole, "files": {**whole["files"], name: entry}})
            outcomes.append(outcome_of(folder, failing=(name, *at, wrong)))
        (folder / name).write_bytes(content)
    save(folder, whole)
    assert outcome_of(folder) == "used"
    assert bad(outcomes) == []


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (("features", 4, "encoding", "levelCuts"), 3),
        (("features", 4, "encoding", "levelCuts"), [3, 1]),
        (("features", 4, "encoding", "levelCuts"), ["1"]),
        (("features", 3, "encoding", "reference"), 7),
        (("features", 3, "encoding", "reference"), {"low": 9, "high": 1}),
        (("features", 3, "encoding", "reference"), {"low": "4", "high": None}),
        (("features", 2, "encoding", "centre"), "6.5"),
        (("features", 2, "encoding", "centre"), 10**400),
        (("features", 2, "encoding", "aggregate"), ["last"]),
        (("features", 0, "windowDays"), "365"),
        (("thresholds", 0, "value"), -1),
        (("thresholds", 0, "value"), 1.5),
        (("thresholds", 0, "value"), "0.4"),
        (("thresholds", 0, "value"), True),
        (("calibrator", "slope"), "1"),
        (("scoring", "gapDays"), True),
        (("predictive",), "yes"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else str(value)[:20],
)
def test_a_field_of_a_wrong_type_or_range_is_refused(at, wrong, tmp_path):
    """Loading such a bundle raises a ``BundleError``, so no patient is scored."""
    folder = tmp_path / "bundle"
    write_bundle(folder, make_parts())
    whole = json.loads((folder / "bundle.json").read_bytes())
    save(folder, altered(whole, at, wrong))

    with pytest.raises(BundleError):
        load_bundle(folder)
