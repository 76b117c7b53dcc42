"""Lineage of a finished run: from the tables by specification and code to result, bundle and scores. Also as OpenLineage events and RO-Crate.

References
----------
OpenLineage 2.0 (https://openlineage.io/spec). RO-Crate 1.1 (https://w3id.org/ro/crate/1.1).
"""

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import yaml

from mlho.errors import plural
from mlho.report.digest import result_digest
from mlho.spec.training import canonical_json, digest_of
from mlho.store.base import Store, file_digest
from mlho.store.keys import run_key
from scheduler.runs.stored import SCORING, StoredRun, read_document

PRODUCER: Final = "https://mlho.io/mlho-batch"
CRATE_FILE: Final = "ro-crate-metadata.json"
_EVENT_SCHEMA: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_VERSION_FACET: Final = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json"
_JOB_FACET: Final = "https://openlineage.io/spec/facets/2-0-3/JobTypeJobFacet.json"
_RUN_FACET: Final = "https://mlho.io/schemas/MlhoRunFacet-1.json"  # OpenLineage allows facets with a prefix
_CONTEXT: Final = "https://w3id.org/ro/crate/1.1/context"
_TYPES: Final[Mapping[str, str]] = {
    ".json": "application/json",
    ".html": "text/html",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".ubj": "application/octet-stream",
}


@dataclass(frozen=True)
class Dataset:
    """An input or output with its content's digest."""

    role: str
    """``events``, ``labels``, …, ``bundle``, ``result`` or ``scores``."""
    namespace: str
    name: str
    """Location: root address, and path below it."""
    digest: str
    """SHA-256 of its content, or of the list of its files with size and version."""
    n_files: int = 0
    n_bytes: int = 0
    """0 if unknown."""


@dataclass(frozen=True)
class RunLineage:
    """The inputs, software and outputs of a run."""

    run_id: str
    name: str
    kind: str
    started: dt.datetime | None
    ended: dt.datetime | None
    spec_digest: str
    """SHA-256 of the specification without its metadata."""
    versions: Mapping[str, str]
    """Software that computed the result; empty if it is not recorded."""
    inputs: Sequence[Dataset]
    outputs: Sequence[Dataset]


def run_lineage(store: Store, run: StoredRun, *, address: str) -> RunLineage:
    """Return the lineage of a finished run, from its folder in the store.

    ``address`` is that of the store, the namespace of the outputs. Raise ArtifactNotFound if the run's description is incomplete.
    """
    document = yaml.safe_load(store.get(run_key(run.run_id, "spec.yaml")))
    tables = read_document(store, run.run_id, run_key(run.run_id, "manifest.json"))
    inputs = [_table(document["spec"]["data"].get("uri", "."), name, files) for name, files in tables.items()]
    versions: Mapping[str, str] = {}
    folder = run_key(run.run_id, "")
    if run.kind == SCORING:
        manifest = store.get(run.result or "")
        bundle = document["spec"]["bundle"]
        inputs.append(Dataset("bundle", bundle["uri"], "bundle", bundle.get("digest", "")))
        outputs = [Dataset("scores", address, run.result or "", hashlib.sha256(manifest).hexdigest())]
    else:
        result = read_document(store, run.run_id, run_key(run.run_id, "result.json"))
        versions = result["lineage"]["versions"]
        outputs = [
            Dataset("result", address, f"{folder}result.json", result_digest(result)),
            Dataset("bundle", address, f"{folder}bundle", result["final_model"]["bundle_digest"]),
        ]
    record = run.record
    return RunLineage(
        run.run_id,
        run.name,
        run.kind,
        record.started if record is not None else None,
        record.ended if record is not None else None,
        digest_of(document["spec"]),
        versions,
        tuple(inputs),
        tuple(outputs),
    )


def _table(uri: str, name: str, files: Sequence[Mapping[str, Any]]) -> Dataset:
    digest = hashlib.sha256(canonical_json(list(files))).hexdigest()
    return Dataset(name, uri, name, digest, len(files), sum(int(file["size"]) for file in files))


