"""The custom resource ``ModelChannel``: the model that a channel of the store has in use, for ``kubectl get mch``.

It only shows the model. Promotion and rollback are commands, because they run the tests of a model, may sign it, and need a reason and an author.
"""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from mlho.spec.types import SpecPart
from scheduler.api.status import Conditions, Count, Instant, Message, ShortText

CHANNEL_PATTERN: Final = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class ChannelCondition(StrEnum):
    """Condition types of a channel."""

    READY = "Ready"
    """The log of the channel is complete, and shows a model."""


class ModelChannelSpec(SpecPart):
    """The channel to show."""

    channel: Annotated[str, StringConstraints(pattern=CHANNEL_PATTERN, max_length=63)] | None = None
    """Name of the channel in the store of the scheduler. Default: the name of the resource."""


class Refusal(SpecPart):
    """The latest promotion that was refused."""

    at: Instant
    """Time of the command."""
    by: ShortText
    """Author of the command."""
    model: ShortText
    """Name of the training run whose model was refused."""
    run_id: ShortText
    """Id of that run."""
    message: Message
    """Why it was refused, such as the gates that failed."""


class ChannelStatus(SpecPart):
    """The model that the channel has in use. The store is the source of truth."""

    observed_generation: Count | None = None
    """Generation of the spec from which this status was derived."""
    model: ShortText | None = None
    """Name of the training run that produced the model."""
    run_id: ShortText | None = None
    """Id of that run, and name of its folder in the store."""
    bundle: ShortText | None = None
    """SHA-256 digest of the bundle."""
    entry: Count | None = None
    """Number of the entry of the channel that put the model into use: `channel:NAME/<entry>`."""
    since: Instant | None = None
    """Time from which the model is in use."""
    promoted_by: ShortText | None = None
    """Author of the promotion or rollback."""
    why: Message | None = None
    """Reason that the author gave."""
    replaces: ShortText | None = None
    """Digest of the bundle that was in use before."""
    restores: Count | None = None
    """For a rollback: number of the entry whose model is in use again."""
    gates: ShortText | None = None
    """Gates of the model at its promotion: `passed`, or how many failed and were overridden. Absent without gates."""
    tests_passed: Count | None = None
    """Number of tests of the bundle that passed just before."""
    refusal: Refusal | None = None
    """The latest promotion that was refused since the model came into use."""
    conditions: Conditions = ()
    """Conditions of the channel: Ready."""

    def plain(self) -> dict[str, Any]:
        """Return the status for the API server."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
