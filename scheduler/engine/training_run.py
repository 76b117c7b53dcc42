"""A training run for the run loop: its plan and its published files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from mlho.spec.expansion import expand
from mlho.spec.training import RunSpec, run_id
from mlho.steps.records import Commit
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.engine.cost import guess_rows, guess_samples, worker_bytes
from scheduler.engine.manifest import with_further
from scheduler.engine.plan import (
    COHORT_TASK,
    INSPECTION_TASK,
    Manifest,
    Plan,
    plan_cohort,
    plan_inspection,
    plan_run,
)
from scheduler.engine.publication import publish_blob, write_description


@dataclass(frozen=True)
class TrainingRun:
    """A training run before its start: specification, pinned inputs, data address and store.

    Attributes
    ----------
    inspects : bool
        Whether a task looks at the tables before anything is encoded. A command looks itself; the operator cannot, because
        its image does not contain the libraries that read tables.
    """

    spec: RunSpec
    manifest: Manifest
    data: Path | str
    store: Store
    inspects: bool = False

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
                spec=own,
                manifest=with_further(
                    self.manifest, self.data, before=before, further=own.spec.further_tables
                ),
            )
            for own in expand(self.spec)
        ]

    @property
    def worker_bytes(self) -> int:
        """Return about how much memory a worker process needs, guessed from the sizes of the tables: no row has been counted."""
        tables = self.manifest.tables
        n_events = guess_rows((own.key, own.size) for own in tables["events"])
        n_labels = guess_rows((own.key, own.size) for own in tables.get("labels", ()))
        n_samples = n_labels or guess_samples(n_events)
        return round(worker_bytes(self.spec.spec, n_samples=max(1, n_samples), n_events=n_events))

    def describe(self) -> None:
        """Write the specification and the manifest."""
        write_description(self.store, self.run_id, self.spec, self.manifest)

    def first_plan(self) -> Plan:
        """Return the cohort task, whose size determines the rest of the plan, and the look at the tables."""
        return {**plan_cohort(self.spec.spec, self.manifest), **self._inspection()}

    def _inspection(self) -> Plan:
        return plan_inspection(self.spec.spec, self.manifest) if self.inspects else {}

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
        return {**plan, **self._inspection()}

    def publish(self, commits: Mapping[str, Commit]) -> Commit:
        """Publish the bundle and the report. ``result.json`` comes last and marks the run as complete."""
        _publish(self, self.run_id, commits)
        return commits["report"]


def _publish(run: TrainingRun, name: str, commits: Mapping[str, Commit]) -> None:
    """Publish the bundle and the report in the run's folder.

    ``result.json`` comes last and marks the run as complete.
    """
    model = commits["model"].files
    published = {file: stored for file, stored in model.items() if file.startswith("bundle/")}
    report = commits["report"].files
    published |= {file: stored for file, stored in report.items() if file != "result.json"}
    if INSPECTION_TASK in commits:
        published |= commits[INSPECTION_TASK].files
    published["result.json"] = report["result.json"]
    for file, stored in published.items():
        publish_blob(run.store, stored.sha256, run_key(name, file))
