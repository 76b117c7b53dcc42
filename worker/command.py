"""The command of a worker: serve one execution of a run, then exit."""

import argparse
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from mlho.errors import ArtifactNotFound, MlhoError, SpecError
from mlho.log import configure, error_fields, log
from mlho.protocol.documents import Execution, check_committer, is_over, read_execution
from mlho.protocol.failures import QueueError
from mlho.settings import HARD_LIMIT, SOFT_LIMIT, Settings
from mlho.spec.training import RUN_ID_LENGTH
from mlho.store import open_store
from mlho.store.base import Store
from mlho.store.keys import RUNS
from mlho.store.probe import probe_store

_POLL_SECONDS: Final = 0.25
_SOFT_SECONDS: Final = 21_600.0
_GRACE_SECONDS: Final = 60.0  # from the soft limit to the hard one


_ABOUT: Final = """\
Run tasks from the queue of a run until the run is over.

A run can have any number of workers. They can be started and stopped at any time; unfinished tasks are run by other workers.
MLHO_SIGNING_KEY must be the same as for the scheduler. MLHO_BROKER can contain the address of Redis with its password.
Exit codes: 0 run over or SIGTERM received; 1 failure, start another worker; 78 invalid configuration.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
    options = _parser().parse_args(arguments)
    configure("json", verbose=options.verbose, warns=True, run_id=options.run)
    try:
        return _serve(options, Settings.from_environment())
    except (SpecError, QueueError) as error:
        log.critical("worker_refused", **error_fields(error))
        return os.EX_CONFIG  # the Kubernetes Job does not retry on it
    except MlhoError as error:
        log.critical("worker_failed", **error_fields(error))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="id of the run, or name of one in progress: mlho list")
    parser.add_argument("--store", help="address of the artifacts (or MLHO_STORE)")
    parser.add_argument("--broker", help="address of Redis (or MLHO_BROKER, which no process list shows)")
    parser.add_argument(
        "--data", help="folder of the tables, if its path here differs from that for the scheduler"
    )
    parser.add_argument("--slots", type=int, default=1, help="concurrent tasks (default: %(default)s)")
    _add_limits(parser)
    parser.add_argument(
        "--wait",
        type=float,
        default=60,
        metavar="SECONDS",
        help="maximum wait for the run to begin, if --run is an id (default: %(default)s)",
    )
    parser.add_argument(
        "--liveness-file", type=Path, help="touched by the main loop; a liveness probe checks its age"
    )
    parser.add_argument("--metrics-port", type=int, help="serve Prometheus metrics")
    parser.add_argument("--metrics-address", default="127.0.0.1", help="where to (default: %(default)s)")
    parser.add_argument("--end-with-parent", action="store_true", help="exit when the parent process exits")
    parser.add_argument("--verbose", action="store_true", help="log all events, not only warnings")
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the limits of time and memory."""
    parser.add_argument(
        "--soft-limit",
        type=float,
        metavar="SECONDS",
        help=f"time after which a task is asked to stop (default: {SOFT_LIMIT}, or {_SOFT_SECONDS:.0f})",
    )
    parser.add_argument(
        "--hard-limit",
        type=float,
        metavar="SECONDS",
        help=f"time after which it is killed (default: {HARD_LIMIT}, or {_GRACE_SECONDS:.0f} more than the soft limit, "
        f"{_SOFT_SECONDS + _GRACE_SECONDS:.0f})",
    )
    parser.add_argument(
        "--memory",
        type=int,
        metavar="BYTES",
        help="limit of this worker and its children (default: the container's)",
    )


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from mlho.processes import end_with_parent

    if options.end_with_parent:
        end_with_parent()()
    broker = settings.broker_at(options.broker)
    address = options.store or settings.store
    if not broker or not address:
        raise SpecError("worker: needs --store and --broker, or MLHO_STORE and MLHO_BROKER.")
    if options.slots < 1:
        raise SpecError(f"--slots {options.slots}: must be 1 or more.")
    if options.memory is not None and options.memory < 1:
        raise SpecError(f"--memory {options.memory}: must be 1 byte or more.")
    soft_limit, hard_limit = _time_limits(options.soft_limit, options.hard_limit, settings)
    settings.require_signing_key()
    store = open_store(address)
    probe_store(store)
    run = options.run if _is_id(options.run) else _id_of(store, options.run, address)
    execution = _find_execution(store, address, run, options.wait)
    if is_over(store, execution):  # no work is left, which is not an error
        # This worker may have been started before the next execution.
        log.warning("run_is_over", store=address)
        return os.EX_OK
    check_committer(store, execution)
    if options.data:
        execution = execution.model_copy(update={"data": options.data})
    from worker.service import Service, WorkerOptions  # importing Celery is slow

    worker_options = WorkerOptions(
        options.slots,
        soft_limit,
        hard_limit,
        options.memory,
        options.liveness_file,
        options.metrics_port,
        options.metrics_address,
    )
    return Service(worker_options, replace(settings, broker=broker, store=address), store, execution).run()


def _time_limits(soft: float | None, hard: float | None, settings: Settings) -> tuple[float, float]:
    """Return the soft and the hard time limit in seconds, from the command line, the environment, or the defaults."""
    for flag, seconds in (("--soft-limit", soft), ("--hard-limit", hard)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise SpecError(f"{flag} {seconds:g}: must be a positive number of seconds.")
    soft = soft or settings.soft_limit or _SOFT_SECONDS
    return soft, hard or settings.hard_limit or soft + _GRACE_SECONDS


def _is_id(run: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{RUN_ID_LENGTH}}}", run) is not None


def _id_of(store: Store, name: str, address: str) -> str:
    """Return the id of the run in progress with this name. Do not wait for one: the name may be misspelt."""
    found = [run for run in _runs_named(store, name) if _is_in_progress(store, run)]
    if len(found) == 1:
        return found[0]
    problem = "several runs" if found else "no run"
    raise SpecError(
        f"--run {name[:100]}: {problem} of this name in progress in the store {address}{': ' if found else ''}{', '.join(found)}. Expected the "
        f"id of a run ({RUN_ID_LENGTH} hexadecimal digits), or the name of one in progress; mlho list shows both."
    )


def _is_in_progress(store: Store, run: str) -> bool:
    execution = read_execution(store, run)
    return execution is not None and not is_over(store, execution)


def _runs_named(store: Store, name: str) -> Iterator[str]:
    import yaml

    for key in store.keys(f"{RUNS}/"):
        if key.count("/") == 2 and key.endswith("/spec.yaml"):
            # A run that was deleted meanwhile, or whose specification is damaged, has no name. Its id still selects it.
            with suppress(ArtifactNotFound, yaml.YAMLError, LookupError, TypeError):
                if yaml.safe_load(store.get(key))["metadata"]["name"] == name:
                    yield key.split("/")[1]


def _find_execution(store: Store, address: str, run: str, seconds: float) -> Execution:
    """Return the run's latest execution. Wait for the first one if there is none yet."""
    until = time.monotonic() + seconds
    while True:
        execution = read_execution(store, run)
        if execution is not None:
            return execution
        if time.monotonic() > until:
            raise MlhoError(f"run {run}: has not started in the store {address}. Start it, then its workers.")
        time.sleep(_POLL_SECONDS)
