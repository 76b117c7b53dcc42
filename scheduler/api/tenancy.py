"""Restrict the addresses that runs may read, where several namespaces share a release."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from mlho.errors import SpecError
from mlho.spec.data import EarlierRun
from mlho.spec.scoring import CHANNEL_BUNDLE, RUN_BUNDLE, BundleSource, ScoringRunSpec
from mlho.spec.training import RunSpec


class ForeignAddress(SpecError):  # noqa: N818 - states the condition
    """A run reads an address outside the prefixes of its namespace: use an address below one of them."""


def prefixes_of(namespace: str, prefixes: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """Return the prefixes that a namespace's runs may read: ``None`` for no restriction, empty for a namespace without an entry."""
    return tuple(prefixes.get(namespace, ())) if prefixes else None


def check_addresses(
    spec: RunSpec | ScoringRunSpec, allowed: Sequence[str] | None, data_of: Callable[[str], str | None]
) -> None:
    """Raise if the tables, the bundle or the earlier run of a run are outside the allowed prefixes.

    The message lists the allowed prefixes. It is the same whether or not the run exists.

    Parameters
    ----------
    allowed : sequence of str or None
        ``None`` for no restriction.
    data_of : callable
        Returns the location of a run's tables by the run's id, or by the address of a channel that shows its model; ``None``
        if it is unknown.
    """
    if allowed is None:
        return
    foreign = [address for address in _addresses(spec, data_of) if not may_read(address[1], allowed)]
    if foreign:
        prefixes = ", ".join(allowed) or "none"
        raise ForeignAddress(
            f"{foreign[0][0]}: outside the addresses that runs in this namespace may read: {prefixes}. Use an address below "
            "one of these, or ask the administrator to extend store.prefixes."
        )


def _addresses(
    spec: RunSpec | ScoringRunSpec, data_of: Callable[[str], str | None]
) -> Iterable[tuple[str, str | None]]:
    yield "data.uri", spec.spec.data.uri
    for field, source in _sources(spec).items():
        in_store = source.uri.startswith((RUN_BUNDLE, CHANNEL_BUNDLE))
        address = data_of(source.uri.removeprefix(RUN_BUNDLE)) if in_store else source.uri
        yield f"{field}.uri", address


def _sources(spec: RunSpec | ScoringRunSpec) -> dict[str, BundleSource | EarlierRun]:
    """Return the bundles and the earlier run that a run reads, by field."""
    other = spec.spec.compare_with
    compared: dict[str, BundleSource | EarlierRun] = {} if other is None else {"compareWith": other}
    if isinstance(spec, ScoringRunSpec):
        return {"bundle": spec.spec.bundle, **compared}
    recalibrate = spec.spec.recalibrate
    return compared if recalibrate is None else {"recalibrate.bundle": recalibrate.bundle, **compared}


def may_read(address: str | None, allowed: Sequence[str] | None) -> bool:
    """Return whether an address is below one of the allowed prefixes. An unknown address is allowed only without a restriction."""
    return allowed is None or (address is not None and _is_below(address, allowed))


def _is_below(address: str, allowed: Iterable[str]) -> bool:
    """Return whether an address is a prefix or below one. Only whole path segments match.

    Examples
    --------
    >>> _is_below("s3://ehr/ward/a", ["s3://ehr/ward"]), _is_below("s3://ehr/wards", ["s3://ehr/ward"])
    (True, False)
    """
    if ".." in address.split("/"):
        return False
    return any(f"{address.rstrip('/')}/".startswith(f"{prefix.rstrip('/')}/") for prefix in allowed)
