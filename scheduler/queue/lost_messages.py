"""Lost messages: finds the tasks to send again although no event reported them. Pure, without a client."""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final

from mlho.protocol.messages import ID_SEPARATOR
from scheduler.queue.executor_state import Pending

LOST_SECONDS: Final = 4.0  # time for a message to appear in the queue or be claimed


class LostMessages:
    """Finds tasks that were sent a while ago and, in two scans, were neither leased nor in the queue.

    A single scan may fall between the moment a message leaves the queue and its claim.
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
        """Return the tasks whose message is lost.

        ``leased`` are the keys of tasks with a lease. ``queued`` returns the ids of the messages in the queue, which begin with
        the key of the task; it is called only if needed.
        """
        old = [
            pending
            for pending in under_way
            if pending.sent_at is not None
            and now - pending.sent_at > LOST_SECONDS
            and pending.task not in leased
        ]
        in_queue = {name.partition(ID_SEPARATOR)[0] for name in queued()} if old else set()
        missing = {pending.task for pending in old} - in_queue
        lost = self._suspects & missing
        self._suspects = missing - lost
        return [pending for pending in old if pending.task in lost]
