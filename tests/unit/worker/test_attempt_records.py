"""Records of attempts: an outage of the store, or a reply that is lost in it, costs a task no attempt."""

from collections.abc import Callable

import pytest

from mlho.errors import StoreOutage
from mlho.protocol.documents import Execution, Start, State, noted_attempts
from mlho.store.memory import MemoryStore
from worker.attempt_records import Starts
from worker.claims import Lease

EXECUTION = Execution(run="0123456789abcdef", number=1, state=State.OPEN, data="")
TASK = "a" * 64
NONCE = "1" * 32
LEASE = Lease(TASK, "w:1", 2, NONCE)


class Store(MemoryStore):
    """A store that loses the reply to its next write, and refuses to delete while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.loses_reply = self.is_away = False

    def compare_and_swap(self, key: str, data: bytes, *, expected: bytes | None) -> bool:
        done = super().compare_and_swap(key, data, expected=expected)
        if self.loses_reply:
            self.loses_reply = False
            raise StoreOutage("s3://b: no answer.")
        return done

    def delete(self, key: str) -> None:
        if self.is_away:
            raise StoreOutage("s3://b: no answer.")
        super().delete(key)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def starts(store: Store) -> Starts:
    return Starts(store, EXECUTION)


def noted(store: Store) -> dict[str, Start]:
    return noted_attempts(store, EXECUTION.id, TASK)


def test_a_record_is_renewed_after_the_reply_to_a_renewal_was_lost(store: Store, starts: Starts) -> None:
    """Otherwise the scheduler takes an attempt in progress for a failed one."""
    starts.note(LEASE)
    store.loses_reply = True
    starts.renew()
    starts.renew()  # finds the renewal whose reply was lost
    before = noted(store)[NONCE].renewals
    starts.renew()

    assert noted(store)[NONCE].renewals == before + 1


def _lose_the_reply_to_the_record(store: Store, starts: Starts) -> None:
    store.loses_reply = True
    with pytest.raises(StoreOutage):
        starts.note(LEASE)


def _begin(_store: Store, starts: Starts) -> None:
    starts.note(LEASE)


@pytest.mark.parametrize("begin", [_begin, _lose_the_reply_to_the_record])
def test_a_record_that_an_outage_kept_from_deletion_is_deleted_afterwards(
    store: Store, starts: Starts, begin: Callable[[Store, Starts], None]
) -> None:
    """An attempt that does not count leaves no record once the store serves again."""
    begin(store, starts)
    store.is_away = True
    starts.end(LEASE, counts=False)
    starts.renew()
    store.is_away = False
    starts.renew()

    assert noted(store) == {}


def test_an_attempt_that_counts_is_marked_after_the_reply_to_a_renewal_was_lost(
    store: Store, starts: Starts
) -> None:
    """The end is written over the renewal that reached the store."""
    starts.note(LEASE)
    store.loses_reply = True
    starts.renew()
    starts.end(LEASE, counts=True)

    assert noted(store)[NONCE].is_over
