"""Steps and tasks: the base classes of every kind of work.

A *step* is a kind of work; a *task* is one step on given inputs. A task's key is the hash of all that determines its
output: kind, version, parameters and the digests of its inputs. Its output is one artifact: named files as blobs, and a
commit record that is written once, last. Running a task twice, on any machine, changes nothing.
"""

import datetime as dt
import errno
import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from mlho.errors import ArtifactDamaged, ArtifactNotFound, CommitLost, MlhoError, StoreUnavailable
from mlho.pseudonyms import encrypt_ids, fingerprint, key_with
from mlho.scratch import TEMPORARY_PREFIX, scratch_folder
from mlho.spec.cohort import Cohort
from mlho.spec.layout import Columns
from mlho.spec.training import Data, TrainingSpec, canonical_json, canonical_parts, digest_of_fields
from mlho.spec.types import PLAUSIBLE_YEARS
from mlho.steps.commit_log import CommitLog
from mlho.steps.records import Commit, EncryptedIds, Outcome, StoredFile, read_commit
from mlho.store.base import Store, file_digest, is_intact
from mlho.store.keys import blob_key

_MANY: Final = 1_000
_REGISTRY: Final[dict[str, "Step"]] = {}
IDS_KEY: Final = "ids_key"  # parameter with the fingerprint of the key for the ids in a task's output
UNREAD: Final = "-"  # placeholder for a table that a step does not read


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input of the run, pinned by the manifest. Not a pydantic model, because a manifest may list a hundred thousand."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    key: str
    """Path relative to the data's URI."""
    size: int
    version: str
    """Content hash in a folder, ETag in object storage."""

    def plain(self) -> dict[str, Any]:
        """Plain values, as in the manifest."""
        return {"key": self.key, "size": self.size, "version": self.version}


class Task(BaseModel):
    """One step on given inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    spec: TrainingSpec | None = None
    """The specification, with every section that this step does not read reset."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Iteration, fold, block, classifier: the values that distinguish this task from its siblings."""
    sources: tuple[InputFile, ...] = ()
    inputs: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Name of each input to the keys of the tasks that made it."""
    digests: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Digest of each input, in the same order."""

    @property
    def key(self) -> str:
        """Hash of everything that determines the output. The producers and the location of the inputs are not part of it."""
        sources = map(InputFile.plain, self.sources)
        return digest_of_fields(
            {
                "digests": _iterators(self.digests) if self._is_long else self.digests,
                "kind": self.kind,
                "params": self.params,
                "sources": sources if self._is_long else [*sources],
                "spec": self.spec.model_dump(mode="json", by_alias=True) if self.spec else None,
                "version": step_named(self.kind).version,
            }
        )

    @property
    def _is_long(self) -> bool:
        """Whether the task names so many files or tasks that its JSON is written in pieces, to save memory at the cost of time."""
        return len(self.sources) + sum(map(len, self.inputs.values())) > _MANY

    def document(self) -> bytes:
        """Return the task as JSON. A long one is written in pieces, without a second copy in memory."""
        if not self._is_long:
            return self.model_dump_json().encode()
        long = {
            "digests": _iterators(self.digests),
            "inputs": _iterators(self.inputs),
            "sources": map(InputFile.plain, self.sources),
        }
        buffer = BytesIO()
        buffer.writelines(canonical_parts(self.model_dump(mode="json", exclude={*long}) | long))
        return buffer.getvalue()


def _iterators(lists: Mapping[str, tuple[str, ...]]) -> dict[str, Iterator[str]]:
    return {name: iter(keys) for name, keys in lists.items()}


