"""Export of a finished run's files to a folder: fetched from its store, verified, and written
completely or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mlho import __version__
from mlho.errors import ArtifactDamaged, ArtifactNotFound, SpecError
from mlho.report.digest import result_digest
from mlho.steps.base import verified_blob
from mlho.store.base import Store, checked_key, file_digest
from mlho.store.keys import RUNS, blob_key, run_key

RESULT: Final = "result.json"
REPORT: Final = "report.html"
BUNDLE: Final = "bundle"
MLFLOW_MODEL: Final = "MLmodel"
_PREFIX: Final = "scores"
_MANIFEST: Final = "manifest.json"

Content = bytes | Path


@dataclass(frozen=True)
class Exported:
    """The contents of the folder after an export."""

    run: str
    folder: Path
    n_files: int
    n_bytes: int
    is_new: bool
    """Whether this call wrote the folder; a folder with equal content is left unchanged."""
    outputs: Mapping[str, str]
    """The main outputs, under the field names of a custom resource's ``status.outputs``."""


def export_run(
    store: Store, run: str, folder: Path, *, expected_digest: str | None = None, mlflow: bool = False
) -> Exported:
    """Write report, result and bundle of a training run, or the scores of a scoring run, into a folder.

    Raise SpecError if the run is not in the store or not finished, the folder has other content, or a scoring run has no model
    for MLflow, and ArtifactDamaged if the bytes differ from those that were committed.

    Parameters
    ----------
    folder : Path
        A new folder, or one with exactly these files, which is left unchanged. It appears only when it is complete.
    expected_digest : str, optional
        The ``resultDigest`` that the caller knows, such as from a resource's status.
    mlflow : bool
        Whether the folder is also a model that MLflow loads.
    """
    kind, prefix = _kind_of(store, run)
    if kind == "ScoringRun":
        if mlflow:
            raise SpecError(
                f"run {run}: --mlflow exports a model. Expected a training run; got a scoring run."
            )
        files, outputs = _scores(store, run, prefix), {"scores": f"{prefix}/{_MANIFEST}"}
    else:
        result = _committed(store, run, RESULT)  # published last: it marks the run as finished
        digest = _result_digest(result, expected_digest, run)
        files = {RESULT: result, **_other_files(store, run)}
        if mlflow:
            files[MLFLOW_MODEL] = _mlflow_model(run, json.loads(result), digest, files)
        outputs = {"resultDigest": digest, "bundle": BUNDLE, "report": REPORT}
    is_new = _write(folder, files)
    places = {
        name: value if name == "resultDigest" else f"{folder}/{value}" for name, value in outputs.items()
    }
    return Exported(run, folder, len(files), sum(map(_size, files.values())), is_new, places)


def output_lines(run: str, outputs: Mapping[str, str]) -> Iterator[str]:
    """Yield the outputs of a run, one line each.

    A local run, a run in a cluster and an exported run print the same lines.
    """
    yield f"run      {run}"
    for name, key in (
        ("result", "resultDigest"),
        *((output, output) for output in ("bundle", "report", "scores")),
    ):
        if outputs.get(key):
            yield f"{name:<8} {outputs[key]}"


def split_output(address: str, run: str) -> str:
    """Return the address of the store that contains an output of a run.

    Examples
    --------
    >>> split_output("s3://bucket/mlho/runs/0a1b/report.html", "0a1b")
    's3://bucket/mlho'
    """
    store, separator, _ = address.partition(f"/{RUNS}/{run}/")
    if not separator:
        raise SpecError(
            f"{address[:200]!r}: not in the folder of run {run[:64]}. Give the store's address with --store and the run's id."
        )
    return store


def _kind_of(store: Store, run: str) -> tuple[str, str]:
    try:
        document = yaml.safe_load(store.get(run_key(run, "spec.yaml")))
    except ArtifactNotFound:
        raise SpecError(f"run {run}: the store has no such run. mlho list shows its runs.") from None
    return document["kind"], document["spec"].get("output", {}).get("prefix", _PREFIX)


