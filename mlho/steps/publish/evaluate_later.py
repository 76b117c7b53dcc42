"""Step: evaluate the final model's procedure on later patients, in addition to a random split."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep


class EvaluateLater(LearningStep):
    """Fit the final model's setting on samples before a date, and evaluate it on samples from that date onwards."""

    kind: ClassVar[str] = "evaluate_later"
    version: ClassVar[int] = 4
    reads_temporal_check: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``later.json``."""
        from mlho.training.results.temporal_check import evaluate_later

        final = work.one("model").json("final.json")
        later = evaluate_later(open_problem(work), final["classifier"], final["setting"])
        work.write_json("later.json", later.model_dump(mode="json"))
        return {"test_from": later.test_from}
