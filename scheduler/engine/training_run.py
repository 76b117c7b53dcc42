"""Runs that produce a model, for the run loop: a training run, and a recalibration. Their plans and published files."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import yaml

from mlho.errors import ArtifactNotFound, SpecError
from mlho.pseudonyms import fingerprint_here
from mlho.report.digest import result_digest
from mlho.spec.data import BundleSource
from mlho.spec.expansion import expand
from mlho.spec.scoring import RUN_BUNDLE
from mlho.spec.training import (
    RUN_ID_LENGTH,
    RunSpec,
    digest_of,
    normalised,
    parse_spec,
    run_id,
)
from mlho.steps import STEPS
from mlho.steps.base import IDS_KEY
from mlho.steps.records import Commit, StoredFile, write_commit
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.engine.cost import guess_rows, guess_samples, worker_bytes
from scheduler.engine.manifest import data_root, training_manifest, with_further
from scheduler.engine.plan import (
    BUNDLE_TASK,
    COHORT_TASK,
    INSPECTION_TASK,
    Manifest,
    Plan,
    PlannedTask,
    plan_cohort,
    plan_inspection,
    plan_run,
)
from scheduler.engine.publication import (
    publish_blob,
    refuse_other_result,
    spec_yaml,
    with_fields,
    write_description,
)
from scheduler.engine.scoring_run import PinnedBundle, bundle_now
from scheduler.runs.earlier import PinnedRun, address_now, compared_before, pin_params, pinned_run
from scheduler.runs.origin import known_files, training_spec
from scheduler.runs.stored import RECALIBRATION

EARLIER_TASK: Final = "earlier"
RECALIBRATE_TASK: Final = "recalibrate"


@dataclass(frozen=True)
class TrainingRun:
    """A training run before its start: specification, pinned inputs, data address and store."""

    spec: RunSpec
    manifest: Manifest
    data: Path | str
    store: Store
    inspects: bool = False
    """Whether a task inspects the tables before anything is encoded. A command inspects them itself; the operator cannot, because its image does not contain the libraries that read tables."""
    earlier: PinnedRun | None = None
    """The run that ``compareWith`` names."""
    ids_key: str | None = field(default_factory=fingerprint_here)
    """Fingerprint of the key that encrypts ids in artifacts. Not part of the identity: the result does not depend on it."""

    @property
    def run_id(self) -> str:
        """Return the identity: the hash of the specification and the inputs."""
        return run_id(self.spec, self.manifest.plain())

    def of_document(self) -> list[Self]:
        """Return the run of each of ``cohort.outcomes``, or of the document and of each of its ``variants``; without them this run."""
        before = self.spec.spec.further_tables
        return [
            replace(
                self,
                spec=spec,
                manifest=with_further(
                    self.manifest, self.data, before=before, further=spec.spec.further_tables
                ),
            )
            for spec in expand(self.spec)
        ]

    @property
    def worker_bytes(self) -> int:
        """Return the approximate memory of a worker process, estimated from the sizes of the tables: no rows have been counted."""
        tables = self.manifest.tables
        n_events = guess_rows((file.key, file.size) for file in tables["events"])
        n_labels = guess_rows((file.key, file.size) for file in tables.get("labels", ()))
        n_samples = n_labels or guess_samples(n_events)
        return round(worker_bytes(self.spec.spec, n_samples=max(1, n_samples), n_events=n_events))

    def describe(self) -> None:
        """Write the specification and the manifest, and refer to the earlier run."""
        write_description(self.store, self.run_id, spec_yaml(self.spec), self.manifest)
        if self.earlier is not None:
            write_commit(self.store, self.earlier.commit)

    def first_plan(self) -> Plan:
        """Return the cohort task, whose size determines the rest of the plan, and the inspection of the tables."""
        return {**_encrypting(plan_cohort(self.spec.spec, self.manifest), self.ids_key), **self._beside()}

    def _beside(self) -> Plan:
        """Return the inspection of the tables, and the task of the earlier run."""
        plan = plan_inspection(self.spec.spec, self.manifest) if self.inspects else {}
        if self.earlier is None:
            return plan
        params = pin_params(self.earlier.address)
        return {**plan, EARLIER_TASK: PlannedTask(EARLIER_TASK, "pin_earlier", "cohort", params=params)}

    def whole_plan(self, commits: Mapping[str, Commit]) -> Plan:
        """Return all tasks, once the cohort is committed."""
        facts = commits[COHORT_TASK].facts
        plan = plan_run(
            self.spec.spec,
            self.manifest,
            n_blocks=facts["n_blocks"],
            n_samples=facts["n_samples"],
            about=self.spec.metadata.about,
        )
        if self.earlier is not None:
            report = plan["report"]
            needs = {**report.needs, "earlier": (EARLIER_TASK,)}
            plan = {**plan, "report": replace(report, needs=needs)}
        return {**_encrypting(plan, self.ids_key), **self._beside()}

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Publish the bundle and the report. ``result.json`` comes last and marks the run as complete."""
        model, report = commits["model"].files, commits["report"].files
        published = {file: stored for file, stored in model.items() if file.startswith("bundle/")}
        published |= {file: stored for file, stored in report.items() if file != "result.json"}
        if INSPECTION_TASK in commits:
            published |= commits[INSPECTION_TASK].files
        published["result.json"] = report["result.json"]
        _refuse_other_result(self.store, self.run_id, report)
        for file, stored in published.items():
            publish_blob(self.store, stored.sha256, run_key(self.run_id, file))
        return commits["report"]


