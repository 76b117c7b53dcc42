"""Event recorder: creates rate-limited Events with the reasons of :class:`scheduler.controller.conditions.EventReason`."""

import datetime as dt
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from mlho.log import log
from scheduler.api.client import Cluster, ClusterError, ClusterUnavailable, Conflict, Kind
from scheduler.api.status import cut, timestamp
from scheduler.controller.conditions import RunEvent

BURST: Final = 20
REFILL_SECONDS: Final = 15.0  # per additional Event of a run
_PAUSES: Final = (0.2, 1.0)  # seconds before a request is repeated: short, because the run waits
_REMEMBERED: Final = 5_000
_MESSAGE: Final = 1_000


class EventRecorder:
    """Creates Events, rate-limited per run. A request that the API server does not answer is repeated twice."""

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._cluster = cluster
        self._identity = identity
        self._budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.n_recorded = 0
        """Number of Events created."""

    def record(self, obj: Mapping[str, Any], event: RunEvent) -> None:
        """Create an Event about a resource unless its rate limit is exceeded."""
        if not self._is_within_budget(obj["metadata"]["uid"]):
            return
        try:
            self._create(event_object(obj, event, self._identity, dt.datetime.now(dt.UTC)))
            self.n_recorded += 1
        except ClusterError as error:
            log.warning("event_not_recorded", error_kind=type(error).__name__, error=str(error))

    def _create(self, event: Mapping[str, Any]) -> None:
        # A conflict means that an earlier request was carried out and its reply was lost: the name is unique.
        with suppress(Conflict):
            for pause in _PAUSES:
                try:
                    self._cluster.create(Kind.EVENT, event)
                    return
                except ClusterUnavailable:
                    time.sleep(pause)
            self._cluster.create(Kind.EVENT, event)

    def _is_within_budget(self, uid: str) -> bool:
        now = time.monotonic()
        left, at = self._budgets.pop(uid, (float(BURST), now))
        left = min(float(BURST), left + (now - at) / REFILL_SECONDS)
        self._budgets[uid] = (max(left - 1, 0.0), now)
        if len(self._budgets) > _REMEMBERED:
            self._budgets.popitem(last=False)
        return left >= 1


def event_object(obj: Mapping[str, Any], event: RunEvent, identity: str, now: dt.datetime) -> dict[str, Any]:
    """Return an Event in the form of the Kubernetes API."""
    metadata = obj["metadata"]
    mark = hashlib.sha256(f"{metadata['uid']}{event.reason}{now.isoformat()}".encode()).hexdigest()[:16]
    moment = timestamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name'][:200]}.{mark}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning" if event.is_warning else "Normal",
        "reason": event.reason.value,
        "message": cut(event.message, _MESSAGE),
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "mlho-scheduler", "host": identity},
        "reportingComponent": "mlho-scheduler",
        "reportingInstance": identity,
    }