@dataclass(frozen=True)
class Artifact:
    """A committed artifact, read through its commit record; every file's digest is verified before it is used."""

    store: Store
    commit: Commit

    def path(self, name: str) -> Path:
        """Return a verified local file of this artifact."""
        try:
            file = self.commit.files[name]
        except KeyError:
            raise ArtifactNotFound(f"{self.commit.kind}: the artifact has no file {name!r}.") from None
        return verified_blob(self.store, file.sha256)

    def read(self, name: str) -> bytes:
        """Return the verified bytes of a file of this artifact."""
        return self.path(name).read_bytes()

    def json(self, name: str) -> Any:
        """Return the parsed content of a JSON file of this artifact."""
        return json.loads(self.read(name))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files, sorted."""
        return tuple(sorted(self.commit.files))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts in the commit record."""
        return self.commit.facts


def verified_blob(store: Store, sha256: str) -> Path:
    """Return a local file of a blob that matches its digest. Raise ``ArtifactDamaged`` if it is damaged or missing."""
    try:
        path = store.path(blob_key(sha256))
    except ArtifactNotFound:
        raise _damaged(sha256, "it is missing") from None
    if not is_intact(path, sha256):
        raise _damaged(sha256, "its bytes do not match its digest")
    return path


def _damaged(sha256: str, what: str) -> ArtifactDamaged:
    return ArtifactDamaged(
        f"blob {sha256[:12]}…: {what}. Run the same command again, which recomputes it.", sha256=sha256
    )