def openlineage_events(lineage: RunLineage, *, namespace: str) -> Iterator[dict[str, Any]]:
    """Yield the events START and COMPLETE of a run. Equal runs give equal events.

    Parameters
    ----------
    namespace : str
        Namespace of the jobs, such as ``mlho``.
    """
    kind = _facet(_JOB_FACET, processingType="BATCH", integration="MLHO", jobType=lineage.kind)
    job = {"namespace": namespace, "name": lineage.name, "facets": {"jobType": kind}}
    own_facet = _facet(
        _RUN_FACET, runId=lineage.run_id, specDigest=lineage.spec_digest, versions=dict(lineage.versions)
    )
    facets = {"mlho_run": own_facet}
    run = {"runId": str(uuid5(NAMESPACE_URL, f"{namespace}/{lineage.run_id}")), "facets": facets}
    common = {"run": run, "job": job, "producer": PRODUCER, "schemaURL": _EVENT_SCHEMA}
    inputs = [_dataset(dataset) for dataset in lineage.inputs]
    outputs = [_dataset(dataset) for dataset in lineage.outputs]
    for event, time, event_outputs in (("START", lineage.started, []), ("COMPLETE", lineage.ended, outputs)):
        stamp = time.isoformat() if time is not None else "1970-01-01T00:00:00+00:00"
        yield {"eventType": event, "eventTime": stamp, **common, "inputs": inputs, "outputs": event_outputs}


def _dataset(dataset: Dataset) -> dict[str, Any]:
    version = _facet(_VERSION_FACET, datasetVersion=dataset.digest)
    return {"namespace": dataset.namespace, "name": dataset.name, "facets": {"version": version}}


def _facet(schema: str, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": schema, **fields}


def crate(lineage: RunLineage, folder: Path) -> dict[str, Any]:
    """Return the RO-Crate metadata of an exported run, for an archive.

    Parameters
    ----------
    folder : Path
        As written by ``mlho export``; its files are listed with size and digest.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CRATE_FILE)
    files = [_file(path, folder) for path in paths]
    inputs = [_input(dataset) for dataset in lineage.inputs]
    software = [
        {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in sorted(lineage.versions.items())
    ]
    published = lineage.ended.date().isoformat() if lineage.ended is not None else None
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{lineage.kind} {lineage.name}",
        "identifier": lineage.run_id,
        "description": f"Outputs of run {lineage.run_id}; specification {lineage.spec_digest}.",
        "datePublished": published,
        "hasPart": _references(files),
        "mentions": {"@id": "#run"},
    }
    action = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"{lineage.kind} {lineage.run_id}",
        "startTime": lineage.started.isoformat() if lineage.started is not None else None,
        "endTime": lineage.ended.isoformat() if lineage.ended is not None else None,
        "object": _references(inputs),
        "result": _references(files),
        "instrument": _references(software),
    }
    descriptor = {
        "@id": CRATE_FILE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    graph: list[Mapping[str, Any]] = [descriptor, root, action, *files, *inputs, *software]
    return {
        "@context": _CONTEXT,
        "@graph": [{k: v for k, v in entity.items() if v is not None} for entity in graph],
    }


def _references(entities: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _file(path: Path, folder: Path) -> dict[str, Any]:
    return {
        "@id": path.relative_to(folder).as_posix(),
        "@type": "File",
        "contentSize": str(path.stat().st_size),
        "encodingFormat": _TYPES.get(path.suffix, "application/octet-stream"),
        "sha256": file_digest(path),
    }


def _input(dataset: Dataset) -> dict[str, Any]:
    return {
        "@id": f"#{dataset.role}",
        "@type": "Dataset",
        "name": dataset.role,
        "description": f"Not part of this archive. {plural(dataset.n_files, 'file')}, {dataset.n_bytes:,} bytes."
        if dataset.n_files
        else None,
        "sha256": dataset.digest,
    }
