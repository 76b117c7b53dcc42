"""Outages of the store during a run: the reason, the start, and how long the run waits.

A run accesses its store from several threads and functions. Each reports its result to a :class:`StoreHealth`
under its own name. An outage lasts as long as at least one of them has failed since its last success.
:func:`watching` adds a probe with a short timeout every few seconds, so that an outage is detected quickly
even while other requests are still waiting.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final

from mlho.errors import MlhoError, StoreAccessDenied, StoreOutage
from mlho.log import bind_run, error_fields, log
from mlho.settings import STORE_PATIENCE, STORE_PATIENCE_SECONDS
from mlho.store.base import Store

ACCESS_DENIED: Final = "StoreAccessDenied"  # reasons, as in a resource's status
UNAVAILABLE: Final = "StoreUnavailable"
_BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_LOOK_SECONDS: Final = 3.0  # plus the timeout for a silent server: an outage is detected within 15 seconds
_POLL_SECONDS: Final = 0.5
_WATCH: Final = "watch"
_RUN: Final = "run"


class StoreGivenUp(MlhoError):  # noqa: N818 - names the event, not an error
    """The store was unavailable for longer than a run waits. Restore it and run the same command again."""

    run_state: ClassVar[str] = "stopped"

    def __init__(self, message: str, *, reason: str = UNAVAILABLE) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Outage:
    """A current outage."""

    reason: str
    """``StoreAccessDenied`` or ``StoreUnavailable``."""
    since: float
    """Seconds since 1970."""
    message: str = field(default="", compare=False)

    @property
    def short(self) -> str:
        """Return a description that fits into a progress bar."""
        what = "store refuses access" if self.reason == ACCESS_DENIED else "store unavailable"
        return f"{what} since {datetime.fromtimestamp(self.since, UTC):%H:%M:%S} UTC"

    @property
    def words(self) -> str:
        """Return a full description for the user, with the remedy."""
        return f"{self.short[0].upper()}{self.short[1:]}: {self.message}"


@dataclass
class _Trouble:
    """The failures of one caller since its last success."""

    since: float
    error: StoreOutage
    n_failures: int = 0


class StoreHealth:
    """The combined health of a run's store as seen by all callers. Thread-safe.

    Parameters
    ----------
    patience : float
        Seconds after which an outage ends the run.
    notify : callable
        Prints a sentence for the user of the command when an outage begins and when it ends.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        *,
        patience: float = STORE_PATIENCE_SECONDS,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.patience = patience
        self._notify = notify
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}
        self._outage: Outage | None = None
        self._lock = threading.Lock()

    @property
    def outage(self) -> Outage | None:
        """Return the current outage, if any."""
        return self._outage

    def failed(self, who: str, error: StoreOutage) -> float:
        """Record a failure of a caller. Return the seconds until it should retry."""
        with self._lock:
            trouble = self._troubles.setdefault(who, _Trouble(self._clock(), error))
            trouble.error = error
            pause = _BACKOFF_SECONDS[min(trouble.n_failures, len(_BACKOFF_SECONDS) - 1)]
            trouble.n_failures += 1
            self._update()
        return pause

    def served(self, who: str) -> None:
        """Record a success of a caller."""
        if who in self._troubles:
            with self._lock:
                self._troubles.pop(who, None)
                self._update()

    def only(self, who: str) -> None:
        """Clear the failures of all other callers, which no longer exist."""
        for other in self._troubles.keys() - {who}:
            self.served(other)

    def given_up(self) -> StoreGivenUp | None:
        """Return the error that ends the run if a caller has waited for too long."""
        with self._lock:
            first = min(self._troubles.values(), key=lambda trouble: trouble.since, default=None)
        if first is None or self._clock() - first.since <= self.patience:
            return None
        return given_up(first.error, self.patience)

    def check(self) -> None:
        """Return if the run may continue or keep waiting.

        Raise StoreGivenUp if a caller has waited for too long.
        """
        error = self.given_up()
        if error is not None:
            raise error

    def until_served[T](self, do: Callable[[], T], *, meanwhile: Callable[[], None] = lambda: None) -> T:
        """Retry a call until the store serves it and return its result.

        Call ``meanwhile`` twice a second while waiting. Raise StoreGivenUp if the store did not serve within the patience.
        """
        while True:
            try:
                answer = do()
            except StoreOutage as error:
                ends = self._clock() + self.failed(_RUN, error)
            else:
                self.served(_RUN)
                return answer
            while (left := ends - self._clock()) > 0:
                self.check()
                meanwhile()
                time.sleep(min(_POLL_SECONDS, left))

    def _update(self) -> None:
        """Update the outage. Report when it begins or ends, or when its reason changes."""
        before, troubles = self._outage, list(self._troubles.values())
        if not troubles:
            self._outage = None
            if before is not None:
                self._report_recovery(before)
            return
        errors = [trouble.error for trouble in troubles]
        error = next((error for error in errors if isinstance(error, StoreAccessDenied)), errors[-1])
        reason = ACCESS_DENIED if isinstance(error, StoreAccessDenied) else UNAVAILABLE
        self._outage = Outage(reason, before.since if before else time.time(), str(error))
        if before is None or before.reason != reason:
            log.warning("store_unavailable", error_kind=reason, error=str(error))
            self._notify(
                f"{self._outage.words}\nThe run waits, continues when the store is available again, and gives up after "
                f"{_duration(self.patience)} ({STORE_PATIENCE})."
            )

    def _report_recovery(self, before: Outage) -> None:
        seconds = max(0.0, time.time() - before.since)
        log.warning("store_recovered", seconds=round(seconds, 1))
        self._notify(f"The store is available again, after {_duration(seconds)}. The run continues.")


def given_up(error: StoreOutage, patience: float) -> StoreGivenUp:
    """Return the error of a run that has waited for its store for too long."""
    reason = ACCESS_DENIED if isinstance(error, StoreAccessDenied) else UNAVAILABLE
    return StoreGivenUp(
        f"the store has not served for {_duration(patience)} ({STORE_PATIENCE}), and the run ends. Completed tasks are kept, and the same "
        f"command continues it. Last error: {error}",
        reason=reason,
    )


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


@contextmanager
def watching(store: Store, key: str, health: StoreHealth, *, run: str = "") -> Iterator[None]:
    """Probe a remote store for an object every few seconds while the block runs.

    A block that ends without an error has used the store, which ends an outage that the next probe would have ended.
    """
    if not store.may_be_unavailable:
        yield
        return
    ends = threading.Event()

    def look() -> None:
        bind_run(run)  # for this thread only
        while not ends.wait(_LOOK_SECONDS):
            try:
                store.ping(key)
            except StoreOutage as error:
                if not ends.is_set():
                    health.failed(_WATCH, error)
            except MlhoError:
                continue  # the store answered; callers that need a valid answer report the error themselves
            except Exception as error:  # if this thread ended, its last failure would never be cleared
                log.exception("probe_failed", **error_fields(error))
            else:
                health.served(_WATCH)

    threading.Thread(target=look, name="store-watch", daemon=True).start()
    try:
        yield
        ends.set()
        health.served(_WATCH)
    finally:
        ends.set()
