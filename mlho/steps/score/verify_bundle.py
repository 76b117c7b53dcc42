"""Step: run the tests of a bundle before anything is scored with it."""

from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work
from mlho.steps.score.artifacts import open_bundle


class TestBundle(Step):
    """Run the tests, except those that measure the machine: a slow node must not refuse a night's scores.

    All scoring tasks depend on this one, so that a bundle with a defect, or one that misses a requirement, scores no patient.
    """

    kind: ClassVar[str] = "test_bundle"
    version: ClassVar[int] = 3

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``tests.json``."""
        from mlho.model.testing.records import failed_sentence
        from mlho.model.testing.runner import blocking

        results = open_bundle(work).run_tests(measured=False)
        refused = blocking(results, "defect", "required")
        if refused:
            remedy = (
                "Use the version of mlho that wrote the bundle, or build it again."
                if blocking(results, "defect")
                else "Use a bundle that meets the requirements, or change tests in the specification and build it again."
            )
            raise BundleError(
                f"bundle: {failed_sentence(refused, len(results))} No patient is scored. {remedy}"
            )
        work.write_json("tests.json", [result.plain() for result in results])
        return {"n_failed": len(blocking(results, "expected")), "n_tests": len(results)}
