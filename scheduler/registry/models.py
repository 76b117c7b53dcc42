"""The models of a store: bundles of its finished training runs, and those that channels show."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlho.errors import ArtifactDamaged, ArtifactNotFound
from mlho.report.gates import gates_in_words
from mlho.store.base import Store
from mlho.store.keys import signature_prefix
from scheduler.runs.channels import Channel, ChannelEntry, channel_names, inspect_channel
from scheduler.runs.stored import MODELS, StoredRun, damaged, read_document, stored_runs


@dataclass(frozen=True)
class StoredModel:
    """A model of a store."""

    name: str
    """Name of its run."""
    run: str
    """Id of its run."""
    bundle: str
    """Digest of the bundle."""
    made: dt.datetime | None
    """Latest start of the run; ``None`` if the run was deleted."""
    outcome: str | None
    """``None`` if the run was deleted, or its result is damaged."""
    auroc: Mapping[str, Any] | None
    """Headline AUROC with ``mean``, ``low`` and ``high``; ``None`` as for ``outcome``."""
    n_tests: int
    n_passed: int
    """Self-tests of the bundle when it was built; without a result of the run, those at promotion."""
    n_signatures: int
    """Signatures of the bundle that promotions have created."""
    gates: str | None
    """Whether its gates passed, in words; ``None`` without gates."""
    channels: Sequence[str]
    """Channels that show it now."""


def stored_models(store: Store) -> tuple[list[StoredModel], list[str]]:
    """Return the models of a store, the newest first, and in words which results are damaged.

    Models that channels show and whose run was deleted, or has a damaged result, come last.
    """
    channels = [inspect_channel(store, name) for name in channel_names(store)]
    runs = [run for run in stored_runs(store) if run.kind in MODELS and run.result is not None]
    found = store.each(lambda run: _model(store, run, channels), runs)
    models = [model for model in found if isinstance(model, StoredModel)]
    started = {run.run_id: run.started for run in runs}
    models += _without_result(store, channels, {model.bundle for model in models}, started)
    return models, [words for words in found if isinstance(words, str)]


def _model(store: Store, run: StoredRun, channels: Sequence[Channel]) -> StoredModel | str | None:
    """Return the model of a run; ``None`` if the run was deleted meanwhile, and in words that its result is damaged."""
    assert run.result is not None
    try:
        return _described(store, run, channels, read_document(store, run.run_id, run.result))
    except ArtifactNotFound:
        return None
    except ArtifactDamaged as error:
        return str(error)
    except (KeyError, TypeError):
        return str(damaged(run.result, run.run_id))


def _described(
    store: Store, run: StoredRun, channels: Sequence[Channel], result: Mapping[str, Any]
) -> StoredModel:
    final = result["final_model"]
    return StoredModel(
        name=run.name,
        run=run.run_id,
        bundle=final["bundle_digest"],
        made=run.started,
        outcome=result["outcome"],
        auroc={name: result["headline"]["auroc"][name] for name in ("mean", "low", "high")},
        n_tests=len(final["tests"]),
        n_passed=sum(test["passed"] for test in final["tests"]),
        n_signatures=len(list(store.keys(signature_prefix(final["bundle_digest"])))),
        gates=gates_in_words(result),
        channels=_showing(channels, final["bundle_digest"]),
    )


def _without_result(
    store: Store, channels: Sequence[Channel], known: set[str], started: Mapping[str, dt.datetime]
) -> list[StoredModel]:
    """Return the models that channels show and whose runs were deleted, or have a damaged result."""
    heads = {channel.head.bundle: channel.head for channel in channels if channel.head is not None}
    return [
        StoredModel(
            name=head.model,
            run=head.run,
            bundle=digest,
            made=started.get(head.run),
            outcome=None,
            auroc=None,
            n_tests=head.tests_passed,
            n_passed=head.tests_passed,
            n_signatures=len(list(store.keys(signature_prefix(digest)))),
            gates=_gates_at_promotion(head),
            channels=_showing(channels, digest),
        )
        for digest, head in sorted(heads.items())
        if digest not in known
    ]


def _gates_at_promotion(entry: ChannelEntry) -> str | None:
    plain = [{"words": gate.gate, "passed": gate.passed, "detail": gate.detail} for gate in entry.gates]
    return gates_in_words({"gates": plain or None})


def _showing(channels: Sequence[Channel], digest: str) -> list[str]:
    return [
        channel.name for channel in channels if channel.head is not None and channel.head.bundle == digest
    ]
