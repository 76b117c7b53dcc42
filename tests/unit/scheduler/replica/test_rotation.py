"""Rotation of Secrets: the scheduler exits and restarts with the new values, and workers with old values are replaced."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.api.objects import worker_job
from scheduler.controller.observation import ObservedRun, job_facts
from scheduler.controller.reconcile import decide
from scheduler.replica.rotation import checksum_of, end_on_rotation
from tests.limits import GUARD_SECONDS
from tests.unit.scheduler.api.test_objects import TEMPLATE, WORKERS
from tests.unit.scheduler.controller.test_reconcile import OBSERVED, job


def mounted(folder: Path, version: str, **entries: str) -> None:
    """Write the entries of a Secret as Kubernetes mounts them: symlinks through a folder that is swapped atomically."""
    real = folder / f"..{version}"
    real.mkdir()
    for name, value in entries.items():
        (real / name).write_text(value, encoding="utf-8")
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..new").symlink_to(real.name)
    (folder / "..new").rename(folder / "..data")


def test_a_checksum_changes_with_any_entry_and_reveals_none(tmp_path: Path):
    """The checksum has eight digits, changes with any entry and does not reveal the values."""
    mounted(tmp_path, "1", broker="redis://:old@redis", key="k" * 48)
    first = checksum_of(tmp_path)
    mounted(tmp_path, "2", broker="redis://:old@redis", key="n" * 48)

    assert len(first) == 8
    assert checksum_of(tmp_path) != first
    mounted(tmp_path, "3", broker="redis://:old@redis", key="k" * 48)
    assert checksum_of(tmp_path) == first


def test_without_files_the_checksum_is_empty(tmp_path: Path):
    """Without Secret files, the checksum is empty and rotation is not detected."""
    assert checksum_of(None) == checksum_of(tmp_path) == checksum_of(tmp_path / "missing") == ""


def test_a_scheduler_ends_once_its_secrets_are_replaced(tmp_path: Path):
    """The scheduler stops when its Secrets are replaced, and not before."""
    mounted(tmp_path, "1", key="k" * 48)
    stop = threading.Event()
    arguments = (tmp_path, checksum_of(tmp_path), stop)
    thread = threading.Thread(target=end_on_rotation, args=arguments, kwargs={"seconds": 0.02})
    thread.start()

    assert not stop.wait(0.2)
    mounted(tmp_path, "2", key="n" * 48)
    assert stop.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)


def test_a_scheduler_continues_while_a_secret_is_missing(tmp_path: Path):
    """A deleted Secret does not end the scheduler, which could not start again. It ends when the Secret is back with other content."""
    mounted(tmp_path, "1", broker="redis://:old@redis", key="k" * 48)
    stop = threading.Event()
    arguments = (tmp_path, checksum_of(tmp_path), stop)
    thread = threading.Thread(target=end_on_rotation, args=arguments, kwargs={"seconds": 0.02})
    thread.start()
    assert not stop.wait(0.1)
    (tmp_path / "broker").unlink()

    assert not stop.wait(0.2)
    mounted(tmp_path, "2", broker="redis://:new@redis", key="k" * 48)
    assert stop.wait(GUARD_SECONDS)
    thread.join(GUARD_SECONDS)


@pytest.mark.parametrize(
    ("observed", "deleted"),
    [
        (replace(OBSERVED, secrets="new", jobs=(job(1, 4, secrets="old"),)), ("w1",)),
        (replace(OBSERVED, secrets="new", jobs=(job(1, 4, secrets="new"),)), ()),
        (replace(OBSERVED, secrets="new", jobs=(job(1, 4, secrets=""),)), ()),
        (replace(OBSERVED, secrets="", jobs=(job(1, 4, secrets="old"),)), ()),
        (replace(OBSERVED, secrets="new", jobs=(job(1, 4, secrets="old", active=0, is_suspended=True),)), ()),
    ],
    ids=["other", "equal", "of an earlier version", "nobody looks", "no pod yet: it gets the new ones"],
)
def test_workers_with_replaced_secrets_are_replaced(observed: ObservedRun, deleted: tuple[str, ...]):
    """Workers with replaced Secrets are deleted so that they drain; the next pass creates new ones."""
    assert decide(observed).delete == deleted


def test_a_generation_has_the_checksum_of_its_secrets():
    """The checksum of the Secrets is an annotation of the Kubernetes Job. Without Secret files there is no annotation."""
    job = worker_job(WORKERS, TEMPLATE, secrets="0123abcd")
    job["metadata"]["creationTimestamp"] = "2026-11-24T12:00:00Z"

    assert job_facts(job).secrets == "0123abcd"
    assert "mlho.io/secrets" not in worker_job(WORKERS, TEMPLATE)["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("observed", "deleted"),
    [
        (replace(OBSERVED, image="worker:2", jobs=(job(1, 4, image="worker:1"),)), ("w1",)),
        (
            replace(
                OBSERVED, image="worker:2", jobs=(job(1, 4, image="worker:1", active=0, is_suspended=True),)
            ),
            ("w1",),
        ),
        (replace(OBSERVED, image="worker:2", jobs=(job(1, 4, image="worker:2"),)), ()),
        (replace(OBSERVED, image="worker:2", jobs=(job(1, 4, image=""),)), ()),
    ],
    ids=["other", "not admitted yet", "equal", "unknown"],
)
def test_workers_of_another_image_are_replaced(observed: ObservedRun, deleted: tuple[str, ...]):
    """After an upgrade of the chart, workers of the earlier image are replaced: they refuse tasks of changed steps."""
    assert decide(observed).delete == deleted


def test_the_image_of_a_generation_is_the_requested_one():
    """A webhook may replace the image of the container by that of a mirror. The workers are not replaced for that."""
    job = worker_job(WORKERS, TEMPLATE)
    job["metadata"]["creationTimestamp"] = "2026-11-24T12:00:00Z"
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror.example/worker"

    assert job_facts(job).image == TEMPLATE.image
