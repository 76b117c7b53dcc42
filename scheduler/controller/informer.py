"""Informers: local caches of the cluster's objects, with one list-and-watch thread for each kind and namespace.

Each watch ends after about a minute, and the informer lists again, so that missed changes are found.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlho.log import error_fields, log
from scheduler.api.client import RUN_KINDS, Cluster, ClusterError, Expired, Kind, NotFound

_PAUSES: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
_DELETED_KEPT: Final = 1_000
_ABSENT_SECONDS: Final = 60.0  # between retries for a kind that is not installed, such as Kueue's


Object = dict[str, Any]


class Cache:
    """Objects of one kind by uid. Thread-safe.

    Parameters
    ----------
    on_change : callable
        Called with the old and the new object; one of them may be ``None``.
    """

    def __init__(self, on_change: Callable[[Object | None, Object | None], None]) -> None:
        self._on_change = on_change
        self._objects: dict[str, Object] = {}
        self._deleted: dict[str, None] = {}
        self._lock = threading.Lock()

    def get(self, uid: str) -> Object | None:
        """Return one object."""
        return self._objects.get(uid)

    def all(self) -> list[Object]:
        """Return all current objects."""
        with self._lock:
            return list(self._objects.values())

    def put(self, obj: Object) -> None:
        """Add or update an object unless the cache has a later version or it was deleted.

        Responses and watch events may arrive in any order.
        """
        uid = obj["metadata"]["uid"]
        with self._lock:
            old = self._objects.get(uid)
            if uid in self._deleted or (old is not None and _version(old) >= _version(obj)):
                return
            self._objects[uid] = obj
        self._on_change(old, obj)

    def remove(self, obj: Object) -> None:
        """Remove a deleted object. Its uid does not return: a later ``put`` is the delayed response to an earlier request."""
        uid = obj["metadata"]["uid"]
        with self._lock:
            old = self._objects.pop(uid, None)
            self._deleted[uid] = None
            if len(self._deleted) > _DELETED_KEPT:
                del self._deleted[next(iter(self._deleted))]
        if old is not None:
            self._on_change(old, None)

    def replace(self, objects: Mapping[str, Object], *, version: int, namespace: str, kind: str = "") -> None:
        """Replace all objects of a namespace and a kind by a list of this resource version. An empty name means all.

        Later objects stay: they were created during the list request.
        """
        with self._lock:
            missing = [
                obj
                for uid, obj in self._objects.items()
                if uid not in objects
                and _version(obj) <= version
                and (not namespace or obj["metadata"]["namespace"] == namespace)
                and (not kind or obj["kind"] == kind)
            ]
        for obj in missing:
            self.remove(obj)
        for uid, obj in objects.items():
            with self._lock:
                self._deleted.pop(uid, None)  # an earlier list lacked it by mistake
            self.put(obj)


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Watcher(threading.Thread):
    """Keeps the objects of one kind and namespace in a cache."""

    def __init__(
        self, cluster: Cluster, kind: Kind, namespace: str, cache: Cache, *, selector: str = ""
    ) -> None:
        super().__init__(name=f"watch-{kind.value[1]}", daemon=True)
        self._cluster = cluster
        self._kind = kind
        self.namespace = namespace
        """An empty name means all namespaces."""
        self._cache = cache
        self._selector = selector
        self._kind_of_run = next((name for name, run_kind in RUN_KINDS.items() if run_kind is kind), "")
        self._stop_event = threading.Event()
        self.synced = threading.Event()
        """Set after the first complete list."""
        self.n_refused = 0
        """Number of requests that the API server refused because the service account lacks a permission."""

    def stop(self) -> None:
        """Stop watching. A blocked request ends by its timeout."""
        self._stop_event.set()

    def run(self) -> None:
        """List and watch until stopped."""
        n_failures = 0
        while not self._stop_event.is_set():
            try:
                self._list_and_watch()
                n_failures = 0
            except Expired:
                continue
            except Exception as error:
                is_refused = isinstance(error, ClusterError) and error.status == 403
                self.n_refused += is_refused
                # The API server also answers "not found" for a moment while a CRD is replaced. An empty list would
                # then end all runs, so only the optional kind counts as absent.
                is_absent = self._kind is Kind.WORKLOAD and (is_refused or isinstance(error, NotFound))
                if is_absent:
                    self.synced.set()
                if is_refused or not is_absent:
                    # A defect must not end the thread: the operator would see no further change.
                    report = log.warning if isinstance(error, ClusterError) else log.exception
                    report("watch_broken", step=self._kind.value[1], **error_fields(error))
                pause = _ABSENT_SECONDS if is_absent else _PAUSES[min(n_failures, len(_PAUSES) - 1)]
                self._stop_event.wait(pause)
                n_failures += 1

    def _list_and_watch(self) -> None:
        listed = self._cluster.list(self._kind, self.namespace, selector=self._selector)
        objects = {obj["metadata"]["uid"]: self._with_kind(obj) for obj in listed.items}
        # Both kinds of runs share a cache, in which a list of one must not remove the other.
        self._cache.replace(
            objects, version=int(listed.version), namespace=self.namespace, kind=self._kind_of_run
        )
        self.synced.set()
        changes = self._cluster.watch(self._kind, self.namespace, listed.version, selector=self._selector)
        for change, obj in changes:
            if self._stop_event.is_set():
                return
            (self._cache.remove if change == "DELETED" else self._cache.put)(self._with_kind(obj))

    def _with_kind(self, obj: Object) -> Object:
        """Return a run with its kind, which items of a list do not contain."""
        return {"kind": self._kind_of_run, **obj} if self._kind_of_run else obj
