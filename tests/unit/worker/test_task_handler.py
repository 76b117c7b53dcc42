"""The words for a task whose process died."""

import signal

import pytest

from mlho.protocol.failures import FailureClass
from worker.child import SOFT_LIMIT_SIGNAL
from worker.child_processes import ChildDied, Ending
from worker.task_handler import failure_of_death

MEMORY = "give the worker more memory, or fewer slots"


@pytest.mark.parametrize(
    ("ending", "exit_code", "failure_class", "names_memory"),
    [
        pytest.param(None, -signal.SIGKILL, FailureClass.POISON, True, id="killed-by-the-kernel"),
        pytest.param(None, -signal.SIGSEGV, FailureClass.POISON, False, id="crashed"),
        pytest.param(Ending.MEMORY, -signal.SIGKILL, FailureClass.MEMORY, True, id="close-to-the-limit"),
        pytest.param(Ending.TIME, -signal.SIGKILL, FailureClass.TIME, False, id="too-long"),
        pytest.param(None, -SOFT_LIMIT_SIGNAL, FailureClass.TIME, False, id="too-long-before-its-handler"),
    ],
)
def test_a_process_that_was_killed_from_outside_names_memory_and_the_remedy(
    ending, exit_code, failure_class, names_memory
):
    """The guard looks twice a second, so that the kernel may be first."""
    failure = failure_of_death(ChildDied(ending, exit_code))

    assert failure.failure_class is failure_class
    assert (MEMORY in failure.message.lower()) is names_memory
