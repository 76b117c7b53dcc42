"""Step: the bundle of a scoring run in the store. The process that starts the run stores it; a worker cannot."""

from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work


class PinBundle(Step):
    """Identify the bundle's artifact. Its commit record is written when the run starts, so that this step never runs."""

    kind: ClassVar[str] = "pin_bundle"

    def run(self, work: Work) -> dict[str, Any]:
        """Raise an error: the bundle is missing or damaged in the store."""
        raise BundleError(
            f"bundle {str(work.params['digest'])[:12]}…: no longer complete in the store. Run the same command again, "
            "which stores it again from its address."
        )
