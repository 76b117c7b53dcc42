"""Refused promotions to the channels of a store, separate from the log of a channel, which lists only bundles that came into use."""

import datetime as dt
import hashlib

from pydantic import BaseModel, ConfigDict

from mlho.spec.training import canonical_json
from mlho.store.base import Store
from mlho.store.keys import refusal_prefix

_MAX_MESSAGE = 4000


class RefusedPromotion(BaseModel):
    """A promotion that changed nothing, and why."""

    model_config = ConfigDict(frozen=True)

    at: dt.datetime
    who: str
    run: str
    model: str
    message: str
    """The failed check, with the finding."""


def record_refusal(store: Store, channel: str, refused: RefusedPromotion) -> None:
    """Keep a refused promotion. No channel refers to it, so it can be removed."""
    cut = refused.model_copy(update={"message": refused.message[:_MAX_MESSAGE]})
    data = canonical_json(cut.model_dump(mode="json"))
    moment = refused.at.astimezone(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    store.put_if_absent(
        f"{refusal_prefix(channel)}{moment}-{hashlib.sha256(data).hexdigest()[:12]}.json", data
    )


def last_refusal(store: Store, channel: str) -> RefusedPromotion | None:
    """Return the latest refused promotion to a channel."""
    key = max(store.keys(refusal_prefix(channel)), default=None)
    return None if key is None else RefusedPromotion.model_validate_json(store.get(key))
