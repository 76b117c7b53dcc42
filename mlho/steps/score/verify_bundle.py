"""Step: run the tests of a bundle before anything is scored with it."""

import shutil
from typing import TYPE_CHECKING, Any, ClassVar

from mlho.errors import BundleError, plural
from mlho.steps.base import Step, Work
from mlho.steps.score.artifacts import open_bundle

if TYPE_CHECKING:
    from mlho.model.bundle import Bundle


class TestBundle(Step):
    """Run the tests, except those that measure the machine: a slow node must not refuse a night's scores.

    All scoring tasks depend on this one, so that a bundle with a defect, or one that misses a requirement, scores no patient.
    """

    kind: ClassVar[str] = "test_bundle"
    version: ClassVar[int] = 6

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``tests.json``."""
        from mlho.model.testing.records import failed_sentence
        from mlho.model.testing.runner import blocking

        bundle = open_bundle(work)
        results = bundle.run_tests(measured=False)
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
        _refuse_skew(bundle, work)
        work.write_json("tests.json", [result.plain() for result in results])
        return {"n_failed": len(blocking(results, "expected")), "n_tests": len(results)}


def _refuse_skew(bundle: "Bundle", work: Work) -> None:
    """Refuse a bundle for which a scoring run computes features or scores that differ from those of the training path."""
    from mlho.scoring.skew import TOLERANCE, find_skew

    folder = work.out / "skew"
    folder.mkdir()
    skew = find_skew(bundle, folder)
    shutil.rmtree(folder)
    if not skew.is_equal:
        raise BundleError(
            f"bundle: train/serve skew. For {plural(skew.n_patients, 'synthetic patient')}, the scoring run computes features or scores that differ from "
            f"those of training. Expected differences of at most {TOLERANCE:g}; got {skew.features:g} in a feature and {skew.scores:g} in a "
            "score. No patient is scored. Use the version of mlho that wrote the bundle, and report this as a defect."
        )
