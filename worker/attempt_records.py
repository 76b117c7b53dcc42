"""Records of attempts in the store, from a task's second attempt on.

They decide whether its attempts are used up.

The count in Redis is a hint, because any client can change it. A record is written before its attempt and
renewed during it, so that the scheduler can distinguish a failed attempt from one in progress. It is deleted
if the attempt ended for a reason outside the task.
"""

import threading
from contextlib import suppress
from typing import Final

from mlho.errors import MlhoError
from mlho.processes import RepeatingThread
from mlho.protocol.documents import Execution, Start, attempt_key, noted_attempts, quarantine_key
from mlho.store.base import Store
from worker.claims import Lease

RENEW_SECONDS: Final = 2.0


class Starts(RepeatingThread):
    """The records of one worker's repeated attempts. The thread renews them."""

    def __init__(self, store: Store, execution: Execution) -> None:
        super().__init__("starts", RENEW_SECONDS, self.renew)
        self._store = store
        self._execution = execution
        self._records: dict[str, Start] = {}
        self._lock = threading.Lock()

    def number_of(self, task: str, hint: int) -> int:
        """Return the number of a task's next attempt.

        Parameters
        ----------
        hint : int
            Count in Redis; 0 if unknown. Only 1 is trusted, because the first attempt has no record.
        """
        if hint == 1:
            return 1
        n_noted = len(noted_attempts(self._store, self._execution.id, task))
        return 1 if hint == 0 and not n_noted else n_noted + 2

    def is_quarantined(self, task: str) -> bool:
        """Return whether a task is quarantined, which means that its message is outdated."""
        return self._store.exists(quarantine_key(self._execution.run, task))

    def note(self, lease: Lease) -> bool:
        """Record an attempt before it starts. Return whether its message has started no attempt before."""
        if lease.attempt == 1:
            return True
        record = Start(attempt=lease.attempt)
        if not self._store.put_if_absent(self._key(lease), record.to_bytes()):
            return False
        with self._lock:
            self._records[self._key(lease)] = record
        return True

    def end(self, lease: Lease, *, counts: bool) -> None:
        """Stop renewing a record. Mark it as over if the attempt counts, or delete it otherwise."""
        key = self._key(lease)
        with self._lock:
            record = self._records.pop(key, None)
        if record is None:
            return
        # On failure, the record counts once it has not been renewed for a while.
        with suppress(MlhoError, OSError):
            if counts:
                self._replace(key, record, record.model_copy(update={"is_over": True}))
            else:
                self._store.delete(key)

    def renew(self) -> None:
        """Renew all records once."""
        with self._lock:
            for key, record in self._records.items():
                renewed = record.model_copy(update={"renewals": record.renewals + 1})
                with suppress(MlhoError, OSError):
                    if self._replace(key, record, renewed):
                        self._records[key] = renewed

    def _replace(self, key: str, old: Start, new: Start) -> bool:
        return self._store.compare_and_swap(key, new.to_bytes(), expected=old.to_bytes())

    def _key(self, lease: Lease) -> str:
        return attempt_key(self._execution.id, lease.task, lease.nonce)
