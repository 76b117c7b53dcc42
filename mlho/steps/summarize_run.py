"""Step: what came back over the iterations."""

from typing import TYPE_CHECKING, Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem
from mlho.steps.learning import read_iterations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SummarizeRun(Step):
    """Confidence scores, stability, the consensus model, and the candidates compared."""

    kind: ClassVar[str] = "summarize_run"
    version: ClassVar[int] = 2
    sections: ClassVar[tuple[str, ...]] = (
        "cohort",
        "features",
        "selection",
        "validation",
        "candidates",
        "consensus",
        "report",
    )

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``summary.json``."""
        from mlho.training.summary import summarize

        problem = open_problem(work)
        mean = _mean_probabilities(work, problem.cohort.n_samples)
        summary = summarize(problem, read_iterations(work), mean)
        work.write_json("summary.json", summary.model_dump(mode="json"))
        auroc = summary.headline["auroc"].mean
        return {
            "auroc": auroc,
            "best_candidate": summary.best_candidate,
            "n_consensus": summary.stability.n_consensus,
        }


def _mean_probabilities(work: Work, n_samples: int) -> "NDArray[np.float64]":
    """Mean calibrated probability of each sample over the iterations that tested it; NaN where none did."""
    import numpy as np

    from mlho.arrays import read_arrays

    total, times = np.zeros(n_samples), np.zeros(n_samples)
    for artifact in work.inputs["iterations"]:
        arrays = read_arrays(artifact.path("scores.arr"))
        total[arrays["samples"]] += arrays["calibrated"]
        times[arrays["samples"]] += 1
    mean = np.full(n_samples, np.nan)
    np.divide(total, times, out=mean, where=times > 0)
    return mean
