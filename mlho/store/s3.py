"""The only module that accesses object storage: requests to one bucket, with retries, and errors mapped to our own.

boto3 is imported at the first request: importing it takes a third of a second, and a command on a folder does not need
it. A client belongs to one process, so that forked children share no connection.

A reply may be lost after the server has written the object. The retry then finds that object and is refused. Therefore
every conditional write carries a unique mark, and a refusal counts only if the object carries another mark.
"""

import datetime as dt
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

from mlho.errors import MlhoError, SpecError, StoreOutage
from mlho.store.s3_faults import Fault, as_error, incomplete, no_credentials, redirected
from mlho.store.s3_settings import COMPAT, S3Settings

_MEDIA_TYPES: Final = {"html": "text/html; charset=utf-8", "json": "application/json"}
_MARK: Final = "mlho-writer"
_PART_BYTES: Final = 16 << 20
_MAX_PARTS: Final = 9_000  # S3 allows 10,000
_MAX_COPY_BYTES: Final = 5 << 30  # S3 cannot copy a larger object in one request; artifacts are far smaller
_CHUNK_BYTES: Final = 1 << 20
_FIRST_WAIT_SECONDS: Final = 0.2
_LONGEST_WAIT_SECONDS: Final = 8.0
# A start-up check fails fast: it does not wait for a server to recover.
_QUICK_SECONDS: Final = 3.0
_QUICK_READ_SECONDS: Final = 8.0
_RENEW_SECONDS: Final = 5.0  # minimum time between two renewals of the client for new credentials


