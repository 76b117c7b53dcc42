"""Step: fit a new calibrator of a bundle on recent labels."""

import json
from typing import Any, ClassVar, Final

from mlho.model.files import write_files
from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root

_BUNDLE: Final = "bundle/"  # folder of the files in the artifact of a pinned bundle


class RecalibrateBundle(Step):
    """Evaluate a bundle on labelled tables, and write it with a new calibrator, tests and report."""

    kind: ClassVar[str] = "recalibrate_bundle"
    version: ClassVar[int] = 14

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``bundle/…``, ``report.html`` and ``result.json``."""
        from mlho.external.command import recalibration_files
        from mlho.steps.publish.write_report import versions

        artifact = work.one("bundle")
        files = recalibration_files(
            {name.removeprefix(_BUNDLE): artifact.read(name) for name in artifact.names},
            TrainingSpec.model_validate(work.params["spec"]),
            checked_root(work),
            work.params["correction"],
            data_digest=work.params["data_digest"],
            versions=versions(),
            n_known_labels=work.params.get("n_known_labels", 0),
        )
        write_files(work.out, files)
        return {"bundle_digest": json.loads(files["result.json"])["final_model"]["bundle_digest"]}
