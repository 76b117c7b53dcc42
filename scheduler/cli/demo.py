"""``mlho demo``: a cohort with known effects, a specification for it, and a check of the result.

The cohort is generated in a separate process, because the scheduler does not import numpy.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from mlho.errors import MlhoError
from mlho.synthetic import Truth, is_complete, read_truth
from mlho.synthetic.concepts import write_concepts
from mlho.synthetic.truth import CausalCode
from mlho.synthetic.verdict import is_expected, judge
from scheduler.cli.terminal import new_table

_N_CODES: Final = 1_000
_N_PARTITIONS: Final = 4
_MIN_PATIENTS_A_PARTITION: Final = 250
_SEED: Final = 7

_SPEC: Final = """\
# A training run on the demo's cohort. Try your own: change a line, then run `mlho run {path}`.
apiVersion: mlho.io/v1alpha1
kind: TrainingRun
metadata:
  name: demo
  title: Prediction of a synthetic outcome in a synthetic cohort
  description: Shows the computations of a training run and its report. The effects of the cohort are known.
  outcomeDefinition: An outcome code is recorded after the index date.
  followUp: To the end of each patient's records.
  intendedUse: None. No patient of this cohort exists, and the descriptions of codes are assigned at random.
spec:
  data:
    source: dbmart  # R MLHO's three tables; paths are relative to this file
    tables: {{events: events/, labels: labels/, demographics: demographics/, concepts: concepts.csv}}
    partitionedBy: patient  # a promise, which is verified
  cohort:
    outcome: outcome
    index: {{column: index_date}}  # events up to and including this day may be used
  features:
    aggregates: [presence]  # was the code ever recorded?
    demographics: [age, sex, race]  # enter every model, unselected
  selection:
    minPrevalence: 0.005  # drop codes that fewer patients have
    ranking: jmi  # joint mutual information with the outcome
    nFeatures: 200
  validation:
    iterations: 20  # train/test splits, each with a selection of its own
    testFraction: 0.3
    folds: 5
    seed: {seed}
  candidates:
    # R MLHO tries 50, 100 and 150 steps. On this cohort 150 is always the best of them, so a larger number is added.
    - {{classifier: glmboost, grid: {{nSteps: [50, 100, 150, 300]}}}}
{rival}  consensus: {{classifier: glmboost, minConfidence: 80}}  # a feature with this score or more is stable
"""
_RIVAL: Final = """\
    - {classifier: xgboost, grid: {maxDepth: [2], nRounds: [50]}}  # small, to keep the demo short
"""


def make_demo(folder: Path, *, n_patients: int, seed: int = _SEED, with_rival: bool = True) -> Path:
    """Write the demo's cohort and specification. Return the path of the specification.

    A complete cohort of this size that already exists is kept. The specification is always rewritten. Raise MlhoError if the
    cohort cannot be generated.

    Parameters
    ----------
    with_rival : bool
        Whether xgboost is compared with glmboost. The consensus model is glmboost in both cases.
    """
    arguments = {
        "n_patients": n_patients,
        "n_codes": _N_CODES,
        "n_partitions": max(1, min(_N_PARTITIONS, n_patients // _MIN_PATIENTS_A_PARTITION)),
        "seed": seed,
    }
    if not is_complete(folder, arguments):
        _generate(folder, arguments)
    write_concepts(folder / "concepts.csv", _N_CODES)
    spec = folder / "spec.yaml"
    text = _SPEC.format(path=spec, seed=seed, rival=_RIVAL if with_rival else "")
    spec.write_text(text, encoding="utf-8")
    return spec


def check_planted(folder: Path, result: dict[str, Any]) -> Group:
    """Show which planted effects a run found."""
    truth = read_truth(folder)
    features = {feature["code"]: feature for feature in result["features"] if feature["kind"] == "feature"}
    table = new_table("Planted effects, and effects found")
    table.add_column("planted code", no_wrap=True, min_width=9)
    for name in ("odds ratio", "found", "confidence"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for causal in truth.causal:
        feature = features.get(causal.code)
        is_back = bool(feature and feature["in_consensus"])
        score = str(feature["confidence"]["score"]) if feature and feature["confidence"] else "–"
        table.add_row(
            causal.code, f"{causal.odds_ratio:g}", "yes" if is_back else "no", score, _note(truth, causal)
        )
    return Group(table, Text(), Text(judge(truth, result).words))


def _note(truth: Truth, causal: CausalCode) -> str:
    if causal.vanishes_from:
        return f"the effect vanishes in {causal.vanishes_from[:4]}: not expected"
    if is_expected(causal):
        return "expected"
    if causal.code in truth.interaction.codes:
        partner = next(code for code in truth.interaction.codes if code != causal.code)
        return f"more with {partner}: {truth.interaction.odds_ratio:g} on top"
    return "protective" if causal.odds_ratio < 1 else ""


def _generate(folder: Path, arguments: dict[str, int]) -> None:
    options = [f"--{name.removeprefix('n_')}={number}" for name, number in arguments.items()]
    command = [sys.executable, "-m", "mlho.synthetic", f"--out={folder}", "--workers=1", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter, our own module, numbers and one path
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise MlhoError(f"The demo's cohort could not be made: {last.removeprefix('error: ')}")