class Refused(Exception):  # noqa: N818 - names the event, not an error
    """A request that the server refused and that a retry cannot fix. The caller interprets it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.code)


@dataclass(frozen=True)
class ObjectFacts:
    """Metadata of an object."""

    key: str
    size: int
    etag: str
    modified: dt.datetime
    mark: str | None = None


class Bucket:
    """A bucket on a server.

    Parameters
    ----------
    where : str, optional
        Address for messages; default: the bucket's.

    Raises
    ------
    StoreAccessDenied
        From every method: wrong credentials, no such bucket, or a missing permission; the message names the remedy.
    StoreOutage
        From every method: no answer within the deadline. Retry later.
    SpecError
        From every method: the address is invalid, or the server does not support the request.
    """

    def __init__(self, name: str, settings: S3Settings, *, where: str | None = None) -> None:
        self.name = name
        self.settings = settings
        self.where = where or f"s3://{name}"

    def impatient(self) -> "Bucket":
        """Return the same bucket with a deadline of a few seconds per request, for availability checks."""
        settings = replace(
            self.settings,
            max_attempts=1,
            deadline_seconds=min(_QUICK_SECONDS, self.settings.deadline_seconds),
            read_timeout_seconds=min(_QUICK_READ_SECONDS, self.settings.read_timeout_seconds),
        )
        return Bucket(self.name, settings, where=self.where)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Return the bytes and the ETag of an object; ``None`` if it does not exist."""

        def request(client: Any) -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self.name, Key=key)
            return answer["Body"].read(), answer["ETag"]

        return self._or_none("read", request)

    def get_range(self, key: str, start: int, size: int, *, etag: str) -> bytes | None:
        """Return part of an object with this ETag; ``None`` if it was replaced or deleted."""

        def request(client: Any) -> bytes:
            span = f"bytes={start}-{start + size - 1}"
            answer = client.get_object(Bucket=self.name, Key=key, Range=span, IfMatch=etag)
            data: bytes = answer["Body"].read()
            return data

        return self._or_none("read", request)

    def download(self, key: str, file: BinaryIO) -> str | None:
        """Write an object to an open file. Return its ETag, or ``None`` if it does not exist."""

        def request(client: Any) -> str:
            file.seek(0)
            file.truncate()
            answer = client.get_object(Bucket=self.name, Key=key)
            for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                file.write(chunk)
            file.flush()
            return str(answer["ETag"])

        return self._or_none("read", request)

    def head(self, key: str) -> ObjectFacts | None:
        """Return the metadata of an object; ``None`` if it does not exist."""

        def request(client: Any) -> ObjectFacts:
            answer = client.head_object(Bucket=self.name, Key=key)
            marks = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
            return ObjectFacts(
                key, answer["ContentLength"], answer["ETag"], answer["LastModified"], marks.get(_MARK)
            )

        return self._or_none("read", request)

    def put(self, key: str, data: bytes | Path, *, if_match: str | None = None) -> bool:
        """Write bytes or a file if the key is absent, or if its ETag equals ``if_match``. Return whether this call wrote them."""
        if not self._looks_as_expected(key, if_match):
            return False
        mark = uuid4().hex
        condition = self._condition(if_match)
        more = {"Bucket": self.name, "Key": key, **condition, **_type_of(key), **self._marked(mark)}

        def request(client: Any) -> None:
            with BytesIO(data) if isinstance(data, bytes) else data.open("rb") as body:
                client.put_object(Body=body, **more)

        try:
            self._call("write", request)
        except Refused as refused:
            # AWS answers 404 to If-Match if the key does not exist.
            self._raise_unless(refused.fault.is_condition or refused.fault.is_missing, refused, "write")
            return self._is_own(key, mark)
        return True

    def put_file(self, key: str, path: Path) -> bool:
        """Write a file if the key is absent. Return whether this call wrote it. Large files are uploaded in parts."""
        if path.stat().st_size < self.settings.multipart_bytes:
            return self.put(key, path)
        if not self._looks_as_expected(key, None):
            return False
        mark = uuid4().hex
        ends = time.monotonic() + self.settings.deadline_seconds
        while True:
            try:
                self._put_parts(key, path, mark)
                return True
            except Refused as refused:
                fault = refused.fault
                # A conflict invalidates the parts. An earlier request whose reply was lost, or a clean-up, may have ended
                # the upload.
                is_known = fault.is_condition or fault.is_conflict or fault.is_lost_upload
                self._raise_unless(is_known, refused, "write")
            found = self.head(key)
            if found is not None:
                return found.mark == mark
            if time.monotonic() >= ends:
                raise self._error(Fault(fault.code, 0), "write")  # the upload is lost, so a retry helps

    def delete(self, key: str) -> None:
        """Remove an object if it exists."""
        self._or_none("delete", lambda client: client.delete_object(Bucket=self.name, Key=key))

    def refresh(self, key: str, *, after_seconds: float) -> bool:
        """Copy an object onto itself, which renews its time, if it is older than this. Return whether it exists."""
        found = self.head(key)
        if found is None:
            return False
        age = dt.datetime.now(dt.UTC) - found.modified
        if age.total_seconds() < after_seconds or found.size > _MAX_COPY_BYTES:
            return True
        source = {"Bucket": self.name, "Key": key}
        # Servers refuse to copy an object onto itself if nothing changes.
        more = {
            **source,
            "CopySource": source,
            "MetadataDirective": "REPLACE",
            **_type_of(key),
            **self._marked(uuid4().hex),
        }
        return self._or_none("write", lambda client: client.copy_object(**more)) is not None

    def listed(self, prefix: str, *, page: int = 1000) -> Iterator[ObjectFacts]:
        """Yield the objects with this prefix, ordered by key, without folder placeholders."""
        more: dict[str, str] = {}
        while True:
            answer = self._list_page(prefix, page, more)
            for found in answer.get("Contents", ()):
                if not found["Key"].endswith("/"):
                    yield ObjectFacts(found["Key"], found["Size"], found["ETag"], found["LastModified"])
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def _list_page(self, prefix: str, page: int, more: dict[str, str]) -> Any:
        try:
            return self._call(
                "list",
                lambda client: client.list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=page, **more),
            )
        except Refused as refused:
            raise self._error(refused.fault, "list") from refused.__cause__

    def _put_parts(self, key: str, path: Path, mark: str) -> None:
        target = {"Bucket": self.name, "Key": key}
        described = {**_type_of(key), **self._marked(mark)}
        upload = self._call(
            "write",
            lambda client: {
                **target,
                "UploadId": client.create_multipart_upload(**target, **described)["UploadId"],
            },
        )
        try:
            parts = {"Parts": list(self._upload_parts(upload, path))}
            self._call(
                "write",
                lambda client: client.complete_multipart_upload(
                    **upload, MultipartUpload=parts, **self._condition(None)
                ),
                conflict_passes=False,
            )
        except BaseException:
            self._abort(upload)
            raise

    def _upload_parts(self, upload: dict[str, str], path: Path) -> Iterator[dict[str, Any]]:
        part_bytes = max(_PART_BYTES, -(-path.stat().st_size // _MAX_PARTS))
        with path.open("rb") as file:
            for number, data in enumerate(iter(lambda: file.read(part_bytes), b""), start=1):
                etag = self._upload_part(upload, number, data)
                yield {"PartNumber": number, "ETag": etag}

    def _upload_part(self, upload: dict[str, str], number: int, data: bytes) -> str:
        return self._call(
            "write", lambda client: str(client.upload_part(**upload, PartNumber=number, Body=data)["ETag"])
        )

    def _abort(self, upload: dict[str, str]) -> None:
        """Abort a failed upload to free its parts. If that fails, the lifecycle rule of the bucket removes them."""
        with suppress(MlhoError, Refused):
            self._call("write", lambda client: client.abort_multipart_upload(**upload))

    @property
    def asks_conditions(self) -> bool:
        """Whether writes are conditional. If not, the key is checked before each write."""
        return self.settings.conditional != COMPAT

    def _condition(self, if_match: str | None) -> dict[str, str]:
        if not self.asks_conditions:
            return {}
        return {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"}

    def _looks_as_expected(self, key: str, if_match: str | None) -> bool:
        """Check the key before a write whose condition the server would ignore. Another writer may still interfere."""
        if self.asks_conditions:
            return True
        found = self.head(key)
        return (found.etag if found is not None else None) == if_match

    def _is_own(self, key: str, mark: str) -> bool:
        found = self.head(key)
        return found is not None and found.mark == mark

    def _marked(self, mark: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {"Metadata": {_MARK: mark}}
        if self.settings.sse_kms_key:
            arguments |= {
                "ServerSideEncryption": "aws:kms",
                "SSEKMSKeyId": self.settings.sse_kms_key,
                "BucketKeyEnabled": True,
            }
        return arguments

    def _or_none[T](self, action: str, request: Callable[[Any], T]) -> T | None:
        try:
            return self._call(action, request)
        except Refused as refused:
            self._raise_unless(refused.fault.is_missing or refused.fault.is_condition, refused, action)
            return None

    def _raise_unless(self, expected: bool, refused: Refused, action: str) -> None:
        if not expected:
            raise self._error(refused.fault, action) from refused.__cause__

    def _error(self, fault: Fault, action: str) -> MlhoError:
        endpoint = self.settings.endpoint or "AWS"
        return as_error(fault, where=self.where, endpoint=endpoint, action=action)

    def _call[T](self, action: str, request: Callable[[Any], T], *, conflict_passes: bool = True) -> T:
        """Send a request, and retry it after transient faults until the deadline."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._shared_client()
        ends = time.monotonic() + self.settings.deadline_seconds
        longest = _FIRST_WAIT_SECONDS
        while True:
            try:
                return request(client)
            except (BotoCoreError, ClientError) as error:
                if isinstance(
                    error.__context__, RecursionError
                ):  # raised within the HTTP client, which wraps it
                    raise redirected(self.where, self.settings.endpoint or "AWS") from None
                fault = self._fault(error)
                if fault.is_denied:
                    _forget_client()
                if not fault.is_passing or (fault.is_conflict and not conflict_passes):
                    raise Refused(fault) from error
                if time.monotonic() >= ends:
                    raise self._error(fault, action) from error
            except KeyError as missing:
                raise incomplete(self.where, self.settings.endpoint or "AWS", str(missing.args[0])) from None
            except RecursionError:  # botocore asks for the region of a bucket after each redirect
                raise redirected(self.where, self.settings.endpoint or "AWS") from None
            # Jitter, so that many workers do not retry at the same moment.
            time.sleep(min(random.uniform(0, longest), max(0.0, ends - time.monotonic())))  # noqa: S311 - no secret
            longest = min(2 * longest, _LONGEST_WAIT_SECONDS)

    def _shared_client(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            with _making:
                return _client(os.getpid(), self.settings)
        except (BotoCoreError, ValueError) as error:
            raise SpecError(
                f"{self.where}: no client can be made ({type(error).__name__}). Check MLHO_S3_ENDPOINT and AWS_PROFILE."
            ) from error

    def _fault(self, error: Exception) -> Fault:
        from botocore import exceptions

        answer = getattr(error, "response", None)
        if isinstance(error, exceptions.ClientError) and isinstance(answer, dict):
            status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return Fault(str(answer.get("Error", {}).get("Code") or status), status)
        if isinstance(
            error,
            exceptions.NoCredentialsError
            | exceptions.PartialCredentialsError
            | exceptions.CredentialRetrievalError
            | exceptions.TokenRetrievalError
            | exceptions.SSOError,
        ):
            _forget_client()
            raise no_credentials(self.where) from error
        if isinstance(error, exceptions.SSLError) and "certificate" in str(error).lower():
            raise StoreOutage(
                f"{self.where}: the server's certificate is not trusted. Set MLHO_S3_CA_BUNDLE to the file of the "
                "certificates to trust (chart: store.caConfigMap)."
            ) from error
        if isinstance(error, exceptions.ParamValidationError):
            raise SpecError(f"{self.where}: no valid bucket or key. Correct the address.") from error
        return Fault(type(error).__name__, 0)


_forgotten_at = -math.inf


def _forget_client() -> None:
    """Discard the client. The next request reads the credential files, which may have been replaced, again."""
    global _forgotten_at
    now = time.monotonic()
    if now - _forgotten_at > _RENEW_SECONDS:
        _forgotten_at = now
        _client.cache_clear()


@cache
def _client(_process: int, settings: S3Settings) -> Any:
    """Return the client of this process: connections and locks do not survive a fork."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=settings.connect_timeout_seconds,
        read_timeout=settings.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        max_pool_connections=settings.max_connections,
        request_checksum_calculation=settings.checksums,
        response_checksum_validation=settings.checksums,
        s3={"addressing_style": settings.addressing},
    )
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region or session.region_name or "us-east-1",
        verify=settings.ca_bundle,
        config=config,
    )


# Creating a client takes 0.05 s of CPU time or more. Without the lock, each thread of a first parallel request would create its own.
_making = threading.Lock()


def _new_lock() -> None:
    global _making
    _making = threading.Lock()


# At the fork, another thread of the parent may have held the lock.
os.register_at_fork(after_in_child=_new_lock)


def _type_of(key: str) -> dict[str, str]:
    """Return the media type of a page or a JSON document, so that a browser shows it instead of saving it."""
    suffix = key.rpartition(".")[2]
    return {"ContentType": _MEDIA_TYPES[suffix]} if suffix in _MEDIA_TYPES else {}
