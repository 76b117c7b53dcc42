"""Read the facts that the site shows from a store.

A result has about a megabyte and never changes. Its facts are therefore written to the store once, when a finished
run is first seen. The site of hundreds of runs is then built from small objects.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import yaml
from pydantic import ValidationError

from mlho.errors import ArtifactNotFound
from mlho.report.site import (
    EvaluatedFacts,
    Evaluation,
    Night,
    ScoredFacts,
    Site,
    SiteChannel,
    SiteModel,
    SiteRun,
    TrainedFacts,
    evaluated_facts,
    scored_facts,
    trained_facts,
)
from mlho.spec.training import canonical_json
from mlho.store.base import Store
from mlho.store.keys import EVALUATIONS, evaluation_key, run_key, site_key
from scheduler.runs.channels import Channel, channel_names, inspect_channel
from scheduler.runs.record import RunState
from scheduler.runs.stored import MODELS, StoredRun, stored_runs

VERSION: Final = 3  # increase it when the facts change: facts of an earlier version are then read again
MAX_COMPARED: Final = 5  # newest versions of a model that are compared with the previous one
#: Earlier than any object, so that a run recorded as running is shown as such, whenever the page is written.
_ANY_TIME: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
EVALUATION_FILE: Final = "evaluation.json"
_NOT_FINISHED: Final = "not finished"
_CODE_LENGTH: Final = 12

Comparer = Callable[[SiteRun, SiteRun], str | None]


def facts_key(run: str) -> str:
    """Return the key of the facts of a run."""
    return site_key(f"facts/v{VERSION}/{run}.json")


def evaluation_facts_key(evaluation: str) -> str:
    """Return the key of the facts of an evaluation."""
    return site_key(f"facts/v{VERSION}/evaluation-{evaluation}.json")


def read_site(store: Store, compare: Comparer) -> Site:
    """Return everything that the pages of a store show.

    Parameters
    ----------
    compare : callable
        Returns the page of the comparison of a run with the one before it, or None if there is none.
    """
    stored = stored_runs(store, now=_ANY_TIME)
    runs = store.each(lambda run: _site_run(store, run), stored)
    channels = [inspect_channel(store, name) for name in channel_names(store)]
    site_channels = [channel for channel in map(_site_channel, channels) if channel is not None]
    evaluations = store.each(lambda evaluation: _evaluation(store, evaluation), _evaluation_ids(store))
    return Site(runs=runs, models=_models(runs, channels, compare, evaluations), channels=site_channels)


def _site_run(store: Store, run: StoredRun) -> SiteRun:
    trained, scored = _facts(store, run) if run.result is not None else (None, None)
    is_unfinished = run.state in (RunState.RUNNING, RunState.STOPPED)
    return SiteRun(
        run=run.run_id,
        name=run.name,
        kind=run.kind,
        state=_NOT_FINISHED if is_unfinished else str(run.state),
        started=run.started,
        seconds=run.record.seconds if run.record is not None and not is_unfinished else 0.0,
        reason=run.reason or "",
        trained=trained,
        scored=scored,
        studies=run.studies,
    )


def _facts(store: Store, run: StoredRun) -> tuple[TrainedFacts | None, ScoredFacts | None]:
    """Return the facts of a finished run, from the store if they are there."""
    kind = TrainedFacts if run.kind in MODELS else ScoredFacts
    key = facts_key(run.run_id)
    facts: TrainedFacts | ScoredFacts
    try:
        facts = kind.model_validate_json(store.get(key))
    except (ArtifactNotFound, ValidationError):
        try:
            facts = _read_facts(store, run)
        except ArtifactNotFound:
            return None, None  # deleted meanwhile
        store.put_if_absent(key, canonical_json(facts.model_dump(mode="json")))
    return (facts, None) if isinstance(facts, TrainedFacts) else (None, facts)


def _read_facts(store: Store, run: StoredRun) -> TrainedFacts | ScoredFacts:
    assert run.result is not None
    result = json.loads(store.get(run.result))
    if run.kind in MODELS:
        return trained_facts(result, run.started)
    spec: Mapping[str, Any] = yaml.safe_load(store.get(run_key(run.run_id, "spec.yaml")))["spec"]
    folder = run.result.rpartition("/")[0]
    warnings = [*result["scores"].get("warnings", ()), *result.get("warnings", ())]
    return scored_facts(
        spec,
        {**result["scores"], "warnings": warnings},
        run.started,
        has_file=lambda name: store.exists(f"{folder}/{name}"),
    )


def _evaluation_ids(store: Store) -> list[str]:
    """Return the ids of the evaluations in a store. Their figures are written last."""
    keys = (obj.key.split("/") for obj in store.objects(f"{EVALUATIONS}/"))
    return sorted(key[1] for key in keys if len(key) == 3 and key[2] == EVALUATION_FILE)


def _evaluation(store: Store, name: str) -> Evaluation:
    """Return an evaluation with its facts, from the store if they are there."""
    key = evaluation_facts_key(name)
    try:
        facts = EvaluatedFacts.model_validate_json(store.get(key))
    except (ArtifactNotFound, ValidationError):
        facts = evaluated_facts(
            json.loads(store.get(evaluation_key(name, EVALUATION_FILE))),
            lambda file: store.exists(evaluation_key(name, file)),
        )
        store.put_if_absent(key, canonical_json(facts.model_dump(mode="json")))
    return Evaluation(name, facts)


def _models(
    runs: Sequence[SiteRun],
    channels: Sequence[Channel],
    compare: Comparer,
    evaluations: Sequence[Evaluation],
) -> list[SiteModel]:
    """Return the models by name: training runs of one name, and the scoring runs that used their bundles."""
    versions: dict[str, list[SiteRun]] = {}
    names = {entry.bundle: entry.model for channel in channels for entry in channel.entries}
    for run in sorted(runs, key=lambda run: (run.trained.made if run.trained else run.started, run.run)):
        if run.trained is not None:
            versions.setdefault(run.name, []).append(run)
            names[run.trained.bundle] = run.name

    def name_of(bundle: str) -> str:
        return names.get(bundle, f"bundle {bundle[:_CODE_LENGTH]}")

    nights: dict[str, list[Night]] = {}
    for run in runs:
        if run.scored is not None:
            nights.setdefault(name_of(run.scored.bundle), []).append(Night(run.run, run.scored))
    evaluated: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        evaluated.setdefault(name_of(evaluation.facts.bundle), []).append(evaluation)
    return [
        SiteModel(
            name=name,
            versions=versions.get(name, []),
            nights=sorted(nights.get(name, []), key=lambda night: (night.facts.date, night.run)),
            comparisons=_comparisons(versions.get(name, []), compare),
            evaluations=evaluated.get(name, []),
        )
        for name in sorted({*versions, *nights, *evaluated})
    ]


def _comparisons(versions: Sequence[SiteRun], compare: Comparer) -> dict[tuple[str, str], str]:
    pairs = list(pairwise(versions))[-MAX_COMPARED:]
    pages = {(a.run, b.run): compare(a, b) for a, b in pairs}
    return {pair: page for pair, page in pages.items() if page is not None}


def _site_channel(channel: Channel) -> SiteChannel | None:
    head = channel.head
    if head is None:
        return None
    return SiteChannel(
        name=channel.name,
        number=head.number,
        model=head.model,
        run=head.run,
        at=head.at,
        who=head.who,
        why=head.why,
        forced=head.forced,
        faults=channel.faults,
    )
