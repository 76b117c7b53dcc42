"""Object storage settings, read from the environment once, at the edge, and passed on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mlho.errors import SpecError

SCHEME: Final = "s3://"
# A smaller file is sent by one PUT. A larger one is sent in parts, so that a broken connection costs one part, not the whole
# file.
MULTIPART_BYTES: Final = 64 << 20
_ADDRESSING: Final = ("auto", "path", "virtual")
_CHECKSUMS: Final = ("when_required", "when_supported")
CONDITIONAL: Final = "MLHO_S3_CONDITIONAL"
STRICT: Final = "strict"
COMPAT: Final = "compat"


@dataclass(frozen=True)
class S3Settings:
    """Address and options of object storage. Credentials come from the AWS credential chain and are not kept here."""

    endpoint: str | None = None
    """``MLHO_S3_ENDPOINT``: address of a server that is not AWS, such as ``https://minio.hospital.example``."""
    region: str | None = None
    """``MLHO_S3_REGION``; else from the AWS variables and files; else ``us-east-1``."""
    addressing: str = "auto"
    """``MLHO_S3_ADDRESSING``: ``path`` (bucket in the path, most self-hosted servers), ``virtual`` (bucket in the host name), or
    ``auto``."""
    ca_bundle: str | None = None
    """``MLHO_S3_CA_BUNDLE``: file of trusted certificates, for a server with a certificate of an internal authority."""
    checksums: str = "when_required"
    """``MLHO_S3_CHECKSUMS``: ``when_required`` (default) or ``when_supported``. Servers other than AWS often refuse the checksums
    that boto3 has added since 1.36. Our own SHA-256 is verified on every read either way."""
    conditional: str = STRICT
    """``MLHO_S3_CONDITIONAL``: ``strict`` (default), or ``compat`` for a server without conditional writes: no conditional request is sent,
    and only the scheduler commits."""
    sse_kms_key: str | None = None
    """``MLHO_S3_SSE_KMS_KEY``: AWS KMS key that encrypts our objects."""
    connect_timeout_seconds: float = 3.0
    read_timeout_seconds: float = 30.0
    """``MLHO_S3_CONNECT_TIMEOUT`` (3) and ``MLHO_S3_READ_TIMEOUT`` (30): per request."""
    deadline_seconds: float = 120.0
    """``MLHO_S3_DEADLINE`` (120): time after which an operation is not retried."""
    max_attempts: int = 3
    """Attempts per request inside boto3, with waits of up to 20 seconds. Our own retries follow, with shorter waits, until the deadline."""
    max_connections: int = 16
    """Connections kept open by a process."""
    multipart_bytes: int = MULTIPART_BYTES
    """File size from which a file is uploaded in parts."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Read the variables named above; an empty one counts as unset.

        Raise SpecError if a value is invalid.
        """
        endpoint = env.get("MLHO_S3_ENDPOINT") or None
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise SpecError(
                f"MLHO_S3_ENDPOINT {endpoint!r}: give an address that begins with http:// or https://."
            )
        return cls(
            endpoint=endpoint,
            region=env.get("MLHO_S3_REGION") or None,
            addressing=_one_of(env, "MLHO_S3_ADDRESSING", _ADDRESSING, "auto"),
            ca_bundle=_file(env, "MLHO_S3_CA_BUNDLE"),
            checksums=_one_of(env, "MLHO_S3_CHECKSUMS", _CHECKSUMS, "when_required"),
            conditional=_one_of(env, CONDITIONAL, (STRICT, COMPAT), STRICT),
            sse_kms_key=env.get("MLHO_S3_SSE_KMS_KEY") or None,
            connect_timeout_seconds=_seconds(env, "MLHO_S3_CONNECT_TIMEOUT", 3.0),
            read_timeout_seconds=_seconds(env, "MLHO_S3_READ_TIMEOUT", 30.0),
            deadline_seconds=_seconds(env, "MLHO_S3_DEADLINE", 120.0),
        )


def split_address(address: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into bucket and prefix; the prefix is empty or ends with ``/``.

    Raise SpecError if the bucket is missing.
    """
    bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise SpecError(f"{address!r}: give the bucket, such as s3://my-bucket/mlho.")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""


def _one_of(env: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = env.get(name) or default
    if value not in allowed:
        raise SpecError(f"{name} {value!r}: must be one of {', '.join(allowed)}.")
    return value


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 86_400:
        raise SpecError(f"{name} {text!r}: must be a number of seconds above 0.")
    return value


def _file(env: Mapping[str, str], name: str) -> str | None:
    path = env.get(name) or None
    if path and not Path(path).is_file():
        raise SpecError(f"{name} {path!r}: there is no such file. Give the file of the certificates.")
    return path
