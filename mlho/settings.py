"""Process settings, read from the environment once, at the edge."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from mlho.errors import SpecError

MIN_KEY_BYTES: Final = 16
BROKER: Final = "MLHO_BROKER"
SIGNING_KEY: Final = "MLHO_SIGNING_KEY"
STORE: Final = "MLHO_STORE"
REDIS_CA: Final = "MLHO_REDIS_CA"
SOFT_LIMIT: Final = "MLHO_SOFT_LIMIT"
HARD_LIMIT: Final = "MLHO_HARD_LIMIT"
STORE_PATIENCE: Final = "MLHO_STORE_PATIENCE"
IMAGE: Final = "MLHO_IMAGE"  # the image of a worker's container, for the lineage
STORE_PATIENCE_SECONDS: Final = 86_400.0


@dataclass(frozen=True)
class Settings:
    """Settings from the environment. Secrets are never taken from the command line, which other users can read."""

    broker: str | None = field(default=None, repr=False)
    """``MLHO_BROKER``: address of Redis, with its password."""
    signing_key: bytes | None = field(default=None, repr=False)
    """``MLHO_SIGNING_KEY``: key with which scheduler and workers sign messages."""
    store: str | None = None
    """``MLHO_STORE``: address of the artifact store."""
    soft_limit: float | None = None
    """``MLHO_SOFT_LIMIT``: seconds after which a worker requests a task to stop."""
    hard_limit: float | None = None
    """``MLHO_HARD_LIMIT``: seconds after which a worker kills the task."""
    store_patience: float = STORE_PATIENCE_SECONDS
    """``MLHO_STORE_PATIENCE``: seconds for which a run in progress waits for object storage."""

    redis_ca: str | None = None
    """``MLHO_REDIS_CA``: file of trusted certificates for a broker with TLS."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the environment.

        Raises
        ------
        SpecError
            The signing key is too short, or a limit is not a positive number.
        """
        values = os.environ if environment is None else environment
        key = values.get(SIGNING_KEY, "").encode()
        if key and len(key) < MIN_KEY_BYTES:
            raise SpecError(f"{SIGNING_KEY}: shorter than {MIN_KEY_BYTES} bytes. {_HOW}")
        return cls(
            values.get(BROKER) or None,
            key or None,
            values.get(STORE) or None,
            _seconds(values, SOFT_LIMIT),
            _seconds(values, HARD_LIMIT),
            store_patience(values),
            redis_ca=values.get(REDIS_CA) or None,
        )

    def broker_at(self, address: str | None) -> str | None:
        """Return the broker at an address (default: that of the environment). Use the environment's password if the addresses match.

        Raises
        ------
        SpecError
            The addresses differ, and only that of the environment has a password, which would not be used.

        Examples
        --------
        >>> Settings(broker="redis://:secret@queue:6379/0").broker_at("redis://queue:6379/0")
        'redis://:secret@queue:6379/0'
        >>> Settings(broker="rediss://:secret@queue:6379/0", redis_ca="/ca.crt").broker_at(None)
        'rediss://:secret@queue:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.crt'
        """
        known = without_password(self.broker or "")
        if address is None or address in (known, trusting(known, self.redis_ca or "")):
            address = self.broker
        elif "://" in address and without_password(address) == address and self.has_password:
            raise SpecError(
                f"--broker {address}: {BROKER} has a password, and is for another address, {known}. Write this address, "
                f"or unset {BROKER} for a Redis without a password."
            )
        return trusting(address, self.redis_ca) if address is not None and self.redis_ca else address

    @property
    def has_password(self) -> bool:
        """Return whether the broker of the environment has a password."""
        return self.broker is not None and without_password(self.broker) != self.broker

    def require_signing_key(self) -> bytes:
        """Return the signing key. Raise ``SpecError`` with instructions if it is not set."""
        if self.signing_key is None:
            raise SpecError(
                f"{SIGNING_KEY}: not set. Scheduler and workers sign their messages with it. {_HOW}"
            )
        return self.signing_key


def store_patience(environment: Mapping[str, str] | None = None) -> float:
    """Return the seconds for which a run in progress waits for object storage.

    Raises
    ------
    SpecError
        ``MLHO_STORE_PATIENCE`` is not a positive number.
    """
    values = os.environ if environment is None else environment
    return _seconds(values, STORE_PATIENCE) or STORE_PATIENCE_SECONDS


def trusting(address: str, ca_file: str) -> str:
    """Add the CA file to the address of a broker with TLS, unless it names one already; return other addresses unchanged."""
    parts = urlsplit(address)
    if parts.scheme != "rediss" or "ssl_ca_certs=" in parts.query:
        return address
    query = [parts.query] if parts.query else []
    if "ssl_cert_reqs=" not in parts.query:
        query.append("ssl_cert_reqs=required")
    return urlunsplit(parts._replace(query="&".join([*query, f"ssl_ca_certs={ca_file}"])))


def _seconds(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SpecError(
            f"{name}: {text[:32]!r} is not a positive number of seconds. Write {name}=21600, say."
        )
    return seconds


def without_password(address: str) -> str:
    """Return an address without user and password, for display.

    Examples
    --------
    >>> without_password("redis://:secret@queue:6379/0")
    'redis://queue:6379/0'
    """
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


_HOW: Final = f"Create one: export {SIGNING_KEY}=$(python -c 'import secrets; print(secrets.token_hex(32))')"
