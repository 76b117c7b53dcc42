"""Write the files that a release leaves behind: a small store, a bundle with its scores, and custom resources, as one archive.

    python -m tests.upgrade.release

writes ``releases/VERSION.tar.gz``. Archives of earlier releases stay; ``test_upgrade.py`` reads all of them.
"""

import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from mlho import __version__
from mlho.store.local import LocalStore
from scheduler.api.status import Condition, Status
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.training_run import TrainingRun
from scheduler.registry.promotion import Author, promote
from scheduler.runs.stored import find_run, stored_runs
from tests.builders import NullObserver, make_document, make_spec, make_tables, run_inline, write_tables
from tests.unit.scoring.conftest import FailingExecutor, make_score_document, score_inline

RELEASES: Final = Path(__file__).with_name("releases")
CHANGES: Final = {"features.demographics": ["age", "sex"], "validation.iterations": 3}
STOPPED: Final = CHANGES | {"validation.seed": 9}


def write_release(folder: Path) -> None:
    """Write tables, store, bundle, specifications and resources into a folder."""
    data, store = folder / "data", LocalStore(folder / "store")
    write_tables(data, make_tables(150, seed=5), partitions=2, by_patient=True)
    home = run_inline(data, store, CHANGES)
    for name, content in home.bundle().items():
        path = data / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    scored = score_inline(data, store)
    (run,) = (stored for stored in stored_runs(store) if stored.run_id == home.finished.run_id)
    promote(store, run, "production", Author("ann@clinic", run.started, "first model"))
    stopped = _stop(data, store)
    (data / "stopped.yaml").write_text(yaml.safe_dump(make_document(STOPPED)), encoding="utf-8")
    (data / "score.yaml").write_text(yaml.safe_dump(make_score_document()), encoding="utf-8")
    facts = {
        "runs": {"finished": run.run_id, "stopped": stopped, "scores": scored.finished.run_id},
        "result_digest": home.digest,
        "probabilities": scored.table()["probability"].tolist(),
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "resources.json").write_text(json.dumps(_resources(run.run_id)), encoding="utf-8")


def _stop(data: Path, store: LocalStore) -> str:
    """Stop a run after eight tasks, and return its id."""
    spec = make_spec(STOPPED)
    manifest = make_manifest(spec.spec.data.tables, data, source=spec.spec.data.source)
    run = TrainingRun(spec, manifest, data, store)
    try:
        carry_out(run, FailingExecutor(store, data, n_tasks=8), NullObserver(), n_slots=1)
    except KeyboardInterrupt:
        return find_run(stored_runs(store), run.run_id).run_id
    raise AssertionError("the run was not killed")


def _resources(run_id: str) -> list[dict[str, Any]]:
    """Return custom resources as a cluster holds them, with the status that the operator wrote."""
    condition = Condition(
        type="Succeeded",
        status="True",
        reason="Succeeded",
        message="",
        last_transition_time="2026-11-30T12:00:00Z",
        observed_generation=1,
    )
    status = Status(observed_generation=1, run_id=run_id, conditions=(condition,)).plain()
    documents = [make_document(CHANGES), make_score_document()]
    return [
        document
        | {
            "metadata": document["metadata"] | {"namespace": "mlho", "uid": "1", "generation": 1},
            "status": status,
        }
        for document in documents
    ]


def main() -> None:
    """Write the archive of this version. Names are sorted and times are zero, so that archives differ only by content."""
    RELEASES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "release"
        write_release(folder)
        shutil.rmtree(folder / "store" / "probe", ignore_errors=True)
        with tarfile.open(RELEASES / f"{__version__}.tar.gz", "w:gz", compresslevel=9) as archive:
            for path in sorted(file for file in folder.rglob("*") if file.is_file()):
                member = archive.gettarinfo(path, str(path.relative_to(folder)))
                member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
                with path.open("rb") as content:
                    archive.addfile(member, content)


if __name__ == "__main__":
    main()
