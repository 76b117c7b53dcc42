"""What object storage's refusals mean: which ones pass by waiting, and what a person does about the others. Pure."""

from dataclasses import dataclass
from typing import Final

from mlho.errors import MlhoError, SpecError, StoreAccessDenied, StoreOutage

_GONE: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_REFUSED_CONDITION: Final = frozenset({"PreconditionFailed", "412"})
_BUSY: Final = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestTimeTooSkewed",  # a laptop that woke up; its clock is set within the deadline, or never
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
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
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
    """A request that failed, without anything that the server said about the content.

    Attributes
    ----------
    code : str
        The server's code (``NoSuchKey``), its status (``404``) where it sent none, or the name of the client's error.
    status : int
        Of HTTP; 0 where no answer came.
    """

    code: str
    status: int

    @property
    def is_missing(self) -> bool:
        """Whether there is no object of this key (and the bucket is there, as far as the server says)."""
        return self.code in _GONE

    @property
    def is_condition(self) -> bool:
        """Whether the object is not as the request's condition says."""
        return self.code in _REFUSED_CONDITION or self.status == 412

    @property
    def is_conflict(self) -> bool:
        """Whether another write was under way at the same time: what was uploaded for it is lost, begin again."""
        return self.status == 409 and self.code in ("ConditionalRequestConflict", "OperationAborted")

    @property
    def is_lost_upload(self) -> bool:
        """Whether an upload in parts is not there any more: completed by a lost reply's request, or aborted."""
        return self.code == "NoSuchUpload"

    @property
    def is_passing(self) -> bool:
        """Whether waiting helps: no answer, an overload, or a conflict."""
        if self.code in _FULL or self.status in (501, 507):
            return False
        return self.status == 0 or self.status in (408, 429) or self.status >= 500 or self.code in _BUSY

    @property
    def is_denied(self) -> bool:
        """Whether the credentials are refused, or the bucket to them."""
        is_refused = self.code in _WRONG_CREDENTIALS | _NO_BUCKET or self.status in (401, 403)
        return is_refused and not self.is_passing and self.code not in _FULL


def as_error(fault: Fault, *, where: str, endpoint: str, doing: str) -> MlhoError:
    """The error to raise for a fault, with what to do next.

    Parameters
    ----------
    fault : Fault
    where : str
        Address of the bucket and prefix.
    endpoint : str
        Address of the server, as the user gave it.
    doing : str
        What was tried: ``read``, ``write``, ``list`` or ``delete``.
    """
    if fault.is_passing:
        return StoreOutage(
            f"{where}: {endpoint} did not {doing} in time ({fault.code}). Check that it runs and that "
            "MLHO_S3_ENDPOINT is right, then run the same command again."
        )
    if fault.code in _WRONG_CREDENTIALS:
        return StoreAccessDenied(
            f"{where}: {endpoint} does not accept the credentials ({fault.code}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to those of this server, and MLHO_S3_REGION to its region."
        )
    if fault.code in _FULL:
        return StoreOutage(
            f"{where}: the storage is full ({fault.code}). Free some space and run the same command again."
        )
    if fault.is_denied:
        # One text without the code, so that it does not tell whether a bucket exists to those who may not use it.
        return StoreAccessDenied(
            f"{where}: no such bucket, or access denied to {doing}. Correct the address, set MLHO_S3_REGION to the bucket's region, or "
            "grant s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on "
            "what is under the prefix, to these credentials."
        )
    if fault.status == 501 and doing == "write":
        return SpecError(
            f"{where}: {endpoint} does not know a request that is needed ({fault.code}). If it has no conditional writes, set "
            "MLHO_S3_CONDITIONAL=compat for the command and its workers: then only the scheduler commits."
        )
    return SpecError(
        f"{where}: {endpoint} refused to {doing} ({fault.code}, status {fault.status}). If it is no AWS server, try "
        "MLHO_S3_ADDRESSING=path and MLHO_S3_CHECKSUMS=when_required."
    )


def no_credentials(where: str) -> StoreAccessDenied:
    """The error for a process that has no credentials, or cannot get new ones."""
    return StoreAccessDenied(
        f"{where}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the "
        "machine or pod a role."
    )