def _refuse_other_result(store: Store, run: str, files: Mapping[str, StoredFile]) -> None:
    refuse_other_result(store, run, run_key(run, "result.json"), files["result.json"].sha256, result_digest)


def _encrypting(plan: Plan, ids_key: str | None) -> Plan:
    """Return the plan with a key for each task whose output holds ids of patients."""
    if ids_key is None:
        return plan
    return {
        name: replace(task, params={**task.params, IDS_KEY: ids_key}) if STEPS[task.kind].writes_ids else task
        for name, task in plan.items()
    }


def compared(run: TrainingRun) -> TrainingRun:
    """Return a run whose specification pins its earlier run by id and digest.

    A finished run keeps its comparison: the same specification is the same run, even if it refers to the newest run of its own
    name. Raise MlhoError if the earlier run cannot be compared with.
    """
    earlier_run = run.spec.spec.compare_with
    if earlier_run is None:
        return run
    address = address_now(earlier_run, run.store)
    named = address.uri.removeprefix(RUN_BUNDLE)
    before = compared_before(named, run.store)
    is_itself = (
        before is not None and replace(run, spec=with_fields(run.spec, compare_with=before)).run_id == named
    )
    if before is not None and is_itself and earlier_run.digest in (None, before.digest):
        address = before
    earlier = pinned_run(address, run.store, outcome=run.spec.spec.cohort.outcome)
    return replace(run, spec=with_fields(run.spec, compare_with=earlier.address), earlier=earlier)


def with_pinned_earlier(spec: RunSpec, store: Store, *, accepted: str | None = None) -> RunSpec:
    """Return the specification with its earlier run resolved: to the current one, or to that of the time of acceptance.

    Raise SpecError if there is no such run or channel.
    """
    earlier_run = spec.spec.compare_with
    if earlier_run is None:
        return spec
    before = None if accepted is None else compared_before(accepted, store)
    return with_fields(spec, compare_with=before or address_now(earlier_run, store))


