"""Step: run the tests of the bundle on its stored form."""

import shutil
from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work


class TestModel(Step):
    """Load the bundle as a user would, and run its tests, except those that measure the machine.

    A defect fails the run. A requirement or an expectation that is not met is part of the result: the bundle is kept, and
    cannot be promoted.
    """

    kind: ClassVar[str] = "test_model"
    version: ClassVar[int] = 6

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``tests.json``."""
        from mlho.model.bundle import load_bundle
        from mlho.model.files import write_files
        from mlho.model.testing.records import failed_sentence
        from mlho.model.testing.runner import blocking

        model, folder = work.one("model"), work.out / "bundle"
        write_files(work.out, {name: model.read(name) for name in model.names if name.startswith("bundle/")})
        results = load_bundle(folder).run_tests(measured=False)
        shutil.rmtree(folder)
        if defects := blocking(results, "defect"):
            raise BundleError(
                f"bundle: {failed_sentence(defects, len(results))} Report this as a defect; nothing is published."
            )
        work.write_json("tests.json", [result.reported() for result in results])
        return {"n_failed": len(blocking(results, "required", "expected")), "n_tests": len(results)}
