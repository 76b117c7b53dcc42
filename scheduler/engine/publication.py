"""Files of a run in the store under readable names: its description at the start, and its published outputs."""

from collections.abc import Mapping
from typing import Final

import yaml

from mlho.errors import ArtifactDamaged
from mlho.model.files import facts_of
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec, canonical_json
from mlho.steps.base import verified_blob
from mlho.steps.records import StoredFile
from mlho.store.base import Store
from mlho.store.keys import blob_key, run_key
from scheduler.engine.plan import Manifest

_MAX_NAME: Final = 63


def write_description(store: Store, name: str, spec: RunSpec | ScoringRunSpec, manifest: Manifest) -> None:
    """Write the specification and the manifest of a run before it starts."""
    store.put_if_absent(run_key(name, "spec.yaml"), spec_yaml(spec))
    store.put_if_absent(run_key(name, "manifest.json"), canonical_json(manifest.plain()))


def spec_yaml(spec: RunSpec | ScoringRunSpec) -> bytes:
    """Return a specification as YAML, without its defaults."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"apiVersion": spec.api_version, "kind": spec.kind}
    return yaml.safe_dump(document, sort_keys=False).encode()


def renamed(spec: RunSpec, suffix: str) -> RunSpec:
    """Return a specification with a suffix to its name, which is cut to the length of a name."""
    name = f"{spec.metadata.name[: _MAX_NAME - len(suffix)].rstrip('-.').removesuffix(suffix)}{suffix}"
    return spec.model_copy(update={"metadata": spec.metadata.model_copy(update={"name": name})})


def retraining_yaml(trained: RunSpec) -> bytes:
    """Return the manifest of a run that trains on the tables of training again, as they are then."""
    head = (
        "# mlho run retrain.yaml, or kubectl apply -f retrain.yaml: the specification of training under another name.\n"
        f"# It reads the tables of training, data.uri: {trained.spec.data.uri}. Renew them first: the same tables give the same model.\n"
    )
    return head.encode() + spec_yaml(renamed(trained, "-retrained"))


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

    Raises
    ------
    ArtifactDamaged
        Its bytes do not match its digest.
    """
    try:
        verified_blob(store, sha256)
    except ArtifactDamaged:
        store.delete(key)
        raise
    store.copy_if_absent(blob_key(sha256), key)