@dataclass(frozen=True)
class RecalibrationRun:
    """A recalibration before its start: one task that evaluates a bundle on recent labels and fits a new calibrator."""

    spec: RunSpec
    """The recent data, and the gates; without ``recalibrate``."""
    source: BundleSource
    """Address of the bundle: a run, or an entry of a channel."""
    bundle: PinnedBundle
    correction: str
    """``line`` or ``intercept``."""
    manifest: Manifest
    data: Path | str
    store: Store
    n_known_labels: int = 0
    """Number of label files that the bundle was also trained on."""

    @property
    def data_digest(self) -> str:
        """Return the digest of the inputs."""
        return digest_of(self.manifest.plain())

    @property
    def run_id(self) -> str:
        """Return the identity: the hash of bundle, inputs, specification and correction. That of ``mlho recalibrate`` is the same."""
        identity = {
            "bundle": self.bundle.digest,
            "data": self.data_digest,
            "spec": self.spec.digest,
            "correction": self.correction,
        }
        return digest_of({"recalibration": identity})[:RUN_ID_LENGTH]

    def describe(self) -> None:
        """Write the specification, which names the bundle that is recalibrated, the manifest and the bundle."""
        document = yaml.safe_load(spec_yaml(self.spec))
        document["kind"] = RECALIBRATION
        spec_fields = {
            "bundle": {"uri": self.source.uri, "digest": self.bundle.digest},
            "correction": self.correction,
        }
        document["spec"] = {**spec_fields, **document["spec"]}
        content = yaml.safe_dump(document, sort_keys=False).encode()
        write_description(self.store, self.run_id, content, self.manifest)
        self.bundle.pin(self.store)

    def first_plan(self) -> Plan:
        """Return all tasks."""
        return self.whole_plan({})

    def whole_plan(self, commits: Mapping[str, Commit]) -> Plan:
        """Return the task and its bundle."""
        params: dict[str, Any] = {
            "correction": self.correction,
            "data_digest": self.data_digest,
            "spec": normalised(self.spec.spec),
            **({"n_known_labels": self.n_known_labels} if self.n_known_labels else {}),
        }
        sources = tuple(file for files in self.manifest.tables.values() for file in files)
        return {
            BUNDLE_TASK: PlannedTask(
                BUNDLE_TASK, "pin_bundle", "bundle", params={"digest": self.bundle.digest}
            ),
            RECALIBRATE_TASK: PlannedTask(
                RECALIBRATE_TASK,
                "recalibrate_bundle",
                "model",
                params=params,
                sources=sources,
                needs={"bundle": (BUNDLE_TASK,)},
            ),
        }

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Publish the new bundle and its report. ``result.json`` comes last and marks the run as complete."""
        files = commits[RECALIBRATE_TASK].files
        _refuse_other_result(self.store, self.run_id, files)
        for name in sorted(files, key=lambda name: (name == "result.json", name)):
            publish_blob(self.store, files[name].sha256, run_key(self.run_id, name))
        return commits[RECALIBRATE_TASK]


def prepare_recalibration(
    spec: RunSpec,
    source: BundleSource,
    bundle: PinnedBundle,
    correction: str,
    spec_path: Path,
    store: Store,
    *,
    inspect: Callable[[RunSpec, Path | str], object] | None = None,
) -> RecalibrationRun:
    """Pin the inputs of a recalibration. The gates are those of the specification, or otherwise of the training run.

    Raise MlhoError if the run cannot start.

    Parameters
    ----------
    inspect : callable, optional
        Called with the specification and the address of the tables before these are hashed.
    """
    gated_spec = _gated(with_fields(spec, recalibrate=None), training_spec(source, store))
    data = data_root(gated_spec, spec_path)
    if inspect is not None:
        inspect(gated_spec, data)
    manifest = training_manifest(gated_spec, data)
    n_known = known_files(source, store, manifest.plain(), tables=["labels"])
    return RecalibrationRun(gated_spec, source, bundle, correction, manifest, data, store, n_known)


def _gated(spec: RunSpec, trained: RunSpec | None) -> RunSpec:
    """Return the specification with the gates of the training run if it has none itself."""
    if spec.spec.gates is not None or trained is None or trained.spec.gates is None:
        return spec
    try:
        return parse_spec(spec_yaml(with_fields(spec, gates=trained.spec.gates)).decode())
    except SpecError as error:
        raise SpecError(
            f"gates: those of the training run do not fit the specification of these data: {error} Correct it, or state gates in it."
        ) from error


def with_pinned_model(spec: RunSpec, store: Store, *, accepted: str | None = None) -> RunSpec:
    """Return the specification with the current address of its model, or, for a run accepted before, the address at that time.

    Raise SpecError if there is no such run or channel.
    """
    recalibrate = spec.spec.recalibrate
    if recalibrate is None:
        return spec
    source = None
    if accepted is not None:
        # If a failover happened before the run was described, the address is resolved as at the start.
        with suppress(ArtifactNotFound):
            before = yaml.safe_load(store.get(run_key(accepted, "spec.yaml")))["spec"]["bundle"]
            source = BundleSource(uri=before["uri"], digest=before["digest"])
    pinned = recalibrate.model_copy(update={"bundle": source or bundle_now(recalibrate.bundle, store)})
    return with_fields(spec, recalibrate=pinned)
