"""Client of the Kubernetes API: the only module that uses the ``kubernetes`` package.

Objects are plain dicts, and errors are our own classes. Each request has a client-side timeout. Without it, a
watch whose connection was dropped silently would block for ever.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException

from mlho.errors import MlhoError
from scheduler.api.resource import GROUP, VERSION

FIELD_MANAGER: Final = "mlho-scheduler"
WATCH_SECONDS: Final = 50  # then the server ends the watch, and the client lists again
_SILENCE_SECONDS: Final = WATCH_SECONDS + 10
_REQUEST_SECONDS: Final = (3.0, 10.0)  # connect timeout and read timeout
_POOL: Final = 32
_LIST_LIMIT: Final = 250
_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"


class ClusterError(MlhoError):
    """The Kubernetes API rejected a request: follow the advice in its response."""

    exit_code: ClassVar[int] = 5

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ClusterError):  # noqa: N818 - states the condition
    """The object or its kind does not exist."""


class Conflict(ClusterError):  # noqa: N818 - states the condition
    """The object already exists, or has changed since it was read."""


class Expired(ClusterError):  # noqa: N818 - states the condition
    """The resource version of a watch is too old: list again."""


class ClusterUnavailable(ClusterError):  # noqa: N818 - states the condition
    """The API server did not answer or is overloaded: try again."""

    retryable: ClassVar[bool] = True


class Kind(Enum):
    """Kinds of objects in use: the path of the API group, and the plural."""

    TRAINING_RUN = (f"/apis/{GROUP}/{VERSION}", "trainingruns")
    SCORING_RUN = (f"/apis/{GROUP}/{VERSION}", "scoringruns")
    MODEL_CHANNEL = (f"/apis/{GROUP}/{VERSION}", "modelchannels")
    JOB = ("/apis/batch/v1", "jobs")
    POD = ("/api/v1", "pods")
    EVENT = ("/api/v1", "events")
    LEASE = ("/apis/coordination.k8s.io/v1", "leases")
    WORKLOAD = ("/apis/kueue.x-k8s.io/v1beta1", "workloads")

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        """Return the path of an object, or of a collection if no name is given. An empty namespace means all namespaces."""
        group, plural = self.value
        place = f"/namespaces/{quote(namespace)}" if namespace else ""
        return "/".join(filter(None, (f"{group}{place}/{plural}", quote(name), part)))


def status_body(obj: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with which the status of an object is applied."""
    metadata = {name: obj["metadata"][name] for name in ("name", "namespace", "uid")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "status": status}


RUN_KINDS: Final[Mapping[str, Kind]] = {"TrainingRun": Kind.TRAINING_RUN, "ScoringRun": Kind.SCORING_RUN}


@dataclass(frozen=True)
class Listed:
    """A list, and the resource version from which to watch."""

    items: tuple[dict[str, Any], ...]
    version: str


