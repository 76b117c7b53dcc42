"""Step: run the self-tests of the bundle on its stored form."""

import shutil
from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work


class TestModel(Step):
    """Load the bundle as a user would, and run its self-tests. A failed test fails the run."""

    kind: ClassVar[str] = "test_model"

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``tests.json``."""
        from mlho.model.bundle import load_bundle

        model, folder = work.one("model"), work.out / "bundle"
        for name in model.names:
            if name.startswith("bundle/"):
                target = work.out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.path(name), target)
        results = load_bundle(folder).run_tests()
        shutil.rmtree(folder)
        failed = [result for result in results if not result.passed]
        if failed:
            raise BundleError(
                f"bundle: {len(failed)} of its {len(results)} own tests failed, the first: {failed[0].name} ({failed[0].detail}). "
                "Report this as a defect; nothing is published."
            )
        work.write_json("tests.json", [result.model_dump(mode="json") for result in results])
        return {"n_tests": len(results)}
