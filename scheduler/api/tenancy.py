"""What the runs of a namespace may read, where several namespaces share a release: addresses below its prefixes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from mlho.errors import SpecError
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec

_RUN: Final = "run:"


class ForeignAddress(SpecError):  # noqa: N818 - says what is the case
    """A run asks for what another namespace's runs may read: name an address below one of its own prefixes."""


def prefixes_of(namespace: str, prefixes: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """Prefixes that a namespace's runs may read; ``None`` without limits, and none for a namespace that has no entry."""
    return tuple(prefixes.get(namespace, ())) if prefixes else None


def check_addresses(
    spec: RunSpec | ScoringRunSpec, allowed: Sequence[str] | None, data_of: Callable[[str], str | None]
) -> None:
    """Refuse a run that reads what is not below the allowed prefixes: its tables, its bundle, or a run of others.

    Parameters
    ----------
    spec : RunSpec or ScoringRunSpec
    allowed : sequence of str or None
        ``None`` for no limits.
    data_of : callable
        Where the tables of a run are, by the run's id; ``None`` if that is not known.

    Raises
    ------
    ForeignAddress
        With what is allowed, and the same words whether there is such a run or not.
    """
    if allowed is None:
        return
    foreign = [own for own in _addresses(spec, data_of) if own[1] is None or not _is_below(own[1], allowed)]
    if foreign:
        raise ForeignAddress(
            f"{foreign[0][0]}: runs in this namespace may use what is below {', '.join(allowed) or 'no address'}, and this is "
            "not. Name an address below it, or ask whoever runs the installation (store.prefixes)."
        )


def _addresses(
    spec: RunSpec | ScoringRunSpec, data_of: Callable[[str], str | None]
) -> Iterable[tuple[str, str | None]]:
    yield "data.uri", spec.spec.data.uri
    if isinstance(spec, ScoringRunSpec):
        bundle = spec.spec.bundle.uri
        yield "bundle.uri", data_of(bundle.removeprefix(_RUN)) if bundle.startswith(_RUN) else bundle


def _is_below(address: str, allowed: Iterable[str]) -> bool:
    """Whether an address is a prefix or below one; whole parts of the path count.

    Examples
    --------
    >>> _is_below("s3://ehr/ward/a", ["s3://ehr/ward"]), _is_below("s3://ehr/wards", ["s3://ehr/ward"])
    (True, False)
    """
    if ".." in address.split("/"):
        return False
    return any(f"{address.rstrip('/')}/".startswith(f"{own.rstrip('/')}/") for own in allowed)
