"""The command ``mlho score``."""

from collections.abc import Mapping
from typing import Any

import yaml

from mlho.errors import ArtifactDamaged, DataError, SpecError, plural
from mlho.spec.reading import parse_mapping, read_text, validate_document
from mlho.spec.scoring import ScoringRunSpec, scoring_run_id
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.api.resource import check_cluster_parts, dated
from scheduler.cli import terminal
from scheduler.cli.options import ScoreOptions
from scheduler.cli.results.site import renew
from scheduler.cli.run import (
    carry_out_one,
    check_broker,
    done_words,
    prepare_with_warnings,
    print_json,
    refuse_what_needs_a_queue,
    shown_address,
    usable_store,
)
from scheduler.cli.scoring.dates import DATE
from scheduler.cli.show_scores import read_manifest, show_scores, warnings_of
from scheduler.engine.prepare import prepare
from scheduler.runs.nights import finished_nights, lost_files
from scheduler.runs.stored import StoredRun
from scheduler.site.pages import INDEX


def score_command(options: ScoreOptions) -> int:
    """Run ``mlho score``."""
    refuse_what_needs_a_queue(options)
    text, where = read_text(options.spec), str(options.spec)
    document = parse_mapping(text, where=where)
    if options.as_of is not None:
        if DATE not in text:
            raise SpecError(
                f"{where}: --as-of needs {DATE}, such as index: {{date: '{DATE}'}}, or uri: ehr/{DATE} for a bundle with index: none; "
                "without it all nights are the same run."
            )
        return _score_nights(document, options)
    if DATE in text:
        raise SpecError(f"{where}: has {DATE}. State the night to score: --as-of 2026-11-24, or a range.")
    if options.again:
        raise SpecError("--again: needs --as-of, the nights to score again.")
    spec = _spec(document, where)
    store = usable_store(options)
    check_broker(options)
    run = prepare_with_warnings(spec, options.spec, store)
    finished = carry_out_one(run, spec.metadata.name, options)
    renew(store, options.store)
    if options.json:
        print_json(store, [finished.run_id], options.store, {})
        return 0
    show_scores(store, finished.run_id)
    terminal.out.print()
    terminal.print_line(f"run      {finished.run_id} ({done_words(finished)})")
    root = shown_address(options.store)
    terminal.print_line(f"scores   {root}/{run.key('manifest.json')}")
    terminal.print_line(f"site     {root}/{INDEX}")
    return 0


def _spec(document: Mapping[str, Any], where: str) -> ScoringRunSpec:
    spec = validate_document(document, ScoringRunSpec, where=where)
    check_cluster_parts(document, where=where)
    return spec


def _score_nights(template: Mapping[str, Any], options: ScoreOptions) -> int:
    """Score each night that was not scored yet, the earliest first. A night that is not complete does not stop the others."""
    assert options.as_of is not None
    store, where = usable_store(options), str(options.spec)
    _spec_name(template, where)
    done, failed, runs = finished_nights(store), 0, []
    for day in options.as_of:
        spec = _spec(dated(template, day), where)
        before = done.get(spec.metadata.name)
        try:
            runs.append(_score_night(spec, before, store, options))
        except DataError as error:
            failed = failed or error.exit_code
            terminal.print_note(f"{spec.metadata.name}  not scored: {error}")
    renew(store, options.store)
    if options.json and runs:
        print_json(store, runs, options.store, {})
    return failed


def _spec_name(template: Mapping[str, Any], where: str) -> None:
    metadata = template.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise SpecError(
            f"{where}: metadata.name is missing. Write, for example, metadata: {{name: nightly}}."
        )


def _score_night(spec: ScoringRunSpec, before: StoredRun | None, store: Store, options: ScoreOptions) -> str:
    """Score a night, or keep its earlier scores. Return the id of its run."""
    name = spec.metadata.name
    if before is not None and not options.again:
        note = _damage(before, store) or _changed_since(spec, before, store, options)
        _say(options, f"{name}  kept        run {before.run_id}{note}")
        return before.run_id
    run = prepare_with_warnings(spec, options.spec, store)
    finished = carry_out_one(run, name, options)
    manifest = read_manifest(store, run.run_id)
    word = "scored    " if finished.n_new else "complete  "
    _say(
        options,
        f"{name}  {word}  run {run.run_id}, {plural(manifest['scores']['samples'], 'score')}{_findings(manifest, name)}",
    )
    return finished.run_id


def _findings(manifest: Mapping[str, Any], name: str) -> str:
    """Describe the warnings and the advice of a night, which are too long for its line; empty without any."""
    warnings, advice = warnings_of(manifest), manifest["scores"].get("advice") or {}
    found = [plural(len(warnings), "warning")] if warnings else []
    if advice.get("action", "hold") != "hold":
        found.append(f"advice: {advice['action']}")
    return f"; {', '.join(found)}, see mlho show {name}" if found else ""


def _say(options: ScoreOptions, words: str) -> None:
    if not options.json:
        terminal.print_line(words)


def _damage(before: StoredRun, store: Store) -> str:
    """Describe what the store has lost of the published scores of a night; empty if nothing."""
    try:
        lost = lost_files(store, before)
    except ArtifactDamaged as error:
        return f"; {error}"
    if not lost:
        return ""
    return f"; {plural(len(lost), 'file')} of its scores {'is' if len(lost) == 1 else 'are'} missing, first {lost[0]}: --again publishes them again"


def _changed_since(spec: ScoringRunSpec, before: StoredRun, store: Store, options: ScoreOptions) -> str:
    """Describe the change since a night was scored: its tables or specification, or only the model."""
    try:
        run = prepare(spec, options.spec, store, inspect=lambda *_: None)
    except DataError as error:
        return f"; its tables are not complete at present: {error}"
    if run.run_id == before.run_id:
        return ""
    section = yaml.safe_load(store.get(run_key(before.run_id, "spec.yaml")))["spec"]
    scored_with, compared = section["bundle"], section.get("compareWith", {}).get("digest")
    digest = str(scored_with.get("digest"))
    if scoring_run_id(run.spec.spec, run.manifest.plain(), digest, compared) == before.run_id:
        return f", with {scored_with['uri']}; --again scores it with {run.spec.spec.bundle.uri}"
    return "; its tables or its specification have changed since (late data, for example): --again scores it with the current ones"
