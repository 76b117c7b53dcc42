"""Files of a run in the store under readable names: its description at the start, and its published outputs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from mlho.errors import ArtifactDamaged, PublishedBefore
from mlho.model.files import facts_of
from mlho.spec.data import EarlierRun
from mlho.spec.scoring import RUN_BUNDLE, ScoringRunSpec
from mlho.spec.training import RunSpec, canonical_json
from mlho.steps.base import verified_blob
from mlho.steps.records import StoredFile
from mlho.store.base import Store, get_if_present
from mlho.store.keys import blob_key, run_key
from mlho.store.s3_settings import SCHEME
from scheduler.engine.plan import Manifest

_MAX_NAME: Final = 63


def write_description(store: Store, name: str, spec: bytes, manifest: Manifest) -> None:
    """Write the specification, in YAML, and the manifest of a run before it starts."""
    store.put_if_absent(run_key(name, "spec.yaml"), spec)
    store.put_if_absent(run_key(name, "manifest.json"), canonical_json(manifest.plain()))


def spec_yaml(spec: RunSpec | ScoringRunSpec) -> bytes:
    """Return a specification as YAML, without its defaults."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"apiVersion": spec.api_version, "kind": spec.kind}
    return yaml.safe_dump(document, sort_keys=False).encode()


def with_fields[Spec: (RunSpec, ScoringRunSpec)](spec: Spec, **fields: Any) -> Spec:
    """Return a specification with some fields of its section ``spec`` replaced. The new values are not validated."""
    return spec.model_copy(update={"spec": spec.spec.model_copy(update=fields)})


def renamed(spec: RunSpec, suffix: str) -> RunSpec:
    """Return a specification with a suffix added to its name. The name is shortened to the maximum length first."""
    name = f"{spec.metadata.name[: _MAX_NAME - len(suffix)].rstrip('-.').removesuffix(suffix)}{suffix}"
    return spec.model_copy(update={"metadata": spec.metadata.model_copy(update={"name": name})})


def retraining_yaml(trained: RunSpec, file: str) -> bytes:
    """Return the manifest of a run that retrains on the current version of the training tables.

    Its comment lists the tables to renew first.

    If the training run was compared with an earlier run, the next one is compared with the training run.
    """
    retraining, section = renamed(trained, "-retrained"), trained.spec
    if section.compare_with is not None:
        earlier = EarlierRun(uri=RUN_BUNDLE + trained.metadata.name)
        retraining = with_fields(retraining, compare_with=earlier)
    uri = section.data.uri
    place = f"data.uri: {uri}"
    if "://" not in uri and not Path(uri).expanduser().is_absolute():
        place += ", which is relative to this file: move it beside the specification of training"
    tables = ", ".join(
        f"{name} {path}" for name, path in section.data.tables.model_dump(exclude_none=True).items()
    )
    dates = {
        "cohort.index.date": section.cohort.index.date,
        "validation.testFrom": section.validation.test_from,
        "validation.origins": section.validation.origins and section.validation.origins[-1],
    }
    fixed = ", ".join(f"{name} {day}" for name, day in dates.items() if day is not None)
    lines = [
        f"mlho run {file}{cluster_command(retraining, file)}: retrains with the training specification under a new name.",
        f"First renew the tables of training: {tables}. The same tables give the same model.",
        f"They are read from {place}.",
        *([f"Move its dates to the new tables: {fixed}."] if fixed else []),
    ]
    return "".join(f"# {line}\n" for line in lines).encode() + spec_yaml(retraining)


def cluster_command(spec: RunSpec, file: str) -> str:
    """Return how the manifest is submitted in a cluster, to follow a command; empty if its tables are not in object storage.

    ``kubectl`` rejects fields of the metadata that Kubernetes does not know, such as ``title``; ``mlho submit`` turns them into annotations.
    """
    if not spec.spec.data.uri.startswith(SCHEME):
        return ""
    has_words = bool(spec.metadata.about) or spec.metadata.statements is not None
    return f", or in a cluster {'mlho submit' if has_words else 'kubectl apply -f'} {file}"


def put_blobs(store: Store, files: Mapping[str, bytes]) -> dict[str, StoredFile]:
    """Write files under their digests, for a commit record. Existing objects are not overwritten."""
    stored = {}
    for name, content in sorted(files.items()):
        facts = facts_of(content)
        key = blob_key(facts.sha256)
        if not store.put_if_absent(key, content) and not store.refresh(key):
            store.put_if_absent(key, content)
        stored[name] = StoredFile(sha256=facts.sha256, size=facts.n_bytes)
    return stored


def publish_blob(store: Store, sha256: str, key: str) -> None:
    """Verify a blob and publish it under a readable key. If it is damaged, delete that key.

    Raise ArtifactDamaged if its bytes do not match its digest.
    """
    try:
        verified_blob(store, sha256)
    except ArtifactDamaged:
        store.delete(key)
        raise
    store.copy_if_absent(blob_key(sha256), key)


def refuse_other_result(
    store: Store, run: str, key: str, sha256: str, digest: Callable[[Mapping[str, Any]], str]
) -> None:
    """Refuse to publish a run that another version of this program has published with another result.

    Parameters
    ----------
    key : str
        Published file of the run that completes it, in JSON.
    sha256 : str
        Blob that would be published as this file.
    digest : callable
        Returns the digest of the result in such a file.

    Raises
    ------
    PublishedBefore
        The digests differ.
    """
    published = get_if_present(store, key)
    if published is None:
        return
    before, now = (_digest(content, digest) for content in (published, store.get(blob_key(sha256))))
    if before != now:
        raise PublishedBefore(
            f"run {run}: its published result ({before[:12]}) differs from that of this version of the program ({now[:12]}): another "
            "version published it, or its file is damaged. Published files are not replaced, because channels and scoring runs may use them. To publish the "
            f"new result, run: mlho delete {run}. Then run the same command again; it repeats no computed task."
        )


def _digest(content: bytes, digest: Callable[[Mapping[str, Any]], str]) -> str:
    try:
        return digest(json.loads(content))
    except (ValueError, LookupError, TypeError, AttributeError):  # damaged, or of a version with other fields
        return "unreadable"
