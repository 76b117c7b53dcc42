"""A scoring run: a bundle pinned in the store, one task per partition, and one manifest that commits all scores."""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlho.errors import ArtifactNotFound, BundleError, SpecError
from mlho.model.files import (
    DIGEST,
    DOCUMENT,
    FileFacts,
    facts_of,
    is_bundle_file,
    read_document,
    read_files,
    write_files,
)
from mlho.model.signature import SUFFIX, check_signatures, verify_key
from mlho.scratch import scratch_folder
from mlho.spec.scoring import (
    CHANNEL_BUNDLE,
    RUN_BUNDLE,
    RUN_ID,
    BundleSource,
    ScoringRunSpec,
    check_not_future,
    parse_scoring_spec,
    scoring_run_id,
)
from mlho.spec.training import digest_of
from mlho.steps.base import Task
from mlho.steps.records import Commit, write_commit
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import blob_key, model_key, run_key, signature_prefix
from scheduler.engine.manifest import data_root, local_folder, make_manifest
from scheduler.engine.plan import (
    BUNDLE_TASK,
    COMPARISON_TASK,
    INSPECTION_TASK,
    SCORES_TASK,
    Manifest,
    Plan,
    PlannedTask,
    inspected_files,
    plan_scoring,
)
from scheduler.engine.publication import (
    publish_blob,
    put_blobs,
    refuse_other_result,
    retraining_yaml,
    spec_yaml,
    with_fields,
    write_description,
)
from scheduler.engine.scoring_checks import check_compared, check_counts, check_document, check_files
from scheduler.runs.origin import entry_at as entry_at
from scheduler.runs.origin import training_spec
from scheduler.runs.stored import MODELS, finished_run, stored_runs
from scheduler.runs.stored import read_document as read_document_of

SCORES_FILE: Final = "scores.json"
SCORES_MANIFEST: Final = "manifest.json"
COMPARISON_FILE: Final = "comparison.json"
RETRAIN_FILE: Final = "retrain.yaml"
_BUNDLE_FOLDER: Final = "bundle/"
_MAX_FILES: Final = 1000  # a bundle has about five


@dataclass(frozen=True)
class PinnedBundle:
    """The verified files of a bundle in memory, ready to be written to a store."""

    files: Mapping[str, bytes]
    """Name to bytes."""
    digest: str
    """SHA-256 of ``bundle.json``."""

    @property
    def document(self) -> dict[str, Any]:
        """Return ``bundle.json`` as plain values. Its schema is checked where the model is loaded."""
        plain: dict[str, Any] = json.loads(self.files[DOCUMENT])
        return plain

    @property
    def task(self) -> Task:
        """Return the task whose artifact is this bundle."""
        return Task(kind="pin_bundle", params={"digest": self.digest})

    def pin(self, store: Store) -> None:
        """Write the bundle to a store, the commit record last. Existing objects are not overwritten."""
        stored = put_blobs(store, {_BUNDLE_FOLDER + name: content for name, content in self.files.items()})
        task = self.task
        facts_of_commit = {"bundle_digest": self.digest}
        commit = Commit(task=task.key, kind=task.kind, files=stored, facts=facts_of_commit, seconds=0.0)
        write_commit(store, commit)


def read_bundle(
    source: BundleSource, spec_path: Path, store: Store, *, must_be_signed: bool = True
) -> PinnedBundle:
    """Read the bundle that a specification names, and verify each of its files.

    Raise BundleError if the bundle is missing or damaged, its digest differs from the one in the specification or in the result
    of its run, or a required signature is missing or invalid, and SpecError if the address has an unknown form.

    Parameters
    ----------
    spec_path : Path
        Base of a relative address.
    store : Store
        Store in which ``run:<id>`` and ``channel:<name>`` are looked up.
    must_be_signed : bool
        Whether to require a valid signature if ``MLHO_VERIFY_KEY`` is set.
    """
    with scratch_folder("mlho-bundle") as scratch:
        folder = _local_folder(source.uri, spec_path, store, scratch / "bundle")
        try:
            content = read_document(folder)
            listed = read_files(folder, _listed(content, source.uri))
            digest_file = (folder / DIGEST).read_bytes()
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), source.uri)) from error
    bundle = PinnedBundle({DOCUMENT: content, DIGEST: digest_file, **listed}, digest=facts_of(content).sha256)
    if source.digest is not None and source.digest != bundle.digest:
        raise BundleError(
            f"{source.uri}: another bundle. Expected digest {source.digest}; got {bundle.digest}. Correct bundle.uri, or "
            "bundle.digest if the model was meant to change."
        )
    if source.uri.startswith(RUN_BUNDLE):
        _refuse_other_than_result(source.uri, bundle, store)
    key = verify_key()
    if must_be_signed and key is not None:
        signatures = [*stored_signatures(store, bundle.digest), *_signature_beside(source.uri, spec_path)]
        check_signatures(bundle.files, signatures, key, where=source.uri)
    return bundle


