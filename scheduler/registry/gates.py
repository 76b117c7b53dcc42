"""Gates at a promotion: those already evaluated in the result of the run, and those against the model in use."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mlho.errors import MlhoError, StoreUnavailable
from mlho.spec.gates import METRIC_KEYS, Gate
from mlho.store.base import Store
from scheduler.runs.channels import GateRecord, read_channel
from scheduler.runs.stored import StoredRun, read_document

if TYPE_CHECKING:
    from mlho.report.changes import PairedChange
    from mlho.report.parts import Estimate

#: Compares two runs (id and name), the champion's first, on the samples that both tested.
Comparer = Callable[[tuple[str, str], tuple[str, str]], "PairedChange"]
_DIGITS: Final = 3


class GateFailed(MlhoError):  # noqa: N818 - reads as the state
    """The model misses a gate of its specification: promote another one, or override the gate with a reason."""


def checked_gates(
    store: Store, run: StoredRun, *, force: bool, compare: Comparer | None
) -> tuple[GateRecord, ...]:
    """Return the gates of a run with their results.

    Raise GateFailed if a gate failed and is not overridden.

    Parameters
    ----------
    run : StoredRun
        A finished training run.
    compare : callable, optional
        Compares the run with that of a champion; without it a gate against a champion fails.
    """
    assert run.result is not None
    gates = read_document(store, run.run_id, run.result).get("gates") or ()
    records = tuple(_record(store, run, gate, compare) for gate in gates)
    failed = [f"{record.gate}: {record.detail}" for record in records if not record.passed]
    if failed and not force:
        raise GateFailed(
            f"run {run.run_id} ({run.name}): gates {len(failed)} of {len(records)} failed: {'; '.join(failed)}. The channel was not changed. "
            "Promote another run, or override the gates with --force and a reason that the log keeps."
        )
    return records


def _record(store: Store, run: StoredRun, gate: Mapping[str, Any], compare: Comparer | None) -> GateRecord:
    if gate["passed"] is not None:
        return GateRecord(gate=gate["words"], passed=gate["passed"], detail=gate["detail"])
    passed, detail = _against_champion(store, run, Gate.model_validate(gate["gate"]), compare)
    return GateRecord(gate=gate["words"], passed=passed, detail=detail)


def _against_champion(store: Store, run: StoredRun, gate: Gate, compare: Comparer | None) -> tuple[bool, str]:
    """Evaluate a gate against the model that a channel shows now."""
    assert gate.champion is not None
    champion = read_channel(store, gate.champion).head
    if champion is None:
        return True, f"channel {gate.champion} shows no model"
    if champion.run == run.run_id:
        return True, f"channel {gate.champion} shows this model"
    if compare is None:
        return False, "runs cannot be compared here"
    try:
        change = compare((champion.run, champion.model), (run.run_id, run.name))
    except StoreUnavailable:
        raise
    except MlhoError as error:  # such as missing artifacts of the champion
        return False, f"no comparison with {champion.model} ({champion.run}): {error}"
    against = f"against {champion.model} ({champion.run}), entry {champion.number}"
    if change.reason is not None:
        return False, f"{change.reason}; {against}"
    figure = change.differences[METRIC_KEYS[gate.metric]]
    failures = list(_violations(gate, figure))
    return (
        not failures,
        f"{failures[0] if failures else _in_words(figure)} on {change.n_samples:,} samples {against}",
    )


def _violations(gate: Gate, figure: "Estimate") -> Iterator[str]:
    for part, low, high in gate.bounds():
        value = {"mean": figure.value, "low": figure.low, "high": figure.high}[part]
        if value is None:
            yield figure.reason or "there is no interval"
        elif (low is not None and value < low) or (high is not None and value > high):
            yield _in_words(figure)


def _in_words(figure: "Estimate") -> str:
    ends = (
        f" ({figure.low:+.{_DIGITS}f} to {figure.high:+.{_DIGITS}f})"
        if figure.low is not None and figure.high is not None
        else ""
    )
    return "no value" if figure.value is None else f"{figure.value:+.{_DIGITS}f}{ends}"
