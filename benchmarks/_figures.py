"""Print one aligned line per figure, and measure the time and the extra memory of a call."""

import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def show(name: str, ours: float, limit: float, unit: str, *, source: str = "limit") -> bool:
    """Print our figure, the rival's figure or the limit, and their ratio. Return whether ours is no larger."""
    is_ok = ours <= limit
    ratio = limit / ours if ours else float("inf")
    print(
        f"{name:<58} ours {ours:>9.3f} {unit:<3} {source:<44} {limit:>9.3f} {unit:<3} "
        f"{ratio:>8.1f}× {'ok' if is_ok else 'MISSED'}"
    )
    return is_ok


def best_seconds(call: Callable[[], object], *, n_times: int = 3) -> float:
    """Return the shortest wall time of ``n_times`` calls."""
    seconds = []
    for _ in range(n_times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_extra_mb(call: Callable[[], object]) -> float:
    """Return how far resident memory rose above its level before ``call``, in MB (sampled every 2 ms)."""
    if not Path("/proc/self/statm").exists():
        before = _peak_mb()
        call()
        return _peak_mb() - before
    before = _resident_mb()
    with _watch() as seen:
        call()
    return max(seen) - before


@contextmanager
def _watch() -> Iterator[list[float]]:
    seen, is_over = [_resident_mb()], threading.Event()

    def look() -> None:
        while not is_over.wait(0.002):
            seen.append(_resident_mb())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()
        seen.append(_resident_mb())


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
