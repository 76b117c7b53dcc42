"""The process pool, with real worker processes."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlho.errors import ArtifactNotFound, DataError
from mlho.fork_server import is_server
from mlho.scratch import scratch_folder
from mlho.steps.base import Task
from mlho.store.local import LocalStore
from scheduler.engine.manifest import make_manifest
from scheduler.engine.plan import plan_cohort
from scheduler.engine.process_pool import LocalPool, call_beside
from tests.builders import make_spec, make_tables, write_tables


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "data", make_tables(100))


def cohort_task(data: Path) -> Task:
    spec = make_spec().spec
    return plan_cohort(spec, make_manifest(spec.data.tables, data))["cohort"].bind({})


def test_a_pool_starts_nothing_until_it_is_needed(data, tmp_path):
    """A pool starts no process before the first task, so that a finished run starts no worker."""
    before = multiprocessing.active_children()
    with LocalPool(str(tmp_path / "store"), data, n_workers=2):
        pass

    assert multiprocessing.active_children() == before


def test_a_worker_commits_and_answers(data, tmp_path):
    """The outcome is returned, the artifact is in the store, no scratch files are left, and the workers exit with the pool."""
    store = LocalStore(tmp_path / "store")
    task = cohort_task(data)
    with LocalPool(str(store.root), data, n_workers=1) as pool:
        outcome = pool.submit_all([task])[0].result(timeout=60)
        again = pool.submit_all([task])[0].result(timeout=60)

    assert (outcome.is_new, again.is_new) == (True, False)
    assert outcome.commit.facts["n_patients"] == 100
    assert list(store.keys("commits/")) == [f"commits/{task.key[:2]}/{task.key}"]
    assert [path.name for path in store.scratch().iterdir()] == ["pointers.lock"]
    assert multiprocessing.active_children() == []


def test_an_mlho_error_is_transferred_with_its_fields(data, tmp_path):
    """An error of a worker has its class and fields in the scheduler, and nothing is committed."""
    store = LocalStore(tmp_path / "store")
    task = cohort_task(data)
    (data / "labels.parquet").unlink()
    with LocalPool(str(store.root), data, n_workers=1) as pool:
        error = pool.submit_all([task])[0].exception(timeout=60)

    assert isinstance(error, DataError)
    assert (error.where, error.got) == ("labels.parquet", "no file")
    assert list(store.keys("commits/")) == []
    assert list(store.scratch().iterdir()) == []


def test_a_pool_that_is_left_by_an_error_ends_its_workers(data, tmp_path):
    """A pool that is left because of an error ends its workers at once."""

    def leave() -> None:
        with LocalPool(str(tmp_path / "store"), data, n_workers=2) as pool:
            pool.submit_all([cohort_task(data)])
            raise ArtifactNotFound("x")

    with pytest.raises(ArtifactNotFound):
        leave()
    assert multiprocessing.active_children() == []


def test_a_pool_that_is_left_by_an_error_leaves_no_scratch(data, tmp_path):
    """What terminated workers leave behind is removed by the same command."""
    store = LocalStore(tmp_path / "store")

    def leave() -> None:
        with LocalPool(str(store.root), data, n_workers=1) as pool:
            pool.submit_all([cohort_task(data)])[0].result(timeout=60)
            with scratch_folder("run_iteration", store.scratch()) as folder:
                shutil.copytree(folder.parent, store.scratch() / _renamed(folder.parent.name))
            raise ArtifactNotFound("x")

    with pytest.raises(ArtifactNotFound):
        leave()

    assert [path.name for path in store.scratch().iterdir()] == ["pointers.lock"]


def _renamed(name: str) -> str:
    """Return the name of scratch of this machine that no process holds."""
    return name[:-16] + "0" * 16


def test_a_function_is_called_in_a_worker_and_its_errors_are_raised(monkeypatch):
    """A function runs in a worker process if the fork server has started, else in this process. An MlhoError is raised unchanged."""
    begun = "scheduler.engine.process_pool.has_begun"
    monkeypatch.setattr(begun, lambda: False)
    assert call_beside(os.getpid) == os.getpid()

    monkeypatch.setattr(begun, lambda: True)

    assert call_beside(os.getpid) != os.getpid()
    with pytest.raises(DataError, match="no such file"):
        call_beside(make_manifest, make_spec().spec.data.tables, Path("nowhere"))


def test_an_interrupt_ends_the_process_of_a_function_at_once(monkeypatch):
    """Ctrl-C during the look at the tables does not wait for its process, which prints nothing when it ends."""
    monkeypatch.setattr("scheduler.engine.process_pool.has_begun", lambda: True)
    call_beside(os.getpid)  # the server has started
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call_beside(time.sleep, 60)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)

    assert multiprocessing.active_children() == []


_TWO_POOLS = """
import multiprocessing, os, sys
from pathlib import Path
from scheduler.engine.forkserver import IN_PARTS, begin_server
if __name__ == "__main__":
    begin_server(IN_PARTS)
    from mlho.store.local import LocalStore
    from scheduler.engine.plan import plan_inspection
    from scheduler.engine.manifest import make_manifest
    from scheduler.engine import process_pool
    from tests.builders import make_spec
    from tests.unit.scheduler.engine.test_process_pool import cohort_task
    data, store = Path(sys.argv[1]), sys.argv[2]
    spec = make_spec().spec
    other = plan_inspection(spec, make_manifest(spec.data.tables, data))["tables"].bind({})
    process_pool._ENCODING -= {"inspect_tables"}
    looked = process_pool.call_beside(os.getpid)
    workers = lambda: {child.pid for child in multiprocessing.active_children()}
    with process_pool.LocalPool(store, data, n_workers=process_pool.usable_cpus()) as pool:
        pool.submit_all([cohort_task(data)])[0].result(60)
        print(looked in workers(), len(workers()) == min(process_pool.usable_cpus(), 4))
        pool.submit_all([other])[0].result(60)
        pool._end_of_encoders.join(60)
        print(looked in workers(), len(workers()))
        assert pool.submit_all([cohort_task(data)])[0].result(60).is_new is False
    print(workers())
