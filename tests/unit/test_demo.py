"""``mlho demo``: the cohort and specification that it writes, and the comparison with the planted effects."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mlho.errors import MlhoError
from mlho.spec.training import load_spec
from mlho.synthetic import Truth, read_truth
from scheduler.cli.demo import check_planted, make_demo


@pytest.fixture(scope="module")
def spec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a demo of 300 patients and return its specification's path."""
    return make_demo(tmp_path_factory.mktemp("demo"), n_patients=300)


def test_the_demo_writes_a_valid_specification_beside_its_cohort(spec_path: Path) -> None:
    """The demo's specification has presence over all history, 20 iterations, 200 features and two classifiers, and explains them in comments."""
    spec = load_spec(spec_path).spec
    assert spec.data.uri == "."
    assert spec.features.aggregates == ("presence",)
    assert (spec.validation.iterations, spec.validation.folds, spec.selection.n_features) == (20, 5, 200)
    assert [candidate.classifier for candidate in spec.candidates] == ["glmboost", "xgboost"]
    assert spec.features.demographics == ("age", "sex", "race")
    assert spec_path.read_text().count("# ") > 8
    assert read_truth(spec_path.parent).arguments["n_patients"] == 300


def test_an_existing_cohort_is_kept_and_one_of_another_size_is_replaced(tmp_path: Path) -> None:
    """A second demo keeps a cohort of the same size and replaces one of another size."""
    make_demo(tmp_path, n_patients=50)
    truth = tmp_path / "truth.json"
    moment = truth.stat().st_mtime_ns
    make_demo(tmp_path, n_patients=50)
    assert truth.stat().st_mtime_ns == moment
    make_demo(tmp_path, n_patients=60, seed=1, with_rival=False)
    assert read_truth(tmp_path).arguments["n_patients"] == 60
    spec = load_spec(tmp_path / "spec.yaml").spec
    assert [candidate.classifier for candidate in spec.candidates] == ["glmboost"]
    assert spec.validation.seed == 1


def test_a_folder_with_other_tables_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A folder with other tables is rejected with the generator's reason."""
    (tmp_path / "events").mkdir()
    with pytest.raises(MlhoError, match=r"could not be made: .*were not made here"):
        make_demo(tmp_path, n_patients=50)


def test_the_comparison_has_a_row_for_each_planted_code(spec_path: Path) -> None:
    """The comparison has a row for each planted code, expects no vanishing effect, and ends with the counts."""
    folder = spec_path.parent
    truth = read_truth(folder)
    noise = next(f"LAB:{n:06d}" for n in range(3, 1000, 7) if truth.role_of(f"LAB:{n:06d}") == "noise")
    shown = render(folder, result_with(truth, [*(effect.code for effect in truth.causal[:2]), noise]))
    lines = {line.split()[0]: line for line in shown.splitlines() if ":" in line}
    assert "yes" in lines[truth.causal[0].code]
    assert "expected" in lines[truth.causal[0].code]
    assert " no " in lines[truth.causal[2].code]
    assert "the effect vanishes in 2019: not expected" in lines[truth.causal[4].code]
    assert "2 on top" in lines[truth.interaction.codes[0]]
    assert "protective" in lines[truth.causal[-1].code]
    last = shown.strip().splitlines()[-1]
    assert last == "planted effects of 2.2 or more that were found: 2 of 3; noise codes in the consensus: 1"


def test_the_demo_module_needs_no_numpy() -> None:
    """The demo module does not import numpy, so that the command starts quickly."""
    code = "import sys, scheduler.cli.demo; print('numpy' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def result_with(truth: Truth, consensus: list[str]) -> dict[str, Any]:
    """Return a result with these codes in the consensus and one planted code with too low a confidence score."""
    rows = [
        {"kind": "feature", "code": code, "in_consensus": True, "confidence": {"score": 95}}
        for code in consensus
    ]
    rare = {
        "kind": "feature",
        "code": truth.causal[2].code,
        "in_consensus": False,
        "confidence": {"score": 40},
    }
    return {"features": [*rows, rare, {"kind": "demographic", "code": None, "in_consensus": True}]}


def render(folder: Path, result: dict[str, Any]) -> str:
    """Return the comparison as a terminal shows it."""
    console = Console(width=120)
    with console.capture() as capture:
        console.print(check_planted(folder, result))
    return capture.get()
