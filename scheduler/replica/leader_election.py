"""One leads, the others stand by: a Lease that is renewed, and taken over once nobody does.

A rival watches the Lease by its own clock: no two clocks need agree. Whoever cannot renew in time ends its process, before
another may take over. That is a courtesy: what makes a stale leader harmless is the store, where each run has a pointer
that moves by compare-and-swap.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from mlho.errors import MlhoError
from scheduler.api.status import timestamp

LEASE_SECONDS: Final = 7
RENEW_SECONDS: Final = 1.5
GIVE_UP_SECONDS: Final = (
    5.0  # without a renewal; less than LEASE_SECONDS, since a rival begins to count when it looks
)

log = structlog.get_logger()


class LeaseDoor(Protocol):
    """Where the Lease is; :class:`scheduler.controller.controller.ClusterLease` in a cluster."""

    def read(self) -> dict[str, Any] | None:
        """The Lease, or ``None`` if there is none."""

    def write(self, spec: Mapping[str, Any], found: dict[str, Any] | None) -> bool:
        """Write it, if it is still what was found; tell whether it was."""


class Elector:
    """Competes for a Lease.

    Parameters
    ----------
    door : LeaseDoor
    identity : str
        Which no other replica has.
    clock : callable
        Seconds that only go forward.
    now : callable
        The time of day, which people read in the Lease.
    """

    def __init__(
        self,
        door: LeaseDoor,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._door = door
        self._identity = identity
        self._clock = clock
        self._now = now
        self._seen: Mapping[str, Any] | None = None
        self._seen_at = 0.0
        self.renewed_at: float | None = None
        """When it last got or renewed the Lease; ``None`` while it does not lead."""

    def try_once(self) -> bool:
        """Take the Lease, or renew it; tell whether it is ours now."""
        asked_at = self._clock()
        found = self._door.read()
        spec = (found or {}).get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, asked_at
        holder = spec.get("holderIdentity") or ""
        is_free = not holder or asked_at - self._seen_at >= spec.get("leaseDurationSeconds", LEASE_SECONDS)
        if holder != self._identity and not is_free:
            self.renewed_at = None
            return False
        mine = self._spec(spec, is_new=holder != self._identity)
        if not self._door.write(mine, found):
            return False
        self._seen, self._seen_at = mine, asked_at
        self.renewed_at = asked_at
        return True

    @property
    def is_leading(self) -> bool:
        """Whether the Lease is ours, and was renewed not too long ago."""
        return self.renewed_at is not None and self._clock() - self.renewed_at < GIVE_UP_SECONDS

    def release(self) -> None:
        """Give the Lease up, so that another need not wait."""
        found = self._door.read()
        spec = (found or {}).get("spec") or {}
        if found is not None and spec.get("holderIdentity") == self._identity:
            self._door.write({**spec, "holderIdentity": ""}, found)
        self.renewed_at = None

    def wait_to_lead(self, stop: threading.Event) -> bool:
        """Return true once the Lease is ours, or false once told to stop."""
        while not stop.is_set():
            if self._try():
                return True
            stop.wait(RENEW_SECONDS)
        return False

    def lead(self, stop: threading.Event) -> bool:
        """Renew until told to stop; return whether the Lease was kept all the time."""
        while not stop.wait(RENEW_SECONDS):
            self._try()
            if not self.is_leading:
                log.error("leadership_lost")
                return False
        return True

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