def _refuse_other_than_result(uri: str, bundle: PinnedBundle, store: Store) -> None:
    """Refuse a bundle other than the one that the result of its run describes. The gates of the run apply to that one only."""
    run = uri.removeprefix(RUN_BUNDLE)
    try:
        expected = read_document_of(store, run, run_key(run, "result.json"))["final_model"]["bundle_digest"]
    except ArtifactNotFound:
        raise BundleError(
            f"run {run}: not finished (result.json is missing). It is unknown which bundle it produced. Run its "
            "specification again to continue "
            "it, or name a finished run."
        ) from None
    if bundle.digest != expected:
        raise BundleError(
            f"run {run}: its bundle is not the one that its result describes. Expected digest {expected}; got "
            f"{bundle.digest}. Do not use it: find out who "
            "changed the store, delete the bundle of the run, and run its specification again."
        )


def stored_signatures(store: Store, digest: str) -> list[bytes]:
    """Return the signatures of the bundle with this digest that promotions have created."""
    return store.each(store.get, list(store.keys(signature_prefix(digest))))


def _signature_beside(uri: str, spec_path: Path) -> list[bytes]:
    """Return the signature in the file next to a bundle's folder, if there is one."""
    if uri.startswith((RUN_BUNDLE, CHANNEL_BUNDLE)):
        return []
    if uri.startswith("s3://"):
        parent, _, name = uri.rstrip("/").rpartition("/")
        try:
            return [open_store(parent).get(name + SUFFIX)]
        except ArtifactNotFound:
            return []
    folder = Path(uri.removeprefix("file://")) if "://" in uri else local_folder(uri, spec_path)
    file = folder.with_name(folder.name + SUFFIX)
    return [file.read_bytes()] if file.is_file() else []


def _local_folder(uri: str, spec_path: Path, store: Store, scratch: Path) -> Path:
    """Return a local folder with the bundle's files. Fetch them to the scratch folder if they are in a store."""
    if uri.startswith(RUN_BUNDLE):
        run = uri.removeprefix(RUN_BUNDLE)
        if not any(store.keys(run_key(run, ""))):
            raise SpecError(
                f"bundle {uri}: the store has no such run. Correct the id or --store; mlho list shows the runs of a store."
            )
        return _fetch(store, run_key(run, _BUNDLE_FOLDER), scratch, where=uri)
    if uri.startswith(CHANNEL_BUNDLE):
        return _fetch(store, model_key(entry_at(uri, store).bundle, ""), scratch, where=uri)
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return local_folder(uri, spec_path)
    if scheme == "file":
        return Path(rest)
    if scheme == "s3":
        return _fetch(open_store(uri.rstrip("/")), "", scratch, where=uri)
    raise SpecError(
        f"bundle.uri {uri[:100]!r}: expected a folder, an address in object storage (s3://…), run:<run id or name>, or "
        "channel:<name>."
    )


def _fetch(store: Store, prefix: str, folder: Path, *, where: str) -> Path:
    """Copy the listed files of a bundle from a store to a folder. They are verified when they are read."""
    try:
        document = store.get(prefix + DOCUMENT)
        names = [DIGEST, *_listed(document, where)]
        files = {DOCUMENT: document, **{name: store.get(prefix + name) for name in names}}
    except ArtifactNotFound as error:
        raise BundleError(
            f"{where}: no complete bundle there. Expected {DOCUMENT} and the files that it lists. Correct bundle.uri; a run has "
            "its bundle once it is finished."
        ) from error
    write_files(folder, files)
    return folder