"""


def test_tasks_that_encode_have_workers_of_their_own_until_learning_begins(data, tmp_path):
    """They start while the first of them looks at the tables, and end with the first task that does not encode."""
    program = tmp_path / "program.py"
    program.write_text(_TWO_POOLS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program), str(data), str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[4],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[4])},
    )

    assert done.stdout.splitlines() == ["True True", "False 1", "set()"], done.stderr


_INTERRUPTED = """
import os, signal, time
from scheduler.engine.forkserver import begin_server

begin_server()
try:
    os.killpg(0, signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    pass
"""


def test_ctrl_c_during_the_imports_of_the_server_prints_nothing():
    """Ctrl-C reaches all processes of the terminal. The fork server, which still imports, does not print a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


_CUT_OFF = """
import os, socket, sys
from multiprocessing import forkserver
from scheduler.engine.forkserver import begin_server

begin_server(is_forked=True)
server = forkserver._forkserver
if sys.argv[1] == "process":
    status, request = forkserver.connect_to_new_process([])
    os.close(request)
    forkserver.read_signed(status)
    print(forkserver.read_signed(status))
else:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server._forkserver_address)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server._forkserver_address)
            client.recv(1)  # until the server has handled the first request
    except OSError:
        pass
os.close(server._forkserver_alive_fd)
os.waitpid(server._forkserver_pid, 0)
"""


@pytest.mark.parametrize(("request_for", "printed"), [("server", ""), ("process", "1\n")])
def test_a_request_that_ctrl_c_cuts_off_is_no_traceback(request_for, printed):
    """The command is interrupted after it has connected to the server, or before it has described the process."""
    done = subprocess.run(
        [sys.executable, "-c", _CUT_OFF, request_for],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


_FORKED = """
import os
from scheduler.engine.forkserver import begin_server
from scheduler.engine.process_pool import call_beside
from tests.unit.scheduler.engine.test_process_pool import facts_of_process
if __name__ == "__main__":
    secret = os.open(__file__, os.O_RDONLY)
    begin_server(is_forked=True)
    is_server, parent, files = call_beside(facts_of_process)
    print(is_server, "forkserver" in parent, __file__ in files)
"""


def facts_of_process() -> tuple[bool, str, list[str]]:
    """Return whether this process descends from a fork server, the command line of its parent, and its open files."""
    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text(encoding="utf-8")
    return (
        is_server(),
        parent,
        [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()],
    )


def test_a_command_forks_its_server_from_itself_without_its_open_files(tmp_path):
    """The imports until then are shared, and no interpreter starts. A worker knows that it descends from a server."""
    root = Path(__file__).resolve().parents[4]
    program = tmp_path / "program.py"
    program.write_text(_FORKED, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )

    assert (done.stdout.split(), done.stderr) == (["True", "False", "False"], "")
