"""What a leading scheduler of a cluster tells Prometheus: a few series, whatever the number of runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from scheduler.conditions import ConditionType

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
SERIES: Final[Mapping[str, tuple[str, str]]] = {
    "mlho_scheduler_leader": (GAUGE, "1 for the replica that leads"),
    "mlho_scheduler_runs": (GAUGE, "Runs in the cluster, by phase"),
    "mlho_scheduler_runs_degraded": (GAUGE, "Runs that go on though something is wrong"),
    "mlho_scheduler_driven": (GAUGE, "Runs that are carried out now"),
    "mlho_scheduler_status_writes_total": (COUNTER, "Writes of a run's status"),
    "mlho_scheduler_worker_jobs_total": (COUNTER, "Kubernetes Jobs of workers that were made"),
    "mlho_scheduler_events_total": (COUNTER, "Events that were told"),
    "mlho_scheduler_looks_total": (COUNTER, "Looks at a run"),
    "mlho_scheduler_api_errors_total": (COUNTER, "Looks that the Kubernetes API made fail"),
    "mlho_scheduler_errors_total": (COUNTER, "Looks that failed for another reason: a defect of ours"),
}


def run_figures(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """How many runs there are in each phase, and how many are degraded, from the resources as they are."""
    statuses = [own.get("status") or {} for own in runs]
    phases = Counter(own.get("phase", "Pending") for own in statuses)
    return {
        **{f'mlho_scheduler_runs{{phase="{phase}"}}': n for phase, n in sorted(phases.items())},
        "mlho_scheduler_runs_degraded": sum(map(_is_degraded, statuses)),
    }


def _is_degraded(status: Mapping[str, Any]) -> bool:
    return any(
        own["type"] == ConditionType.DEGRADED and own["status"] == "True"
        for own in status.get("conditions", ())
    )


def exposition(figures: Mapping[str, float]) -> str:
    """The page that Prometheus reads; figures of one name must stand together."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, series in groupby(figures, key=lambda own: own.partition("{")[0]):
        kind, words = SERIES[name]
        yield f"# HELP {name} {words}"
        yield f"# TYPE {name} {kind}"
        yield from (f"{own} {figures[own]:.17g}" for own in series)
