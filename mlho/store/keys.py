"""Names of objects in a store: blobs by content, commits by task, a folder per run, and promoted models with their channels."""

from typing import Final

BLOBS: Final = "blobs/sha256"
COMMITS: Final = "commits"
PROPOSALS: Final = "proposals"
RUNS: Final = "runs"
USES: Final = "uses"
MODELS: Final = "models"
CHANNELS: Final = "channels"
SIGNATURES: Final = "signatures"
REFUSALS: Final = "refusals"
SITE: Final = "site"
EVALUATIONS: Final = "evaluations"


def blob_key(digest: str) -> str:
    """Return the key of the blob with this SHA-256."""
    return f"{BLOBS}/{digest[:2]}/{digest}"


def commit_key(task_key: str) -> str:
    """Return the key of the commit record of this task."""
    return f"{COMMITS}/{task_key[:2]}/{task_key}"


def proposals_prefix(task_key: str) -> str:
    """Return the common prefix of the keys of all proposals of this task (compat mode)."""
    return f"{PROPOSALS}/{task_key[:2]}/{task_key}/"


def proposal_key(task_key: str, digest: str) -> str:
    """Return the key of the proposal to commit files with this digest as the output of this task."""
    return proposals_prefix(task_key) + digest


def run_key(run: str, name: str) -> str:
    """Return the key of a file of this run, for users and downstream programs."""
    return f"{RUNS}/{run}/{name}"


def uses_prefix(run: str) -> str:
    """Return the common prefix of the lists of the tasks that this run uses."""
    return f"{USES}/{run}/"


def model_key(digest: str, name: str) -> str:
    """Return the key of a file of the promoted bundle with this digest."""
    return f"{MODELS}/{digest}/{name}"


def signature_prefix(digest: str) -> str:
    """Return the common prefix of the signatures of the bundle with this digest."""
    return f"{SIGNATURES}/{digest}/"


def channel_prefix(channel: str) -> str:
    """Return the common prefix of the entries of this channel."""
    return f"{CHANNELS}/{channel}/"


def channel_key(channel: str, number: int) -> str:
    """Return the key of an entry of this channel; keys sort by number."""
    return f"{channel_prefix(channel)}{number:06d}"


def refusal_prefix(channel: str) -> str:
    """Return the common prefix of the refused promotions to this channel; keys below it sort by time."""
    return f"{REFUSALS}/{channel}/"


def site_key(name: str) -> str:
    """Return the key of a page of the site of this store, or of the facts of a run that its pages show."""
    return f"{SITE}/{name}"


def evaluation_key(evaluation: str, name: str) -> str:
    """Return the key of a file of an evaluation of a bundle on labelled data that was kept in this store."""
    return f"{EVALUATIONS}/{evaluation}/{name}"
