"""Commit records. An artifact exists if it has one. Each record is bound to its key and carries its own digest.

A record ends with the SHA-256 of all bytes before that field, so that any corruption by a disk or a network is detected. A damaged record counts as
missing: its task runs again, and the new record replaces exactly those damaged bytes, by a conditional write. An intact record that was written in the meantime is kept.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlho.errors import ArtifactNotFound, MlhoError, StoreUnavailable
from mlho.log import log
from mlho.spec.training import digest_of
from mlho.store.base import Store
from mlho.store.keys import commit_key

_SEAL: Final = b',"sha256":"'
_END: Final = b'"}'
_MAX_WRITES: Final = 8


def sealed(stem: bytes) -> bytes:
    """Return a JSON object, given without its last brace, with the digest of these bytes as its last field."""
    return stem + _SEAL + hashlib.sha256(stem).hexdigest().encode() + _END


def unsealed(data: bytes) -> bytes | None:
    """Return the JSON object of :func:`sealed` without its digest; ``None`` if the bytes are damaged or not sealed."""
    stem = data.rpartition(_SEAL)[0]
    return stem + b"}" if stem and sealed(stem) == data else None


class EncryptedIds(BaseModel):
    """The facts recorded about a file whose ids are encrypted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Fingerprint of the key."""
    content: str | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """SHA-256 of the file before its ids were encrypted, if dependent tasks are keyed by it."""


class StoredFile(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int
    # Left out of the record if there is none, so that earlier versions read it.
    encrypted: EncryptedIds | None = Field(default=None, exclude_if=lambda own: own is None)

    @property
    def content(self) -> str:
        """SHA-256 in the keys of dependent tasks. It does not depend on whether, or with which key, a cohort's ids are encrypted."""
        return (self.encrypted and self.encrypted.content) or self.sha256


class Commit(BaseModel):
    """The commit record of a finished task, which makes its artifact exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    """Key of the task."""
    kind: str
    files: dict[str, StoredFile]
    facts: dict[str, Any] = Field(default_factory=dict)
    """A few numbers for the plan and the progress; never a patient's values."""
    seconds: float
    """Duration of the first attempt that committed. Not part of the digest."""
    finished_at: str | None = None
    """End of that attempt: UTC, ISO 8601, to the second. Not part of the digest; absent in records of earlier versions."""

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents of the files; dependent tasks are keyed by it."""
        return digest_of({name: file.content for name, file in self.files.items()})

    def to_bytes(self) -> bytes:
        """Return JSON that ends with the digest of the preceding bytes."""
        return sealed(self.model_dump_json().encode()[:-1])


def parse_record(data: bytes, task_key: str) -> Commit | None:
    """Parse the record of a task; ``None`` if the bytes are damaged or belong to another task.

    Records of earlier versions have no digest and are accepted without it.

    Raises
    ------
    MlhoError
        The bytes are undamaged, but this version cannot read them.
    """
    content = unsealed(data)
    try:
        commit = Commit.model_validate_json(content or data)
    except ValidationError:
        if content is not None:
            raise MlhoError(
                f"commit {task_key[:12]}…: written by a different version of this program. Use that version, or another store."
            ) from None
        return None
    return commit if commit.task == task_key else None


def read_commit(store: Store, task_key: str) -> Commit | None:
    """Read the commit record of a task; ``None`` if the task is not done or the record is damaged.

    Raises
    ------
    MlhoError
        The record was written by a different version.
    """
    try:
        return parse_record(store.get(commit_key(task_key)), task_key)
    except ArtifactNotFound:
        return None


def write_commit(store: Store, commit: Commit) -> Commit | None:
    """Write a commit record, replacing a damaged one. Return the valid record if one exists already.

    Raises
    ------
    StoreUnavailable
        The record changes before every attempt to replace it.
    """
    key, data = commit_key(commit.task), commit.to_bytes()
    for _ in range(_MAX_WRITES):
        if store.put_if_absent(key, data):
            return None
        try:
            content = store.get(key)
        except ArtifactNotFound:
            continue
        first = parse_record(content, commit.task)
        if first is not None:
            return first
        if store.compare_and_swap(key, data, expected=content):
            log.warning("commit_replaced", task=commit.task[:12], step=commit.kind)
            return None
    raise StoreUnavailable(
        f"commit {commit.task[:12]}…: it was damaged, and changed at each attempt to replace it. Run the same command again."
    )


@dataclass(frozen=True)
class Outcome:
    """A finished task, and whether this execution finished it."""

    commit: Commit
    is_new: bool
    is_proposed: bool = False
    """In compat mode: the record is not in the store yet; the scheduler adopts it (``mlho/steps/proposals.py``)."""


def different_bytes(commit: Commit) -> MlhoError:
    """Return the error for a task with non-deterministic output."""
    return MlhoError(
        f"{commit.kind}: two attempts of task {commit.task[:12]}… gave different bytes. The run stops, because its "
        "result would depend on chance. Report this as a defect."
    )
