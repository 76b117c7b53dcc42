"""Cleanup in store and queue that outlives the resource of a run: records of active runs, and cancellation.

All operations run in background threads and are retried until they succeed, so that an outage of store or
queue does not block other runs.
"""

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mlho.errors import ArtifactNotFound, MlhoError
from mlho.log import error_fields, log
from scheduler.controller.run_thread import Backend, cancel

_THREADS: Final = 8
_PAUSE_SECONDS: Final = 2.0
_UNDER_WAY: Final = "operator/runs"


class Cleaner:
    """Records active runs in the store, for a scheduler that takes over after a resource was deleted, and cancels runs.

    Parameters
    ----------
    owner : str
        Identifies the release, because several releases may share a store.
    """

    def __init__(self, backend: Backend, owner: str) -> None:
        self._backend = backend
        self._folder = f"{_UNDER_WAY}/{owner}/"
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="clean")

    def stop(self) -> None:
        """Stop retrying."""
        self._stop.set()

    def note(self, uid: str, run_id: str) -> None:
        """Record that the run of a resource is active. Blocks until it is recorded."""
        self._backend.store().put_if_absent(self._folder + uid, json.dumps({"run": run_id}).encode())

    def forget(self, uid: str) -> None:
        """Delete the record of a resource."""
        self._begin("note_not_deleted", lambda: self._forget(uid))

    def hand_over(self, uid: str, successor: str, run_id: str) -> None:
        """Move the record of a run to another resource."""

        def act() -> None:
            self.note(successor, run_id)
            self._forget(uid)

        self._begin("note_not_handed_over", act)

    def cancel(self, uid: str, run_id: str, *, flagged: Callable[[], None] = lambda: None) -> None:
        """Cancel a run: set the durable flag, call ``flagged``, delete the queue once its workers have left, and delete the record."""

        def act() -> None:
            cancel(self._backend, run_id, flagged=flagged)
            self._forget(uid)
            log.info("run_cancelled", run_id=run_id)

        self._begin("not_cancelled", act)

    def find(self, found: Callable[[Mapping[str, str]], None]) -> None:
        """Read all records and call ``found`` with the run id by resource uid."""
        self._begin("notes_not_read", lambda: found(self._read()))

    def _forget(self, uid: str) -> None:
        self._backend.store().delete(self._folder + uid)

    def _read(self) -> dict[str, str]:
        store, records = self._backend.store(), {}
        for key in store.keys(self._folder):
            try:
                records[key.rsplit("/", 1)[1]] = str(json.loads(store.get(key))["run"])
            except ArtifactNotFound:
                continue
            except (KeyError, TypeError, ValueError):
                log.warning("note_not_read", task=key.rsplit("/", 1)[1])
        return records

    def _begin(self, failure: str, act: Callable[[], None]) -> None:
        def until_done() -> None:
            while not self._stop.is_set():
                try:
                    act()
                    return
                except (MlhoError, OSError) as error:
                    log.warning(failure, **error_fields(error))
                except Exception as error:  # the pool would drop it
                    log.exception(failure, **error_fields(error))
                self._stop.wait(_PAUSE_SECONDS)

        self._pool.submit(until_done)
