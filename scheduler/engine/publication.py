"""Files of a run in the store under readable names: its description at the start, and what it publishes."""

import yaml

from mlho.errors import ArtifactDamaged
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec, canonical_json
from mlho.steps.base import verified_blob
from mlho.store.base import Store
from mlho.store.keys import blob_key, run_key
from scheduler.engine.plan import Manifest


def write_description(store: Store, name: str, spec: RunSpec | ScoringRunSpec, manifest: Manifest) -> None:
    """Write the specification and the manifest of a run before it starts."""
    store.put_if_absent(run_key(name, "spec.yaml"), spec_yaml(spec))
    store.put_if_absent(run_key(name, "manifest.json"), canonical_json(manifest.plain()))


def spec_yaml(spec: RunSpec | ScoringRunSpec) -> bytes:
    """Return a specification as YAML, without its defaults."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"apiVersion": spec.api_version, "kind": spec.kind}
    return yaml.safe_dump(document, sort_keys=False).encode()


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