class Cluster:
    """A client for one cluster, with the rights of its configuration. Thread-safe."""

    def __init__(self, configuration: Configuration, *, namespace: str) -> None:
        configuration.connection_pool_maxsize = _POOL
        self._api = ApiClient(configuration)
        self.namespace = namespace
        """Default namespace of the configuration."""

    @classmethod
    def of_pod(cls) -> Self:
        """Connect to the cluster of this pod with its service account."""
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # the client is not typed here
            namespace = _NAMESPACE_FILE.read_text(encoding="ascii").strip()
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                "this process has no service account token. Outside a cluster, use --kubeconfig."
            ) from error
        return cls(configuration, namespace=namespace)

    @classmethod
    def of_user(cls, *, context: str | None = None, path: str | None = None) -> Self:
        """Connect to the cluster of a kubeconfig context, by default the current one."""
        configuration = Configuration()
        try:
            config.load_kube_config(path, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]  # the client is not typed here
            contexts, current = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]  # the client is not typed here
        except (config.ConfigException, OSError) as error:
            problem = (
                f"has no context {context[:100]!r}" if context else "is missing or has no current context"
            )
            raise ClusterError(
                f"no cluster: the kubeconfig {problem}. Set KUBECONFIG or use --context."
            ) from error
        chosen = next((entry for entry in contexts if entry["name"] == context), current)
        return cls(configuration, namespace=chosen["context"].get("namespace", "default"))

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """Return one object. Raise NotFound if it does not exist."""
        return self._ask("GET", kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str, *, selector: str = "", fields: str = "") -> Listed:
        """List the objects of a namespace that match the label and field selectors."""
        query = {"limit": str(_LIST_LIMIT), "labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in query.items() if value}
        items: list[dict[str, Any]] = []
        while True:
            page = self._ask("GET", kind.path(namespace), query)
            items.extend(page["items"])
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listed(tuple(items), metadata["resourceVersion"])
            query["continue"] = metadata["continue"]

    def watch(
        self, kind: Kind, namespace: str, version: str, *, selector: str = ""
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield changes since a resource version as (ADDED, MODIFIED or DELETED, object).

        The server ends a watch after ``WATCH_SECONDS``. List and watch again then. Raise Expired if the resource version is too
        old, and ClusterUnavailable if the connection broke, or no data arrived in time.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "allowWatchBookmarks": "true",
            **({"labelSelector": selector} if selector else {}),
        }
        answer = self._send(
            "GET", kind.path(namespace), query, timeout=(_REQUEST_SECONDS[0], _SILENCE_SECONDS)
        )
        try:
            for line in answer.response:
                if not line.strip():
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _refusal(int(event["object"].get("code", 500)), event["object"].get("message", ""))
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: a line was cut off
            raise _unavailable(error) from error
        finally:
            answer.response.close()

    def create(self, kind: Kind, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object. Raise ``Conflict`` if the name exists."""
        return self._ask("POST", kind.path(obj["metadata"]["namespace"]), body=dict(obj))

    def replace(self, kind: Kind, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object. Raise ``Conflict`` if it has changed since it was read."""
        metadata = obj["metadata"]
        return self._ask("PUT", kind.path(metadata["namespace"], metadata["name"]), body=dict(obj))

    def apply(self, kind: Kind, obj: Mapping[str, Any], *, part: str = "") -> dict[str, Any]:
        """Apply an object on the server side as ``FIELD_MANAGER``. Fields that were applied before and are now absent are removed."""
        metadata = obj["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = kind.path(metadata["namespace"], metadata["name"], part)
        return self._ask("PATCH", path, query, body=dict(obj), content=_APPLY)

    def merge(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Change some fields of an object."""
        return self._ask("PATCH", kind.path(namespace, name), body=dict(change), content=_MERGE)

    def delete(
        self, kind: Kind, namespace: str, name: str, *, found: Mapping[str, Any] | None = None
    ) -> None:
        """Delete an object and its dependents in the background. A missing object is not an error.

        With ``found``, the object as it was read, raise ``Conflict`` if the object was replaced or changed in the
        meantime.
        """
        body: dict[str, Any] = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
        }
        if found is not None:
            metadata = found["metadata"]
            body["preconditions"] = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            self._ask("DELETE", kind.path(namespace, name), body=body)
        except NotFound:
            return

    def log_of(self, namespace: str, pod: str, *, lines: int) -> str:
        """Return the last lines of a pod's log."""
        answer = self._send("GET", Kind.POD.path(namespace, pod, "log"), {"tailLines": str(lines)})
        return bytes(answer.read() or b"").decode(errors="replace")

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        answer = self._send(method, path, query, body=body, content=content)
        try:
            plain: dict[str, Any] = json.loads(answer.read())
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _unavailable(error) from error
        return plain

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        content: str = "application/json",
        timeout: tuple[float, float] = _REQUEST_SECONDS,
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content}
        request = self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*request[:3], body=body, _request_timeout=timeout)
            if 200 <= answer.status < 300:
                return answer
            data: bytes | None = answer.read()  # type: ignore[no-untyped-call]  # the client is not typed here
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _unavailable(error) from error
        raise _refusal(answer.status, _message(data))


def _message(data: bytes | None) -> str:
    try:
        return str(json.loads(data or b"{}").get("message", ""))
    except (ValueError, AttributeError):
        return ""


def _refusal(status: int, message: str) -> ClusterError:
    kinds: dict[int, type[ClusterError]] = {
        404: NotFound,
        409: Conflict,
        410: Expired,
        429: ClusterUnavailable,
    }
    kind = kinds.get(status, ClusterUnavailable if status >= 500 else ClusterError)
    return kind(f"Kubernetes: {message or 'request rejected'} (status {status}).", status=status)


def _unavailable(error: BaseException) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"Kubernetes: the API server does not answer ({type(error).__name__}). Check that it is reachable."
    )
