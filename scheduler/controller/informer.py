"""Informers: local caches of the cluster's objects, with one list-and-watch thread for each kind and namespace.

Each watch ends after about a minute, and the informer lists again, so that missed changes are found.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlho.log import error_fields, log
from scheduler.api.client import Cluster, ClusterError, Expired, Kind, NotFound

_PAUSES: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
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
        self._lock = threading.Lock()

    def get(self, uid: str) -> Object | None:
        """Return one object."""
        return self._objects.get(uid)

    def all(self) -> list[Object]:
        """Return all current objects."""
        with self._lock:
            return list(self._objects.values())

    def put(self, obj: Object) -> None:
        """Add or update an object unless the cache has a later version. Responses and watch events may arrive in any order."""
        uid = obj["metadata"]["uid"]
        with self._lock:
            old = self._objects.get(uid)
            if old is not None and _version(old) >= _version(obj):
                return
            self._objects[uid] = obj
        self._on_change(old, obj)

    def remove(self, obj: Object) -> None:
        """Remove a deleted object."""
        with self._lock:
            old = self._objects.pop(obj["metadata"]["uid"], None)
        if old is not None:
            self._on_change(old, None)

    def replace(self, namespace: str, objects: Mapping[str, Object]) -> None:
        """Replace all objects of a namespace; an empty namespace stands for all namespaces."""
        with self._lock:
            previous = [
                obj
                for obj in self._objects.values()
                if not namespace or obj["metadata"]["namespace"] == namespace
            ]
        for obj in previous:
            if obj["metadata"]["uid"] not in objects:
                self.remove(obj)
        for obj in objects.values():
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
        self._namespace = namespace
        self._cache = cache
        self._selector = selector
        self._stop_event = threading.Event()
        self.synced = threading.Event()
        """Set after the first complete list."""

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
            except ClusterError as error:
                # The API server also answers "not found" for a moment while a definition is replaced. An empty list
                # would then end all runs, so that only the optional kind counts as absent.
                if isinstance(error, NotFound) and self._kind is Kind.WORKLOAD:
                    self.synced.set()
                    self._stop_event.wait(_ABSENT_SECONDS)
                    continue
                log.warning("watch_broken", step=self._kind.value[1], **error_fields(error))
                self._stop_event.wait(_PAUSES[min(n_failures, len(_PAUSES) - 1)])
                n_failures += 1

    def _list_and_watch(self) -> None:
        listed = self._cluster.list(self._kind, self._namespace, selector=self._selector)
        self._cache.replace(self._namespace, {obj["metadata"]["uid"]: obj for obj in listed.items})
        self.synced.set()
        changes = self._cluster.watch(self._kind, self._namespace, listed.version, selector=self._selector)
        for change, obj in changes:
            if self._stop_event.is_set():
                return
            (self._cache.remove if change == "DELETED" else self._cache.put)(obj)
