"""``python -m scheduler operate``: compete for the Lease, and carry out the runs of the cluster while holding it."""

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlho.errors import MlhoError
from mlho.log import configure, error_fields, log
from mlho.settings import Settings
from scheduler.api.client import Cluster
from scheduler.api.config import ClusterConfig, load_cluster_config
from scheduler.controller.metrics import MetricValues
from scheduler.replica.health import Health, serve_health
from scheduler.replica.leader_election import ClusterLease, LeaderElector
from scheduler.replica.rotation import checksum_of, end_on_rotation

_ALIVE_SECONDS: Final = 60.0


def operate(config: Path, *, port: int, kubeconfig: Path | None = None) -> int:
    """Run until stopped or until leadership is lost. Return the exit code."""
    configure("json", verbose=True)
    try:
        return _operate(config, port, kubeconfig)
    except MlhoError as error:
        log.critical("scheduler_failed", **error_fields(error))
        return error.exit_code


def _operate(config_file: Path, port: int, kubeconfig: Path | None) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    config = load_cluster_config(config_file)
    cluster = Cluster.of_user(path=str(kubeconfig)) if kubeconfig else Cluster.of_pod()
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    elector = LeaderElector(ClusterLease(cluster, config.namespace, config.lease_name), identity)
    secrets = checksum_of(config.secrets_folder)
    if config.secrets_folder is not None and secrets:
        threading.Thread(
            target=end_on_rotation, args=(config.secrets_folder, secrets, stop), name="rotation", daemon=True
        ).start()
    code = _Replica(cluster, config, elector, identity, port=port, secrets=secrets).run(stop)
    # Exit without waiting for threads that are blocked in requests. The store rejects their writes from now on.
    os._exit(code)


@dataclass
class _Replica:
    """One scheduler process: stands by, then leads."""

    cluster: Cluster
    config: ClusterConfig
    elector: LeaderElector
    identity: str
    port: int
    secrets: str
    operator: Any = None

    def run(self, stop: threading.Event) -> int:
        """Stand by, lead, and release the Lease. Return the exit code."""
        # Import the controller while standing by, so that taking over is quick.
        from scheduler.channels.reporter import ChannelReporter
        from scheduler.controller.controller import Operator
        from scheduler.controller.run_thread import Backend

        backend = Backend(self.config.store, Settings.from_environment())
        # The startup probe waits for it, so that a rollout does not end a replica before the next one can take over.
        serve_health(Health(self._is_alive, self._is_ready, self._figures), port=self.port)
        log.info("standing_by", outcome=self.identity)
        if not self.elector.wait_to_lead(stop):
            return 0
        log.info("leading", outcome=self.identity)
        self.operator = Operator(
            self.cluster, self.config, backend, identity=self.identity, secrets=self.secrets
        )
        self.operator.start()
        channels = ChannelReporter(self.cluster, self.config, backend)
        channels.start()
        if not self.elector.lead(stop):
            return 1
        # Keep the Lease while the runs are stopped. Until then no other replica may take over.
        stopped = threading.Event()
        keeper = threading.Thread(target=self.elector.lead, args=(stopped,), daemon=True)
        keeper.start()
        channels.stop()
        self.operator.stop()
        stopped.set()
        keeper.join(5)
        self.elector.release()
        log.info("lease_released", outcome=self.identity)
        return 0

    def _is_alive(self) -> bool:
        operator = self.operator
        return operator is None or time.monotonic() - operator.last_pass_at < _ALIVE_SECONDS

    def _is_ready(self) -> bool:
        return self.operator is None or bool(self.operator.is_ready)

    def _figures(self) -> MetricValues:
        operator = self.operator
        return {
            "mlho_scheduler_leader": float(operator is not None),
            **(operator.figures() if operator is not None else {}),
        }
