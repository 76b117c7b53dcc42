"""Faults of a bundle or a date before a night: each is refused with a remedy, and no patient is scored."""

import datetime as dt
import json
import shutil

import pyarrow as pa
import pytest
import yaml

from mlho.errors import BundleError, DataError, SpecError
from mlho.model.files import digest_line
from mlho.spec.scoring import parse_scoring_spec
from mlho.store.keys import model_key
from mlho.store.local import LocalStore
from scheduler.engine.scoring_run import prepare_scoring
from scheduler.registry.promotion import promote
from scheduler.runs.stored import find_run, stored_runs
from tests.unit.scheduler.runs.planted import author, passed
from tests.unit.scoring.conftest import AS_OF, make_score_document, prepare, score_inline
from tests.unit.scoring.test_scoring_refuses import refused

CHANNEL = {"bundle": {"uri": "channel:production"}}
FILES = ("bundle.json", "bundle.sha256", "model/model.json", "tests/golden.json")


@pytest.fixture(scope="module")
def promoted_store(trained, tmp_path_factory):
    """Return the store of the training run, with a channel that points to its model."""
    store = LocalStore(shutil.copytree(trained.store.root, tmp_path_factory.mktemp("promoted") / "store"))
    run = find_run(stored_runs(store), trained.home.finished.run_id)
    digest = promote(store, run, "production", author(), test=passed).entry.bundle
    return store, digest


def test_a_channel_scores_like_the_bundle_itself(trained, promoted_store):
    """A channel and its bundle give the same run id, so a night scored by one of them is not scored again by the other."""
    store, digest = promoted_store
    by_channel = score_inline(trained.folder, store, CHANNEL)
    by_folder = prepare(trained.folder, store)

    assert by_channel.run.run_id == by_folder.run_id
    assert by_channel.run.bundle.digest == by_folder.bundle.digest == digest
    written = yaml.safe_load(store.get(f"runs/{by_channel.run.run_id}/spec.yaml"))
    assert written["spec"]["bundle"] == {"uri": "channel:production/1", "digest": digest}


@pytest.mark.parametrize("name", FILES)
def test_one_bit_of_any_file_of_the_model_in_use_is_refused(name, trained, promoted_store):
    """A bit at the start, in the middle or at the end of a file is enough."""
    store, digest = promoted_store
    key = model_key(digest, name)
    whole = store.get(key)
    for place in (0, len(whole) // 2, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 1
        store.delete(key)
        store.put_if_absent(key, bytes(data))
        with pytest.raises(BundleError, match=r"channel:production.*(again|[Dd]o not use)"):
            prepare(trained.folder, store, CHANNEL)
    store.delete(key)
    store.put_if_absent(key, whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.update(schema="mlho.io/bundle/v99"), "v99"),
        (lambda document: document.pop("features"), "features"),
        (lambda document: document.update(features=[]), "bundle"),
    ],
    ids=["another major version", "no dictionary", "empty dictionary"],
)
def test_a_bundle_of_another_shape_is_refused(change, words, trained, beside):
    """A bundle of another schema or without features is refused even if its digest fits."""
    folder = beside()
    target = (folder / "bundle").resolve()
    (folder / "bundle").unlink()
    shutil.copytree(target, folder / "bundle")
    document = json.loads((folder / "bundle/bundle.json").read_bytes())
    change(document)
    content = json.dumps(document).encode()
    (folder / "bundle/bundle.json").write_bytes(content)
    (folder / "bundle/bundle.sha256").write_bytes(digest_line(content))

    assert words in refused(folder, BundleError)


def test_a_new_vocabulary_is_refused(trained, beside, tmp_path):
    """Events whose codes all belong to another vocabulary are refused, because none is a code of the bundle."""
    events = trained.tables.events
    place = events.schema.get_field_index("code")
    renamed = pa.array([code and f"SNOMED:{code}" for code in events.column("code").to_pylist()])
    tables = type(trained.tables)(
        **(vars(trained.tables) | {"events": events.set_column(place, "code", renamed)})
    )

    folder = beside(tables)
    assert "no code of the bundle occurs" in refused(folder, DataError)
    allowed = score_inline(folder, LocalStore(tmp_path / "store"), {"checks": {"emptySamples": "warn"}})
    assert any("has one of the" in words for words in allowed.scores["warnings"])


def test_a_date_in_the_future_is_refused_when_the_run_is_submitted(trained, tmp_path):
    """A date is refused until it has begun in all time zones; ``futureDate: allow`` accepts dates shifted into the future."""
    store = LocalStore(tmp_path / "store")

    def at(now: str, **checks: object):
        spec = parse_scoring_spec(yaml.safe_dump(make_score_document({**AS_OF, "checks": checks})))
        moment = dt.datetime.fromisoformat(now)
        return prepare_scoring(
            spec, trained.folder / "score.yaml", store, inspect=lambda *_: None, now=lambda: moment
        )

    with pytest.raises(SpecError, match=r"Expected 2019-04-30 or earlier.*got 2019-05-01.*futureDate: allow"):
        at("2019-04-30T09:59:00+00:00")
    run = at("2019-04-30T10:00:00+00:00")
    assert at("2018-01-01T00:00:00+00:00", futureDate="allow").manifest == run.manifest
    assert "checks" not in yaml.safe_dump(run.spec.model_dump(mode="json", exclude_defaults=True))


def test_two_specifications_never_share_a_folder_of_scores(trained, promoted_store):
    """The prefix is below the run's id, which is the hash of the specification, so scores are never overwritten."""
    store, _ = promoted_store
    first = prepare(trained.folder, store, {**CHANNEL, "output": {"prefix": "nightly"}})
    other = prepare(
        trained.folder, store, {**CHANNEL, "output": {"prefix": "nightly"}, "explain": {"topReasons": 0}}
    )

    assert first.key("manifest.json") != other.key("manifest.json")
