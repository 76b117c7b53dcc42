"""How to reach object storage: read from the environment once, at the edge, and passed on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mlho.errors import SpecError

SCHEME: Final = "s3://"
# Below it one PUT; from it on parts, so that a broken connection costs a part and not the file.
MULTIPART_BYTES: Final = 64 << 20
_ADDRESSING: Final = ("auto", "path", "virtual")
_CHECKSUMS: Final = ("when_required", "when_supported")
CONDITIONAL: Final = "MLHO_S3_CONDITIONAL"
STRICT: Final = "strict"
COMPAT: Final = "compat"


@dataclass(frozen=True)
class S3Settings:
    """Where object storage is and how to talk to it; credentials come from the usual chain of AWS and are not here.

    Attributes
    ----------
    endpoint : str or None
        ``MLHO_S3_ENDPOINT``: address of a server that is not AWS, such as ``https://minio.hospital.example``.
    region : str or None
        ``MLHO_S3_REGION``, else what the AWS variables and files say, else ``us-east-1``.
    addressing : str
        ``MLHO_S3_ADDRESSING``: ``path`` (bucket in the path, most own servers), ``virtual`` (bucket in the host name),
        or ``auto``.
    ca_bundle : str or None
        ``MLHO_S3_CA_BUNDLE``: file of the certificates to trust, for a server with one of the house.
    checksums : str
        ``MLHO_S3_CHECKSUMS``: ``when_required`` (default) or ``when_supported``. Servers other than AWS often refuse
        the checksums that boto3 adds since 1.36; our own SHA-256 is verified on every read either way.
    conditional : str
        ``MLHO_S3_CONDITIONAL``: ``strict`` (default), or ``compat`` for a server without conditional writes: nothing
        conditional is asked of it, and only the scheduler commits.
    sse_kms_key : str or None
        ``MLHO_S3_SSE_KMS_KEY``: key that AWS KMS is to encrypt what we write with.
    connect_timeout_seconds, read_timeout_seconds : float
        ``MLHO_S3_CONNECT_TIMEOUT`` (3) and ``MLHO_S3_READ_TIMEOUT`` (30): of one request.
    deadline_seconds : float
        ``MLHO_S3_DEADLINE`` (120): after it an operation is not tried again.
    max_attempts : int
        Of one request inside boto3, whose waits grow to 20 seconds; then ours, with shorter ones, until the deadline.
    max_connections : int
        Kept open by a process.
    multipart_bytes : int
        From this size on a file is written in parts.
    """

    endpoint: str | None = None
    region: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    checksums: str = "when_required"
    conditional: str = STRICT
    sse_kms_key: str | None = None
    connect_timeout_seconds: float = 3.0
    read_timeout_seconds: float = 30.0
    deadline_seconds: float = 120.0
    max_attempts: int = 3
    max_connections: int = 16
    multipart_bytes: int = MULTIPART_BYTES

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """Read the variables named above; an empty one counts as absent.

        Raises
        ------
        SpecError
            A value is none of those allowed.
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
    """Bucket and prefix of ``s3://bucket/prefix``; the prefix is empty or ends with ``/``.

    Raises
    ------
    SpecError
        There is no bucket.
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