def _listed(document: bytes, where: str) -> dict[str, FileFacts]:
    """Return the files that a ``bundle.json`` lists. Reject names that are not allowed in a bundle."""
    try:
        entries = json.loads(document)["files"]
        facts = {str(name): FileFacts(entry["sha256"], entry["bytes"]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{where}: {DOCUMENT} does not list the bundle's files. Fetch it again, or build it again."
        ) from error
    if len(facts) > _MAX_FILES or not all(is_bundle_file(name) for name in facts):
        raise BundleError(
            f"{where}: {DOCUMENT} lists files that are not allowed in a bundle. Do not use it; build it again."
        )
    return facts


@dataclass(frozen=True)
class ScoringRun:
    """A scoring run before its start: specification, bundle and pinned inputs."""

    spec: ScoringRunSpec
    bundle: PinnedBundle
    manifest: Manifest
    data: Path | str
    store: Store
    inspects: bool = False
    """Whether a task inspects the tables before anything is scored; see :class:`scheduler.engine.training_run.TrainingRun`."""
    compared: PinnedBundle | None = None
    """Another bundle that scores the same samples, for comparison."""

    @property
    def run_id(self) -> str:
        """Return the identity: the hash of the specification, the inputs and the bundles."""
        return scoring_run_id(
            self.spec.spec, self.manifest.plain(), self.bundle.digest, self._compared_digest
        )

    @property
    def _compared_digest(self) -> str | None:
        return None if self.compared is None else self.compared.digest

    def describe(self) -> None:
        """Write the specification, the manifest of the inputs, and the bundle."""
        write_description(self.store, self.run_id, spec_yaml(self.spec), self.manifest)
        self.bundle.pin(self.store)
        if self.compared is not None:
            self.compared.pin(self.store)

    def first_plan(self) -> Plan:
        """Return the inspection of the tables and its inputs; without it, all tasks."""
        whole = self.whole_plan({})
        return {name: whole[name] for name in (BUNDLE_TASK, INSPECTION_TASK)} if self.inspects else whole

    def whole_plan(self, commits: Mapping[str, Commit]) -> Plan:
        """Return all tasks. They follow from the specification and the manifest alone."""
        plan = plan_scoring(self.spec.spec, self.manifest, self.bundle.digest, self._compared_digest)
        return {**plan, INSPECTION_TASK: self._inspection()} if self.inspects else plan

    def _inspection(self) -> PlannedTask:
        plain = self.spec.spec.model_dump(mode="json", by_alias=True)
        params = {"data": {**plain["data"], "uri": "."}, "index": plain["index"]}
        return PlannedTask(
            INSPECTION_TASK,
            "inspect_scored",
            "cohort",
            params=params,
            sources=inspected_files(self.manifest),
            needs={"bundle": (BUNDLE_TASK,)},
        )

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Publish the parts and their summary. The manifest comes last, so that readers see all scores or none."""
        if INSPECTION_TASK in commits:
            for name, stored in commits[INSPECTION_TASK].files.items():
                publish_blob(self.store, stored.sha256, run_key(self.run_id, name))
        commit = commits[SCORES_TASK]
        sha256 = commit.files[SCORES_MANIFEST].sha256
        refuse_other_result(self.store, self.run_id, self.key(SCORES_MANIFEST), sha256, _parts_digest)
        manifest = json.loads(self.store.get(blob_key(sha256)))
        if not self.store.exists(self.key(SCORES_MANIFEST)):  # once published, it stays
            check_counts(self.spec, manifest["scores"], self.store)
        for part in manifest["parts"]:
            for file in (part, *part.get("delivered", ())):
                self._publish(file["sha256"], file["name"])
        if COMPARISON_TASK in commits:
            self._publish(commits[COMPARISON_TASK].files[COMPARISON_FILE].sha256, COMPARISON_FILE)
        advised = self._advised_manifest(manifest["scores"].get("advice"))
        if advised is not None:
            self.store.put_if_absent(self.key(RETRAIN_FILE), advised)
        for name in (SCORES_FILE, SCORES_MANIFEST):
            self._publish(commit.files[name].sha256, name)
        return commit

    def _advised_manifest(self, advice: Mapping[str, Any] | None) -> bytes | None:
        """Return the manifest of the run that trains again, if that is the advice and the store has the specification of training."""
        if advice is None or advice["action"] != "retrain":
            return None
        trained = training_spec(self.spec.spec.bundle, self.store)
        return None if trained is None else retraining_yaml(trained, RETRAIN_FILE)

    def key(self, name: str) -> str:
        """Return the key of a published file."""
        return run_key(self.run_id, f"{self.spec.spec.output.prefix}/{name}")

    def _publish(self, sha256: str, name: str) -> None:
        publish_blob(self.store, sha256, self.key(name))


def _parts_digest(manifest: Mapping[str, Any]) -> str:
    return digest_of([part["sha256"] for part in manifest["parts"]])


def prepare_scoring(
    spec: ScoringRunSpec,
    spec_path: Path,
    store: Store,
    *,
    inspect: Callable[[ScoringRunSpec, Path | str, bytes | None], object] | None = None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> ScoringRun:
    """Read the bundle, check that the specification fits it, and pin the inputs.

    The run's own specification names the bundle by run id and digest, even if the given one uses the name of a run. Errors are
    raised before anything is written.
    """
    spec = with_run_id(spec, store)
    bundles = {field: read_bundle(source, spec_path, store) for field, source in _bundles(spec).items()}
    bundle, compared = bundles["bundle"], bundles.get("compare_with")
    check_document(bundle.files, spec.spec)
    if compared is not None:
        check_compared(bundle.files, compared.files, spec.spec)
    check_not_future(spec.spec, now())
    data = data_root(spec, spec_path)
    if inspect is not None:
        inspect(spec, data, bundle.files[DOCUMENT])
    manifest = make_manifest(spec.spec.data.tables, data, source=spec.spec.data.source)
    check_files(spec, manifest, store)
    pinned = {
        field: source.model_copy(update={"digest": bundles[field].digest})
        for field, source in _bundles(spec).items()
    }
    return ScoringRun(
        with_fields(spec, **pinned),
        bundle,
        manifest,
        data,
        store,
        inspects=inspect is None,
        compared=compared,
    )


def with_run_id(spec: ScoringRunSpec, store: Store, *, accepted: str | None = None) -> ScoringRunSpec:
    """Return the specification with ``run:NAME`` or ``channel:NAME`` as bundle replaced by the bundle to which it refers now.

    That is the id of the newest training run of that name, or the newest entry of the channel with the digest of its bundle.
    Raise SpecError if there is no such run or channel, the newest run is not finished, or the channel has no entry.

    Parameters
    ----------
    accepted : str, optional
        Id of this run, if it was accepted before: then it keeps the bundle that was found at that time.
    """
    named = {field: source for field, source in _bundles(spec).items() if _is_resolved_later(source)}
    if not named:
        return spec
    if accepted is not None:
        # If a failover ended the run before it was described, the name is resolved as at the start.
        with suppress(ArtifactNotFound):
            before = _bundles(parse_scoring_spec(store.get(run_key(accepted, "spec.yaml")).decode()))
            return with_fields(spec, **{field: before[field] for field in named})
    return with_fields(spec, **{field: bundle_now(source, store) for field, source in named.items()})


def _bundles(spec: ScoringRunSpec) -> dict[str, BundleSource]:
    """Return the bundle, and the one to compare with, by field."""
    other = spec.spec.compare_with
    return {"bundle": spec.spec.bundle} | ({} if other is None else {"compare_with": other})


def _is_resolved_later(source: BundleSource) -> bool:
    """Return whether an address may name a different bundle later: a channel, or the name of a run."""
    name = source.uri.removeprefix(RUN_BUNDLE)
    return source.uri.startswith(CHANNEL_BUNDLE) or not (name == source.uri or RUN_ID.fullmatch(name))


def bundle_now(source: BundleSource, store: Store) -> BundleSource:
    """Resolve ``run:NAME`` or ``channel:NAME``; return any other source unchanged.

    Raise SpecError if there is no such run or channel, the newest run is not finished, or the channel has no entry.
    """
    if not _is_resolved_later(source):
        return source
    if source.uri.startswith(CHANNEL_BUNDLE):
        entry = entry_at(source.uri, store)
        # A digest that was asked for stays, and is compared.
        return source.model_copy(update={"uri": entry.address, "digest": source.digest or entry.bundle})
    run = finished_run(stored_runs(store), source.uri.removeprefix(RUN_BUNDLE), kind=MODELS)
    return source.model_copy(update={"uri": RUN_BUNDLE + run.run_id})
