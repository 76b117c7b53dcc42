"""Classification of object storage faults: which ones are transient, and the remedy for the others. Pure functions."""

from dataclasses import dataclass
from typing import Final

from mlho.errors import MlhoError, SpecError, StoreAccessDenied, StoreOutage

_GONE: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_REFUSED_CONDITION: Final = frozenset({"PreconditionFailed", "412"})
_ARCHIVED: Final = "InvalidObjectState"
_KMS: Final = "KMS."
_WRONG_CLOCK: Final = "RequestTimeTooSkewed"
_BUSY: Final = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        _WRONG_CLOCK,  # the clock of a laptop that wakes up is corrected within the deadline, or not at all
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_WRONG_CREDENTIALS: Final = frozenset(
    {
        "400",  # the reply of AWS to HEAD, which has no body, for an expired token or a wrong region
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "InvalidTokenId",  # MinIO
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_NO_BUCKET: Final = frozenset(
    {"301", "307", "IllegalLocationConstraintException", "NoSuchBucket", "PermanentRedirect"}
)
_FULL: Final = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"})


@dataclass(frozen=True)
class Fault:
    """A failed request, without any text from the server about the content."""

    code: str
    """The server's code (``NoSuchKey``), the HTTP status (``404``) if it sent no code, or the name of the client's error."""
    status: int
    """HTTP status; 0 without a response."""

    @property
    def is_missing(self) -> bool:
        """Whether the key does not exist (in an existing bucket, as far as the server reports)."""
        return self.code in _GONE

    @property
    def is_condition(self) -> bool:
        """Whether the condition of the request does not hold."""
        return self.code in _REFUSED_CONDITION or self.status == 412

    @property
    def is_conflict(self) -> bool:
        """Whether another write was in progress. The uploaded parts are lost; start again."""
        return self.status == 409 and self.code in ("ConditionalRequestConflict", "OperationAborted")

    @property
    def is_lost_upload(self) -> bool:
        """Whether a multipart upload no longer exists: completed by a request whose reply was lost, or aborted."""
        return self.code == "NoSuchUpload"

    @property
    def is_passing(self) -> bool:
        """Whether a retry helps: no answer, an overload, or a conflict."""
        if self.code in _FULL or self.status in (501, 507):
            return False
        return self.status == 0 or self.status in (408, 429) or self.status >= 500 or self.code in _BUSY

    @property
    def is_denied(self) -> bool:
        """Whether the credentials are refused, or have no access to the bucket."""
        is_refused = self.code in _WRONG_CREDENTIALS | _NO_BUCKET or self.status in (401, 403)
        return is_refused and not self.is_passing and self.code not in _FULL


def as_error(fault: Fault, *, where: str, endpoint: str, action: str) -> MlhoError:
    """Return the error to raise for a fault, with its remedy.

    Parameters
    ----------
    endpoint : str
        Address of the server, as the user gave it.
    action : str
        Operation: ``read``, ``write``, ``list`` or ``delete``.
    """
    if fault.code == _WRONG_CLOCK:
        return StoreOutage(
            f"{where}: the clock of this machine differs from that of {endpoint} by more than it accepts ({fault.code}). Set the "
            "clock, then run the same command again."
        )
    if fault.is_passing:
        return StoreOutage(
            f"{where}: {endpoint} did not {action} in time ({fault.code}). Check that it runs and that MLHO_S3_ENDPOINT (chart: "
            "store.endpoint) is right (http:// for a server without TLS), then run the same command again."
        )
    if fault.code in _WRONG_CREDENTIALS:
        return StoreAccessDenied(
            f"{where}: {endpoint} does not accept the credentials ({fault.code}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to those of this server, and MLHO_S3_REGION to its region (chart: the Secret of "
            "store.existingSecret, and store.region). A started program reads replaced credential files, but not changed variables: "
            "for these, stop it and run the same command again."
        )
    if fault.code in _FULL:
        return StoreOutage(
            f"{where}: the storage is full ({fault.code}). Free some space and run the same command again."
        )
    if fault.code == _ARCHIVED:
        return StoreAccessDenied(
            f"{where}: an object is archived and cannot be read at once ({fault.code}). Restore it, or move it to a storage class such as "
            "STANDARD, then run the same command again."
        )
    if fault.code.startswith(_KMS):
        return StoreAccessDenied(
            f"{where}: {endpoint} cannot use the encryption key ({fault.code}). Enable the key, allow these credentials to use it, or "
            "correct MLHO_S3_SSE_KMS_KEY (chart: store.kmsKey)."
        )
    if fault.is_denied:
        # One text without the server's code, which must not reveal to clients without access whether a bucket exists.
        return StoreAccessDenied(
            f"{where}: no such bucket, or access denied to {action}. Correct the address, set MLHO_S3_REGION (chart: store.region) to the bucket's "
            "region, or grant s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on "
            "the keys under the prefix, to these credentials."
        )
    if fault.status == 501 and action == "write":
        return SpecError(
            f"{where}: {endpoint} does not support a required request ({fault.code}). If it has no conditional writes, set "
            "MLHO_S3_CONDITIONAL=compat for the command and its workers: then only the scheduler commits."
        )
    return SpecError(
        f"{where}: {endpoint} refused to {action} ({fault.code}, status {fault.status}). If it is not an AWS server, try "
        "MLHO_S3_ADDRESSING=path and MLHO_S3_CHECKSUMS=when_required (chart: store.addressing, store.checksums)."
    )


def no_credentials(where: str) -> StoreAccessDenied:
    """Return the error for a process that has no credentials or cannot renew them."""
    return StoreAccessDenied(
        f"{where}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the "
        "machine or pod a role (chart: store.existingSecret, or annotations of the service accounts)."
    )


def redirected(where: str, endpoint: str) -> StoreAccessDenied:
    """Return the error for a server that redirects each request."""
    return StoreAccessDenied(
        f"{where}: {endpoint} redirects each request to another address. Set MLHO_S3_ENDPOINT (chart: store.endpoint) to that address, often "
        "the same with https://, and MLHO_S3_REGION to the bucket's region."
    )


def incomplete(where: str, endpoint: str, name: str) -> SpecError:
    """Return the error for an answer with status 200 that lacks a field of every S3 answer, such as the ETag."""
    return SpecError(
        f"{where}: {endpoint} does not answer as object storage does (without {name}). Set MLHO_S3_ENDPOINT (chart: store.endpoint) to the "
        "address of the S3 API, not to that of a web console, and check that no proxy answers in its place (NO_PROXY)."
    )