def _other_files(store: Store, run: str) -> dict[str, Content]:
    start = len(run_key(run, ""))
    names = [key[start:] for key in store.keys(run_key(run, f"{BUNDLE}/"))]
    return {name: _committed(store, run, name) for name in (REPORT, *names)}


def _mlflow_model(run: str, result: Mapping[str, Any], digest: str, files: Mapping[str, Content]) -> bytes:
    """Return the description of the folder as an MLflow model. It contains no time, so that equal runs give equal bytes."""
    bundle = _digest(files[f"{BUNDLE}/bundle.json"])
    document = {
        "flavors": {"python_function": {"loader_module": "mlho.pyfunc", "data": BUNDLE}},
        "model_uuid": bundle[:32],
        "metadata": {
            "mlho_version": __version__,
            "run": run,
            "bundle_digest": bundle,
            "result_digest": digest,
            "metrics": {
                name: figure["mean"] for name, figure in result["headline"].items() if "mean" in figure
            },
        },
    }
    return yaml.safe_dump(document, sort_keys=False).encode()


def _scores(store: Store, run: str, prefix: str) -> dict[str, Content]:
    """Return the manifest, which is published last, and the files that it names.

    Parts stay in files, because they may be large.
    """
    content = _committed(store, run, f"{prefix}/{_MANIFEST}")
    files: dict[str, Content] = {f"{prefix}/{_MANIFEST}": content}
    files[f"{prefix}/scores.json"] = _committed(store, run, f"{prefix}/scores.json")
    for part in json.loads(content)["parts"]:
        for file in (part, *part.get("delivered", ())):
            name = f"{prefix}/{file['name']}"
            try:
                files[name] = verified_blob(store, file["sha256"])
            except ArtifactDamaged:
                raise ArtifactDamaged(
                    f"{run_key(run, name)}: its artifact (blob {file['sha256'][:12]}…) is damaged or missing. Delete this file, and run "
                    "the specification again, a night with --again: it is computed and published again.",
                    sha256=file["sha256"],
                ) from None
    return files


def _committed(store: Store, run: str, name: str) -> bytes:
    """Return a published file after verification: it is a copy of a blob, whose name is the digest of its bytes."""
    try:
        content = store.get(run_key(run, name))
    except ArtifactNotFound:
        raise SpecError(
            f"run {run}: not finished ({name} is not there). Run its specification again to continue it."
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if not store.exists(blob_key(digest)):
        raise ArtifactDamaged(
            f"{run_key(run, name)}: its bytes are not those that were committed. Expected a SHA-256 that the store knows; "
            f"got {digest[:12]}…. Delete the file, and run the specification again: it is published again.",
            sha256=digest,
        )
    return content


def _result_digest(content: bytes, expected: str | None, run: str) -> str:
    digest = result_digest(json.loads(content))
    if expected is not None and digest != expected:
        raise ArtifactDamaged(
            f"run {run}: another result. Expected the digest {expected[:64]}; got {digest}. Check that --store and the "
            "endpoint are those of the cluster."
        )
    return digest


def _write(folder: Path, files: Mapping[str, Content]) -> bool:
    """Write all files or none. Return whether the folder was written."""
    if folder.exists() or folder.is_symlink():
        if _contains_all(folder, files):
            return False
        raise SpecError(f"{folder}: exists and contains other files. Choose a new folder with --to.")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        for name, content in files.items():
            _write_one(partial / checked_key(name), content)
        partial.rename(folder)
    except OSError as error:
        raise SpecError(
            f"{folder}: cannot be written ({error.strerror}). Give a new folder on a disk with enough space, with --to."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _write_one(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)


def _contains_all(folder: Path, files: Mapping[str, Content]) -> bool:
    if not folder.is_dir():
        return False
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return present == set(files) and all(
        file_digest(folder / name) == _digest(content) for name, content in files.items()
    )


def _digest(content: Content) -> str:
    return file_digest(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _size(content: Content) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)
