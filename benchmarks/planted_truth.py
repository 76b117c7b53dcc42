"""Check which planted effects a run finds: ten cohorts of 10,000 patients with 1,000 codes; presence, 20 iterations, 200 features.

Run with ``python benchmarks/planted_truth.py --seeds 10``. The claim, for every seed: each planted code with an odds
ratio of 2.2 or more whose effect does not vanish is in the consensus, and at most two noise codes are.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mlho.synthetic import Truth, read_truth
from mlho.synthetic.verdict import Verdict, judge
from scheduler.cli.demo import make_demo
from scheduler.cli.parser import main as mlho

N_PATIENTS = 10_000
MAX_NOISE = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    table = Table(show_edge=False)
    for name in (
        "seed",
        "came back",
        "missed (odds ratio, patients, score)",
        "noise",
        "others",
        "AUROC",
        "seconds",
        "",
    ):
        table.add_column(name, no_wrap=True)
    n_failed = 0
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            truth, result, seconds = run(Path(folder), seed, options.workers)
        verdict = judge(truth, result)
        is_ok = not verdict.missed and not verdict.leaks and len(verdict.noise) <= MAX_NOISE
        n_failed += not is_ok
        table.add_row(*row(seed, truth, result, verdict), f"{seconds:.0f}", "ok" if is_ok else "MISSED")
        print(f"seed {seed}: {verdict.words}", file=sys.stderr)
    Console(width=160).print(table)
    print(f"{options.seeds - n_failed} of {options.seeds} seeds hold the claim")
    return 1 if n_failed else 0


def run(folder: Path, seed: int, workers: int) -> tuple[Truth, dict, float]:
    """Generate a cohort, train on it, and return the truth, the result and the run's seconds."""
    spec = make_demo(folder / "cohort", n_patients=N_PATIENTS, seed=seed, with_rival=False)
    store = folder / "store"
    start = time.perf_counter()
    with Path("/dev/null").open("w") as quiet:
        shown, sys.stdout = sys.stdout, quiet
        try:
            code = mlho(["run", str(spec), "--store", str(store), "--workers", str(workers)])
        finally:
            sys.stdout = shown
    if code:
        raise SystemExit(f"seed {seed}: the run failed")
    seconds = time.perf_counter() - start
    (path,) = store.glob("runs/*/result.json")
    return read_truth(folder / "cohort"), json.loads(path.read_text()), seconds


def row(seed: int, truth: Truth, result: dict, verdict: Verdict) -> list[str]:
    """Return the cells of one seed's row."""
    features = {feature["code"]: feature for feature in result["features"] if feature["kind"] == "feature"}
    odds_ratios = {causal.code: causal.odds_ratio for causal in truth.causal}
    missed = [_missed(code, odds_ratios[code], features.get(code)) for code in verdict.missed]
    n_back = len(verdict.expected) - len(verdict.missed)
    return [
        str(seed),
        f"{n_back} of {len(verdict.expected)}",
        "; ".join(missed) or "–",
        ", ".join(f"{code} ({features[code]['confidence']['score']})" for code in verdict.noise) or "0",
        str(len(verdict.others)),
        f"{result['headline']['auroc']['mean']:.3f}",
    ]


def _missed(code: str, odds_ratio: float, feature: dict | None) -> str:
    if feature is None:
        return f"{code} ({odds_ratio:g}, never selected)"
    return f"{code} ({odds_ratio:g}, {feature['n_patients']}, {feature['confidence']['score']})"


if __name__ == "__main__":
    sys.exit(main())
