"""Channels in object storage: If-None-Match decides between concurrent promotions, and the whole log is verified."""

from pathlib import Path

import pytest

from mlho.errors import ChannelDamaged, SpecError
from mlho.spec.scoring import BundleSource
from mlho.store.keys import channel_key
from mlho.store.s3_settings import COMPAT
from mlho.store.s3_store import S3Store
from scheduler.engine.scoring_run import read_bundle
from scheduler.registry.promotion import roll_back
from scheduler.runs.channels import ChannelMoved, append_entry, inspect_channel, live_entry, read_channel
from tests.services.test_store_s3 import new_store
from tests.unit.scheduler.runs.planted import author, passed, plant_run, promoted
from tests.unit.scheduler.runs.test_channels import entry_of

pytestmark = pytest.mark.usefixtures("credentials")
RUNS = [letter * 16 for letter in "abc"]


@pytest.fixture(params=["seaweedfs", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> S3Store:
    return new_store(request.getfixturevalue(request.param), tmp_path)


def test_a_model_is_promoted_and_rolled_back(store):
    """A model can be promoted, used for scoring and rolled back. A flipped bit in the log is detected."""
    digests = [plant_run(store, run) for run in RUNS]
    for run in RUNS:
        promoted(store, run)
    roll_back(store, "production", author(), test=passed)
    found = read_bundle(BundleSource(uri="channel:production"), Path("s.yaml"), store)

    assert found.digest == digests[1] == live_entry(store, "production").bundle
    key = channel_key("production", 4)
    data = bytearray(store.get(key))
    data[40] ^= 1
    store.bucket.put(store.prefix + key, bytes(data), if_match=store.bucket.get(store.prefix + key)[1])
    assert inspect_channel(store, "production").faults == (
        "entry 4 is damaged: its bytes do not match their digest",
    )
    with pytest.raises(ChannelDamaged):
        live_entry(store, "production")


def test_of_writers_at_once_one_wins(store):
    """Of eight concurrent writers, one succeeds, and the errors of the others name it. The log has one entry."""

    def write(number: int) -> str:
        try:
            append_entry(store, entry_of(1, None, why=f"writer {number}"))
        except ChannelMoved as error:
            return str(error)
        return f"writer {number}"

    found = store.each(write, list(range(8)))
    (entry,) = read_channel(store, "production").entries

    assert [words for words in found if words.startswith("writer")] == [entry.why]
    assert sum("written at the same time by ann@clinic" in words for words in found) == 7


def test_compat_mode_has_no_channels(rclone, tmp_path):
    """A store in compat mode cannot have channels, because its server would overwrite an entry."""
    store = new_store(rclone, tmp_path, conditional=COMPAT)
    plant_run(store, RUNS[0])

    with pytest.raises(SpecError, match="conditional writes"):
        promoted(store, RUNS[0])
    assert list(store.keys("channels/")) == []
