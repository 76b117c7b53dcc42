"""Lost messages: which tasks must be sent again, though nobody said so. Pure; knows no client."""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from mlho.protocol.messages import ID_SEPARATOR
from scheduler.queue.pending import Pending

LOST_SECONDS: Final = 4.0  # a message is given this long to be in the queue or claimed


class LostMessages:
    """Finds what is neither leased nor in the queue, at two looks, though it was sent a while ago.

    A single look may fall between a message's leaving the queue and its claim.
    """

    def __init__(self) -> None:
        self._suspects: set[str] = set()

    def find(
        self,
        under_way: Sequence[Pending],
        leased: Set[str],
        queued: Callable[[], Iterable[str]],
        *,
        now: float,
    ) -> list[Pending]:
        """The tasks whose message is lost.

        Parameters
        ----------
        under_way : sequence of Pending
        leased : set of str
            Keys of tasks with a lease.
        queued : callable
            Ids of the messages in the queue, which begin with the task's key; asked only if it matters.
        now : float
            By the monotonic clock.
        """
        old = [
            one
            for one in under_way
            if one.sent_at is not None and now - one.sent_at > LOST_SECONDS and one.task not in leased
        ]
        in_queue = {name.partition(ID_SEPARATOR)[0] for name in queued()} if old else set()
        missing = {one.task for one in old} - in_queue
        lost = self._suspects & missing
        self._suspects = missing - lost
        return [one for one in old if one.task in lost]
