"""Keeps the status of the cluster's ``ModelChannel`` resources equal to the channels of the store.

The leading scheduler reads both at an interval, because a promotion writes only to the store and the cluster gets no notice of it. Only the status of a resource is
written, and only when it changes.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from mlho.errors import MlhoError, SpecError
from mlho.log import error_fields, log
from mlho.spec.scoring import CHANNEL_BUNDLE
from mlho.store.base import Store
from mlho.store.keys import channel_prefix
from scheduler.api.channel import ChannelStatus, ModelChannelSpec
from scheduler.api.client import Cluster, ClusterError, Conflict, Kind, NotFound, status_body
from scheduler.api.config import ClusterConfig
from scheduler.api.status import parsed_status
from scheduler.api.tenancy import may_read, prefixes_of
from scheduler.channels.status import LIVE, NO_MODEL, shown_entry, shown_refusal, with_condition
from scheduler.controller.reasons import STORE_REASONS, reason_of
from scheduler.controller.run_thread import Backend
from scheduler.runs.channels import Channel, read_channel
from scheduler.runs.refusals import last_refusal

INTERVAL_SECONDS: Final = 15.0
_VERIFY_SECONDS: Final = 600.0  # then the whole log is verified again, although no entry was added
_FOREIGN: Final = (
    "The model in use was made from tables outside the addresses that this namespace may read (store.prefixes). "
    "Ask the administrator to extend them, or watch another channel."
)
_NO_MODEL: Final = (
    "No model was promoted to channel {name}. Promote one: mlho promote RUN --channel {name} --why TEXT."
)


@dataclass(frozen=True)
class _Verified:
    """A channel with a complete log, and the contents of the store at that time."""

    channel: Channel
    keys: tuple[str, ...]
    at: float


class ChannelReporter:
    """Writes the status of all ``ModelChannel`` resources at an interval, in its own thread.

    Parameters
    ----------
    backend : Backend
        Gives the store, and the tables of a run.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: ClusterConfig,
        backend: Backend,
        *,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._backend = backend
        self._now = now
        self._verified: dict[str, _Verified] = {}
        self._last_error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._report_for_ever, name="channels", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write no further status. A blocked request ends by its timeout."""
        self._stop.set()

    def _report_for_ever(self) -> None:
        while not self._stop.is_set():
            try:
                self.report()
                self._last_error = ""
            except ClusterError as error:  # such as a missing CRD or RBAC rule
                self._note(error)
            except Exception as error:
                log.exception("channels_not_reported", error_kind=type(error).__name__)
            self._stop.wait(INTERVAL_SECONDS)

    def _note(self, error: ClusterError) -> None:
        """Log an error once, and not at each interval."""
        if str(error) != self._last_error:
            log.warning("channels_not_reported", **error_fields(error))
        self._last_error = str(error)

    def report(self) -> None:
        """Bring the status of each resource up to date, once. A namespace that cannot be read does not affect the others."""
        errors = []
        for namespace in self._config.watch_namespaces:
            try:
                self._report_namespace(namespace)
            except ClusterError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _report_namespace(self, namespace: str) -> None:
        for obj in self._cluster.list(Kind.MODEL_CHANNEL, namespace).items:
            if not self._stop.is_set() and not obj["metadata"].get("deletionTimestamp"):
                self._report_one(obj)

    def _report_one(self, obj: dict[str, Any]) -> None:
        before = obj.get("status") or {}
        status = self._status(obj, before).plain()
        if status == before:
            return
        try:
            self._cluster.apply(Kind.MODEL_CHANNEL, status_body(obj, status), part="status")
        except (Conflict, NotFound):
            return  # deleted or replaced meanwhile: the next pass sees it

    def _status(self, obj: dict[str, Any], before: dict[str, Any]) -> ChannelStatus:
        """Return the new status of a resource, given its current one."""
        is_temporary = False
        try:
            status, reason, message = self._read(_channel_of(obj), obj["metadata"]["namespace"])
        except MlhoError as error:
            reason, message = reason_of(error), str(error)
            is_temporary = reason in STORE_REASONS
            status = parsed_status(ChannelStatus, before) if is_temporary else ChannelStatus()
        return with_condition(
            status,
            before,
            is_ready=None if is_temporary else reason == LIVE,
            reason=reason,
            message=message,
            generation=obj["metadata"].get("generation", 0),
            now=self._now(),
        )

    def _read(self, name: str, namespace: str) -> tuple[ChannelStatus, str, str]:
        """Return the status of a channel for a namespace, and the reason and message of its condition."""
        store = self._backend.store()
        head = self._channel(store, name).head
        allowed = prefixes_of(namespace, self._config.prefixes)
        if head is not None and not self._may_see(CHANNEL_BUNDLE + name, allowed):
            return ChannelStatus(), "ForeignAddress", _FOREIGN
        refusal = last_refusal(store, name)
        if refusal is not None and not self._may_see(refusal.run, allowed):
            refusal = None
        status = ChannelStatus() if head is None else shown_entry(head)
        status = status.model_copy(update={"refusal": shown_refusal(refusal, head)})
        return (status, NO_MODEL, _NO_MODEL.format(name=name)) if head is None else (status, LIVE, "")

    def _may_see(self, run: str, allowed: Sequence[str] | None) -> bool:
        """Return whether a namespace may read the tables of a run, given as in :meth:`Backend.data_of`."""
        return allowed is None or may_read(self._backend.data_of(run), allowed)

    def _channel(self, store: Store, name: str) -> Channel:
        """Return a channel. The whole log is read again if entries were added or removed, and from time to time."""
        keys, now = tuple(store.keys(channel_prefix(name))), time.monotonic()
        verified = self._verified.get(name)
        if verified is not None and verified.keys == keys and now - verified.at < _VERIFY_SECONDS:
            return verified.channel
        self._verified.pop(name, None)
        channel = read_channel(store, name)
        self._verified[name] = _Verified(channel, keys, now)
        return channel


def _channel_of(obj: dict[str, Any]) -> str:
    try:
        return ModelChannelSpec.model_validate(obj["spec"]).channel or str(obj["metadata"]["name"])
    except ValidationError as error:  # the schema of an older CRD accepted it
        raise SpecError(
            f"spec: {error.errors(include_input=False)[0]['msg']}. Apply a corrected one."
        ) from None
