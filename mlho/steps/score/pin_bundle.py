"""Step: the bundle of a scoring run, in the store. Whoever starts the run puts it there; a worker cannot."""

from typing import Any, ClassVar

from mlho.errors import BundleError
from mlho.steps.base import Step, Work


class PinBundle(Step):
    """Names the bundle's artifact. Its commit record is written when the run starts, so that this never has to run."""

    kind: ClassVar[str] = "pin_bundle"

    def run(self, work: Work) -> dict[str, Any]:
        """Refuse: the store has lost the bundle."""
        raise BundleError(
            f"bundle {str(work.params['digest'])[:12]}…: no longer whole in the store. Run the same command again: it is put "
            "there anew from its address."
        )