@dataclass(frozen=True)
class Work:
    """The arguments of a step: its task, its inputs, the address of the data, and the output folder."""

    task: Task
    inputs: Mapping[str, tuple[Artifact, ...]]
    data: Path | str
    """Address of the tables: a folder, or ``s3://bucket/prefix``."""
    out: Path

    @property
    def spec(self) -> TrainingSpec:
        """The specification. Only steps that have one may read it."""
        if self.task.spec is None:
            raise MlhoError(f"{self.task.kind}: the task has no specification. Report this as a defect.")
        return self.task.spec

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters that distinguish this task from its siblings."""
        return self.task.params

    def one(self, name: str) -> Artifact:
        """Return the only artifact of an input."""
        (artifact,) = self.inputs[name]
        return artifact

    def write_json(self, name: str, value: object) -> None:
        """Write a file of canonical JSON."""
        (self.out / name).write_bytes(canonical_json(value))


class Step(ABC):
    """One kind of work. Heavy libraries are imported inside :meth:`run`, so that planning needs none of them."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of every task key: raise it when the output for equal inputs changes."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Sections of the specification that :meth:`run` reads."""
    tables: ClassVar[tuple[str, ...]] = ()
    """Tables that it reads directly, so that their definition in the specification is part of the task key."""
    reads_promise: ClassVar[bool] = False
    """Whether ``data.partitionedBy`` affects its output."""
    reads_temporal_check: ClassVar[bool] = False
    """Whether ``validation.temporalCheck`` affects its output."""
    reads_outcome: ClassVar[bool] = True
    """Whether the name of the outcome affects its output."""
    reads_rules: ClassVar[bool] = False
    """Whether it reads ``cohort.rules``. Other steps read the labels that the rules have made."""
    writes_ids: ClassVar[tuple[str, ...]] = ()
    """Files of its output that hold ids of patients, which are encrypted if there is a key."""
    states_content: ClassVar[bool] = False
    """Whether dependent tasks are keyed by these files before the encryption. Only for whole cohorts: with few ids such a digest confirms a guess of them."""
    reads_windows: ClassVar[bool] = True
    """Whether ``cohort.lookBackDays`` and ``cohort.gapDays`` affect its output."""
    reads_demographics: ClassVar[bool] = True
    """Whether the demographics of ``features`` affect its output."""
    reads_min_cell: ClassVar[bool] = False
    """Whether it reads ``report.minCell``, the bound for small groups, and no other field of the report."""
    reads_bias_columns: ClassVar[bool] = False
    """Whether it reads ``bias.columns``, and no other field of the audit."""
    encodes: ClassVar[bool] = False
    """Whether it comes before all learning, and needs only the modules of :mod:`mlho.steps.preload.tables`."""

    def narrow(self, spec: TrainingSpec) -> TrainingSpec | None:
        """Reset every section of the specification that this step does not read; ``None`` if it reads none.

        Two runs that differ elsewhere then share this step's tasks.
        """
        return self._narrowed(spec) if self.sections else None

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        stated = spec.cohort
        if not self.reads_rules:
            spec = spec.without_rules
        kept = {name: getattr(spec, name) for name in self.sections}
        cohort: dict[str, Any] = {}
        if spec.cohort.share_encoding and not self.reads_outcome:
            cohort["outcome"] = Cohort.model_fields["outcome"].default
        if not self.reads_windows:
            cohort |= {name: Cohort.model_fields[name].default for name in ("look_back_days", "gap_days")}
        is_by_date = spec.validation.by_date or (self.reads_temporal_check and spec.validation.temporal_check)
        if "validation" in kept and is_by_date and stated.time_to_event is None and not self.reads_rules:
            cohort["follow_up_days"] = stated.outcome_days  # that of the rules, which the step does not read
        if cohort:
            kept["cohort"] = spec.cohort.model_copy(update=cohort)
        if "validation" in kept and not self.reads_temporal_check:
            kept["validation"] = spec.validation.model_copy(update={"temporal_check": None})
        narrowed = TrainingSpec(**{"cohort": spec.cohort, **kept, "data": self._narrow_data(spec)})
        update: dict[str, Any] = {}
        if not self.reads_demographics:
            no_demographics = {"demographics": (), "categorical": ()}
            update["features"] = narrowed.features.model_copy(update=no_demographics)
        if self.reads_min_cell:
            update["report"] = type(spec.report)(min_cell=spec.report.min_cell)
        if self.reads_bias_columns and spec.bias and spec.bias.columns:
            update["bias"] = type(spec.bias)(columns=spec.bias.columns)
        return narrowed.model_copy(update=update)

    def tables_of(self, spec: TrainingSpec) -> tuple[str, ...]:
        """Return the tables that the step reads directly for a specification."""
        return self.tables

    def _narrow_data(self, spec: TrainingSpec) -> Data:
        data, read = spec.data, self.tables_of(spec)
        unread: dict[str, str | None] = {
            name: UNREAD for name in ("demographics", "events", "labels") if name not in read
        }
        if data.tables.labels is None:  # rules are read in its place
            unread.pop("labels", None)
        tables = data.tables.model_copy(update=unread if "concepts" in read else {**unread, "concepts": None})
        update: dict[str, Any] = {
            "tables": tables,
            "uri": ".",
            "columns": _narrow_columns(data.columns, read),
        }
        if not read:
            update |= {"source": "native", "format": None}
        if not self.reads_promise:
            update["partitioned_by"] = "nothing"
        if not {"events", "labels"} & set(read):
            update["plausible_years"] = PLAUSIBLE_YEARS
        return data.model_copy(update=update)

    @abstractmethod
    def run(self, work: Work) -> dict[str, Any]:
        """Read the inputs, write files to ``work.out``, and return the facts for the commit record."""


def _narrow_columns(columns: Columns | None, read: tuple[str, ...]) -> Columns | None:
    """Keep the names of the columns of the tables that a step reads; ``None`` if there are none."""
    kept = {name: column for name, column in columns or () if name in read and column is not None}
    return Columns(**kept) if kept else None


def utc_now() -> dt.datetime:
    """Return the time of this machine, UTC."""
    return dt.datetime.now(dt.UTC)


def execute(
    task: Task,
    store: Store,
    data: Path | str,
    *,
    scratch: Path | None = None,
    now: Callable[[], dt.datetime] = utc_now,
) -> Outcome:
    """Execute a task unless it is done. Write blobs first, then the commit record (in compat mode a proposal).

    ``now`` is the clock of the commit record.

    Raises
    ------
    MlhoError
        Raised by the step; nothing is committed.
    StoreUnavailable
        The disk of the scratch folder is full.
    """
    return CommitLog(store).once(task.key, lambda: _make(task, store, data, scratch, now))


def _make(
    task: Task, store: Store, data: Path | str, scratch: Path | None, now: Callable[[], dt.datetime]
) -> Commit:
    """Run a task's step, store its files, and return the commit record to write."""
    started = time.monotonic()
    ids = _ids_of(task)
    with _work_folder(task, store, scratch) as folder:
        facts = step_named(task.kind).run(Work(task, _open_inputs(task, store), data, folder))
        files = dict(_store_files(folder, store, ids))
    seconds = round(time.monotonic() - started, 3)
    return Commit(
        task=task.key,
        kind=task.kind,
        files=files,
        facts=facts,
        seconds=seconds,
        finished_at=now().isoformat(timespec="seconds"),
    )


