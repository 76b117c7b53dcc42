"""Step: run the self-tests of a bundle before anything is scored with it."""

from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work
from mlho.steps.score.artifacts import open_bundle


class TestBundle(Step):
    """Run the self-tests. All scoring tasks depend on this one, so that a failing bundle scores no patient."""

    kind: ClassVar[str] = "test_bundle"

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``tests.json``."""
        results = open_bundle(work).run_tests()
        failed = [result for result in results if not result.passed]
        if failed:
            raise BundleError(
                f"bundle: {len(failed)} of its {len(results)} own tests failed, the first: {failed[0].name} ({failed[0].detail}). "
                "Nobody is scored. Use the version of mlho that wrote the bundle, or build it again."
            )
        work.write_json("tests.json", [result.model_dump(mode="json") for result in results])
        return {"n_tests": len(results)}
