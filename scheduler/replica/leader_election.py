"""Leader election with a Kubernetes Lease: one replica leads and renews the Lease, the others stand by.

A standby replica measures the age of the Lease by its own clock, so that clocks need not agree. A leader that cannot
renew in time ends its process before another replica may take over. Correctness does not depend on this: each run has
a fencing pointer in the store, updated by compare-and-swap, which makes a stale leader harmless.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlho.errors import MlhoError
from mlho.log import log
from scheduler.api.client import Cluster, Conflict, Kind, NotFound
from scheduler.api.status import timestamp

LEASE_SECONDS: Final = 7
RENEW_SECONDS: Final = 1.5
_LOOK_SECONDS: Final = 0.25  # between two checks of the age of the last renewal
#: Time without a renewal. Less than LEASE_SECONDS, because a rival counts from when it last read the Lease.
GIVE_UP_SECONDS: Final = 6.0


@dataclass(frozen=True)
class ClusterLease:
    """The Lease in the cluster."""

    cluster: Cluster
    namespace: str
    name: str

    def read(self) -> dict[str, Any] | None:
        """Return the Lease, or ``None`` if it does not exist."""
        try:
            return self.cluster.get(Kind.LEASE, self.namespace, self.name)
        except NotFound:
            return None

    def write(self, spec: Mapping[str, Any], found: dict[str, Any] | None) -> bool:
        """Write the Lease unless it has changed since it was read. Return whether it was written."""
        metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace}
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": dict(spec),
        }
        try:
            (self.cluster.create if found is None else self.cluster.replace)(Kind.LEASE, lease)
        except Conflict:
            return False
        return True


class LeaderElector:
    """Competes for a Lease.

    Parameters
    ----------
    identity : str
        Unique among the replicas.
    clock : callable
        Monotonic clock in seconds.
    """

    def __init__(
        self,
        client: ClusterLease,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._client = client
        self._identity = identity
        self._clock = clock
        self._now = now
        self._seen: Mapping[str, Any] | None = None
        self._seen_at = 0.0
        self._lock = threading.Lock()
        self._is_released = False
        self.renewed_at: float | None = None
        """Time of the last acquisition or renewal by the monotonic clock; ``None`` while it does not lead."""

    def try_once(self) -> bool:
        """Acquire or renew the Lease. Return whether this replica holds it."""
        with self._lock:
            return not self._is_released and self._acquire_or_renew()

    def _acquire_or_renew(self) -> bool:
        asked_at = self._clock()
        lease = self._client.read()
        spec = (lease or {}).get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, asked_at
        holder = spec.get("holderIdentity") or ""
        is_free = not holder or asked_at - self._seen_at >= spec.get("leaseDurationSeconds", LEASE_SECONDS)
        if holder != self._identity and not is_free:
            self.renewed_at = None
            return False
        mine = self._spec(spec, is_new=holder != self._identity)
        if not self._client.write(mine, lease):
            return False
        self._seen, self._seen_at = mine, asked_at
        self.renewed_at = asked_at
        return True

    @property
    def is_leading(self) -> bool:
        """Return whether this replica holds the Lease and has renewed it recently."""
        renewed_at = self.renewed_at  # another thread may set it meanwhile
        return renewed_at is not None and self._clock() - renewed_at < GIVE_UP_SECONDS

    def release(self) -> None:
        """Release the Lease for good, so that another replica can acquire it at once.

        Otherwise a renewal in progress in another thread would find the released Lease free and take it again.
        """
        with self._lock:
            self._is_released = True
            lease = self._client.read()
            spec = (lease or {}).get("spec") or {}
            if lease is not None and spec.get("holderIdentity") == self._identity:
                self._client.write({**spec, "holderIdentity": ""}, lease)
            self.renewed_at = None

    def wait_to_lead(self, stop: threading.Event) -> bool:
        """Wait until this replica holds the Lease and return true, or return false when ``stop`` is set."""
        while not stop.is_set():
            if self._try():
                return True
            stop.wait(RENEW_SECONDS)
        return False

    def lead(self, stop: threading.Event) -> bool:
        """Renew the Lease until ``stop`` is set. Return whether it was held throughout.

        The renewals have a separate thread: a request that the API server does not answer must not delay the end of a leader.
        """
        has_ended = threading.Event()
        threading.Thread(target=self._renew_until, args=(has_ended,), name="lease", daemon=True).start()
        try:
            while not stop.wait(_LOOK_SECONDS):
                if not self.is_leading:
                    log.error("leadership_lost")
                    return False
            return True
        finally:
            has_ended.set()

    def _renew_until(self, has_ended: threading.Event) -> None:
        pause = RENEW_SECONDS
        while not has_ended.wait(pause):
            asked_at = self._clock()
            self._try()
            # A slow answer does not delay the next request.
            pause = max(0.0, RENEW_SECONDS - (self._clock() - asked_at))

    def _try(self) -> bool:
        try:
            return self.try_once()
        except MlhoError as error:
            log.warning("lease_not_renewed", error_kind=type(error).__name__)
            return False

    def _spec(self, old: Mapping[str, Any], *, is_new: bool) -> dict[str, Any]:
        moment = timestamp(self._now()).removesuffix("Z") + f".{self._now().microsecond:06d}Z"
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": moment,
            "acquireTime": moment if is_new else old.get("acquireTime", moment),
            "leaseTransitions": int(old.get("leaseTransitions", 0)) + is_new,
        }