@dataclass(frozen=True)
class _Ids:
    """Files of a task whose ids are encrypted, and the key."""

    names: tuple[str, ...] = ()
    key: bytes = field(default=b"", repr=False)
    states_content: bool = False

    def encrypt(self, path: Path) -> EncryptedIds | None:
        """Encrypt the ids in a file if it has some."""
        if path.name not in self.names:
            return None
        content = file_digest(path) if self.states_content else None
        encrypt_ids(path, self.key)
        return EncryptedIds(key=fingerprint(self.key), content=content)


def _ids_of(task: Task) -> _Ids:
    """Return the encrypted part of a task's output. Raise ``SpecError`` if this process has a key other than that of the task."""
    wanted = task.params.get(IDS_KEY)
    if wanted is None:
        return _Ids()
    step = step_named(task.kind)
    return _Ids(step.writes_ids, key_with(wanted, where=task.kind), step.states_content)


@contextmanager
def _work_folder(task: Task, store: Store, scratch: Path | None) -> Iterator[Path]:
    """Create a folder for a task's files and remove it at the end. Report a full disk as ``StoreUnavailable``.

    Local copies of the store on that disk are removed, for the next attempt.
    """
    kind = task.kind if scratch is not None else f"{TEMPORARY_PREFIX}{task.kind}"
    try:
        with scratch_folder(kind, scratch) as folder:
            yield folder
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if scratch is not None:
            # A failure to remove local copies is ignored: the error raised below reports the full disk.
            with suppress(OSError):
                store.make_room()
        temporary = tempfile.gettempdir()  # some libraries and the bundle of a task write there
        folders = f"{scratch} or {temporary}" if scratch is not None else temporary
        raise StoreUnavailable(
            f"{task.kind}: {error.strerror} for its files in {folders}. Free some space and run the same command again."
        ) from error


def step_named(kind: str) -> Step:
    """Return the step of this kind."""
    return _REGISTRY[kind]


def register(steps: Iterable[Step]) -> Mapping[str, Step]:
    """Register steps by kind. The package does so on import, which always precedes the import of this module."""
    _REGISTRY.update({step.kind: step for step in steps})
    return _REGISTRY


def _open_inputs(task: Task, store: Store) -> dict[str, tuple[Artifact, ...]]:
    return {
        name: tuple(store.each(lambda key: _open_artifact(store, key), keys))
        for name, keys in task.inputs.items()
    }


def _open_artifact(store: Store, task_key: str) -> Artifact:
    commit = read_commit(store, task_key)
    if commit is None:
        raise CommitLost(
            f"commit {task_key[:12]}…: an input of this task is missing from the store or damaged. It is computed again.",
            sha256=task_key,
        )
    return Artifact(store, commit)


def _store_files(folder: Path, store: Store, ids: _Ids) -> Iterator[tuple[str, StoredFile]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            encrypted = ids.encrypt(path)
            file = StoredFile(sha256=file_digest(path), size=path.stat().st_size, encrypted=encrypted)
            _put_blob(store, file.sha256, path)
            yield path.relative_to(folder).as_posix(), file


def _put_blob(store: Store, sha256: str, path: Path) -> None:
    """Write a blob. The time of an existing blob is renewed, so that retention does not remove it before the commit."""
    key = blob_key(sha256)
    if not store.put_file_if_absent(key, path) and not store.refresh(key):
        store.put_file_if_absent(key, path)  # removed between the two requests
