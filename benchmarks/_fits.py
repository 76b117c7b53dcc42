"""A real fit of about a second, for the queue and for joblib. Run as a program, it is a worker with the fit as a step.

Both call :func:`fit`, which memory-maps the same table and trains with one thread.
"""

import sys
from pathlib import Path
from typing import Any, ClassVar, cast, override

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mlho.steps import STEPS
from mlho.steps.base import Step, Task, Work

KIND = "bench_fit"
N_ROWS, N_COLUMNS = 20_000, 100


def write_table(folder: Path, n_rows: int = N_ROWS) -> None:
    """Write a synthetic table with a signal in ten columns."""
    import numpy as np

    rng = np.random.default_rng(11)
    rows = rng.normal(size=(n_rows, N_COLUMNS)).astype(np.float32)
    risk = rows[:, :10].sum(axis=1) + 0.5 * rows[:, 0] * rows[:, 1] + rng.normal(scale=2.0, size=n_rows)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "labels.npy", (risk > 0).astype(np.float32))


def fit(folder: Path | str, n_rounds: int, seed: int) -> bytes:
    """Train on a random half of the columns, and return the model's bytes."""
    import numpy as np
    import xgboost

    rows = np.load(Path(folder) / "rows.npy", mmap_mode="r")
    labels = np.load(Path(folder) / "labels.npy")
    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": 5,
        "colsample_bytree": 0.5,
        "seed": seed,
        "nthread": 1,
        "verbosity": 0,
    }
    table = xgboost.DMatrix(np.asarray(rows), label=labels, nthread=1)
    return bytes(xgboost.train(parameters, table, num_boost_round=n_rounds).save_raw("ubj"))


def fit_task(n_rounds: int, seed: int) -> Task:
    """Return a task that does the same fit."""
    return Task(kind=KIND, params={"n_rounds": n_rounds, "seed": seed})


class Fit(Step):
    """Fits, and stores the model."""

    kind: ClassVar[str] = KIND

    @override
    def run(self, work: Work) -> dict[str, Any]:
        model = fit(work.data, work.params["n_rounds"], work.params["seed"])
        (work.out / "model.ubj").write_bytes(model)
        return {}


cast(dict[str, Step], STEPS)[KIND] = Fit()


if __name__ == "__main__":
    from worker.command import main

    sys.exit(main())
