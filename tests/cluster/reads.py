"""Reads of objects over one connection, for tests that read several times in a second while they wait.

A read with kubectl takes 0.15 s of CPU time, in its own process and in the API server. A read here takes 0.01 s.
"""

import json
import os
import time
from functools import cache
from typing import Any, Final

from kubernetes import config
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.conftest import GROUP, PLURALS, VERSION
from tests.limits import GUARD_SECONDS

# Paths of the kinds that tests wait for, by the names that tests use.
_RUNS: Final = f"apis/{GROUP}/{VERSION}"
_PATHS: Final = {
    "pods": ("api/v1", "pods"),
    "events": ("api/v1", "events"),
    "jobs": ("apis/batch/v1", "jobs"),
    "leases": ("apis/coordination.k8s.io/v1", "leases"),
    "trainingrun": (_RUNS, PLURALS["TrainingRun"]),
    "trun": (_RUNS, PLURALS["TrainingRun"]),
    "scoringrun": (_RUNS, PLURALS["ScoringRun"]),
    "srun": (_RUNS, PLURALS["ScoringRun"]),
    "mch": (_RUNS, PLURALS["ModelChannel"]),
}


@cache
def _api() -> ApiClient:
    return config.new_client_from_config(os.environ["KUBECONFIG"])


def can_read(kind: str) -> bool:
    """Return whether the path of a kind is known here."""
    return kind in _PATHS


def read(namespace: str, kind: str, name: str = "", *, labels: str = "") -> dict[str, Any]:
    """Return an object, or without a name the list of objects with these labels. A read is repeated while the API server is busy."""
    group, plural = _PATHS[kind]
    path = f"/{group}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")
    query = [("labelSelector", labels)] if labels else []
    until = time.monotonic() + GUARD_SECONDS
    while True:
        status, text = _answer(path, query)
        if status == 200:
            found: dict[str, Any] = json.loads(text)
            return found
        is_busy = not status or status == 429 or status >= 500
        if not is_busy or time.monotonic() >= until:
            raise AssertionError(f"GET {path}: {status} {text}")
        time.sleep(1)


def _answer(path: str, query: list[tuple[str, str]]) -> tuple[int, str]:
    """Return the status and the text of the answer, or 0 and the reason if there is none."""
    request = _api().param_serialize(
        "GET",
        path,
        query_params=query,
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    try:
        answer = _api().call_api(*request[:3], _request_timeout=(5, 60))
        return int(answer.status), bytes(answer.read() or b"").decode()  # type: ignore[no-untyped-call]
    except (ApiException, HTTPError, OSError) as error:
        return 0, repr(error)
