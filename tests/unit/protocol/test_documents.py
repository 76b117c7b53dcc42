"""Documents of tasks in a store that has lost part of one."""

import pytest

from mlho.errors import SpecError
from mlho.protocol.documents import read_task, task_document_key, write_task
from mlho.steps.base import Task
from mlho.store.memory import MemoryStore

FOLD = Task(kind="run_fold", params={"iteration": 4, "fold": 2, "classifier": "glmboost"})
OTHER = Task(kind="run_fold", params={"iteration": 4, "fold": 3, "classifier": "glmboost"})


@pytest.mark.parametrize("n_bytes", [0, 1, 40])
def test_a_truncated_document_is_replaced(n_bytes):
    """A power cut can truncate the document of a task in a folder. The next scheduler writes it again, and workers run the task."""
    store = MemoryStore()
    store.put_if_absent(task_document_key(FOLD.key), FOLD.document()[:n_bytes])

    write_task(store, FOLD, FOLD.key)

    assert read_task(store, FOLD.key) == FOLD


def test_the_document_of_another_task_is_not_replaced():
    """It was put there on purpose: a worker refuses it."""
    store = MemoryStore()
    write_task(store, OTHER, FOLD.key)

    write_task(store, FOLD, FOLD.key)

    with pytest.raises(SpecError, match="does not match the hash in its name"):
        read_task(store, FOLD.key)
