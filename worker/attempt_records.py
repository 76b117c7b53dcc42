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
from mlho.store.base import Store, get_if_present
from worker.claims import Lease

RENEW_SECONDS: Final = 2.0


class Starts(RepeatingThread):
    """The records of one worker's repeated attempts. A thread renews them."""

    def __init__(self, store: Store, execution: Execution) -> None:
        super().__init__("starts", RENEW_SECONDS, self.renew)
        self._store = store
        self._execution = execution
        self._records: dict[str, Start] = {}
        self._withdrawn: set[str] = set()
        """Keys of the records to delete, until the store has deleted them."""
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
        """Record an attempt before it starts. Return false if its message has already started an attempt."""
        if lease.attempt == 1:
            return True
        key, record = self._key(lease), Start(attempt=lease.attempt)
        try:
            is_first = self._store.put_if_absent(key, record.to_bytes())
        except (MlhoError, OSError):  # the record may be in the store nevertheless: end() deletes it
            self._keep(key, record)
            raise
        if is_first:
            self._keep(key, record)
        return is_first

    def end(self, lease: Lease, *, counts: bool) -> None:
        """Stop renewing a record. Mark it as over if the attempt counts, or delete it otherwise."""
        key = self._key(lease)
        with self._lock:
            record = self._records.pop(key, None)
            if record is None:
                return
            if not counts:
                self._withdrawn.add(key)
        if not counts:
            self._withdraw(key)
            return
        with suppress(MlhoError, OSError):  # then the record counts once it has not been renewed for a while
            self._replace(key, record.model_copy(update={"is_over": True}))

    def renew(self) -> None:
        """Renew all records once, and delete those that could not be deleted before."""
        with self._lock:
            for key in list(self._withdrawn):
                self._withdraw(key)
            for key, record in self._records.items():
                renewed = record.model_copy(update={"renewals": record.renewals + 1})
                with suppress(MlhoError, OSError):
                    if self._replace(key, renewed):
                        self._records[key] = renewed

    def _keep(self, key: str, record: Start) -> None:
        with self._lock:
            self._records[key] = record

    def _withdraw(self, key: str) -> None:
        with suppress(MlhoError, OSError):  # the next renewal tries again
            self._store.delete(key)
            self._withdrawn.discard(key)

    def _replace(self, key: str, new: Start) -> bool:
        """Replace a record, which only this worker writes. A write whose reply was lost may have changed it."""
        content = get_if_present(self._store, key)
        return content is not None and self._store.compare_and_swap(key, new.to_bytes(), expected=content)

    def _key(self, lease: Lease) -> str:
        return attempt_key(self._execution.id, lease.task, lease.nonce)
