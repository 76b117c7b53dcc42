"""A worker in which no iteration ends."""

import sys
import time
from typing import cast, override

from mlho.steps import STEPS
from mlho.steps.base import Step, Work
from mlho.steps.learn.run_iteration import RunIteration


class Endless(RunIteration):
    """Sleeps longer than any limit."""

    @override
    def run(self, work: Work) -> None:
        time.sleep(600)


cast(dict[str, Step], STEPS)[Endless.kind] = Endless()  # also in its child processes, which import this file


if __name__ == "__main__":
    from worker.command import main

    sys.exit(main())
