"""The command ``mlho evaluate``: a bundle on labelled data that it was not trained on."""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from mlho.errors import DataError, SpecError
from mlho.spec.data import training_only
from mlho.spec.scoring import BundleSource
from mlho.spec.training import RunSpec, digest_of, parse_spec
from mlho.store.base import Store
from mlho.store.inputs import open_data
from mlho.store.keys import evaluation_key
from scheduler.api.resource import load_checked
from scheduler.cli import terminal
from scheduler.cli.evaluation.advised_run import RECALIBRATE, RETRAIN, advised_manifest
from scheduler.cli.init import FILE, guessed_spec
from scheduler.cli.listing import checked_output, store_to_read
from scheduler.cli.options import Commands, EvaluateOptions, LabelledOptions
from scheduler.cli.results.site import renew
from scheduler.cli.run import usable_store
from scheduler.cli.validate import inspect_first
from scheduler.engine.manifest import data_root, make_manifest
from scheduler.engine.process_pool import call_beside
from scheduler.engine.publication import with_fields
from scheduler.engine.scoring_run import PinnedBundle, bundle_now, read_bundle
from scheduler.runs.origin import known_files
from scheduler.site.facts import EVALUATION_FILE

_ID_LENGTH: Final = 16
_SITE_FIELD: Final = "validation.splitColumn"
EVALUATE_ABOUT: Final = """\
Evaluate a bundle on labelled data that it was not trained on (external validation).

The report has all figures of a training report with confidence intervals for these patients, calibration, recalibration (evaluated
on patients outside each fit), and performance by month (or night), site and demographic group. Surveillance of the AUROC over these
periods detects a lasting loss, and the command advises you to hold, recalibrate or retrain; the manifest of the advised run is
written next to the report. It runs in this process, not on a queue, and changes neither the bundle nor, without --publish, the
store.

The data are described as for training: --spec is a specification of kind TrainingRun, of which only the tables, the cohort, the
groups (features.demographics), report.minCell and the seed are used. --data FOLDER uses FOLDER/mlho.yaml, or else guesses the
tables as mlho init does, with the outcome of the bundle.
"""


def add_evaluate(commands: Commands) -> None:
    """Add ``mlho evaluate``."""
    parser = commands.add("evaluate", _evaluate, "evaluate a bundle on other labelled data", EVALUATE_ABOUT)
    add_data(parser)
    parser.add_argument(
        "--site", metavar="COLUMN", help="also report figures by this column of the labels or demographics"
    )
    parser.add_argument(
        "--by",
        choices=("month", "night"),
        default="month",
        help="periods of the figures and of the surveillance of the AUROC (default: month)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where the files go (default: ./evaluation-ID)"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also keep the report and the figures in the store, so that the site shows the performance over time",
    )
    parser.add_argument("--json", action="store_true", help="print the evaluation as JSON")


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the bundle and the labelled data."""
    parser.add_argument("bundle", help="folder, s3://…, run:ID, run:NAME (its newest run), or channel:NAME")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--spec", type=Path, help="specification of the data (YAML, kind TrainingRun)")
    where.add_argument("--data", type=Path, metavar="FOLDER", help="folder of the tables")


def _evaluate(options: EvaluateOptions) -> int:
    checked_output(options.out or Path(), "--out", is_folder=True)
    _refuse_other_report(options.out)
    store = usable_store(options) if options.publish else store_to_read(options, options.bundle)
    source = bundle_now(BundleSource(uri=options.bundle), store)
    bundle = read_bundle(source, Path("spec.yaml"), store)
    spec, path = asked_spec(options, bundle)
    with _naming_the_option(options.site):
        spec = _by_site(spec, options.site)
        data = data_root(spec, path)
        inspect_first(spec, data, trains=False)
        manifest = make_manifest(spec.spec.data.tables, data, source=spec.spec.data.source).plain()
        data_digest = digest_of(manifest)
        known = (
            known_files(source, store, manifest),
            known_files(source, store, manifest, tables=["labels"]),
        )
        files = call_beside(_files, dict(bundle.files), spec, data, data_digest, known, options.by)
    identity = {"bundle": bundle.digest, "data": data_digest, "spec": spec.digest}
    if options.by != "month":
        identity["by"] = options.by
    evaluation_id = digest_of(identity)[:_ID_LENGTH]
    folder = options.out or Path(f"evaluation-{evaluation_id}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    evaluation = json.loads(files["evaluation.json"])
    advised = advised_manifest(evaluation["advice"], options.bundle, source, store, spec, data)
    if advised is not None:
        (folder / advised[0]).write_bytes(advised[1])
    for name in {RETRAIN, RECALIBRATE} - {advised[0] if advised else None}:
        if (folder / name).exists():
            terminal.print_warning(f"{folder / name} is not of this evaluation, which does not advise it.")
    if options.publish:
        _publish(store, evaluation_id, files | ({} if advised is None else dict([advised])))
        renew(store, options.store)
    if options.json:
        terminal.print_json({**evaluation, "folder": str(folder)})
    else:
        _show(evaluation, folder, None if advised is None else advised[0])
    return 0


def _refuse_other_report(out: Path | None) -> None:
    """Refuse a folder whose report is not that of an evaluation, such as an exported run: it would be lost."""
    if out is not None and (out / "report.html").exists() and not (out / EVALUATION_FILE).exists():
        raise SpecError(
            f"--out {out}: contains a report that is not of an evaluation. Choose another folder."
        )


@contextmanager
def _naming_the_option(site: str | None) -> Iterator[None]:
    """Name ``--site`` in errors about the column of sites, which the user has given by this option."""
    try:
        yield
    except (SpecError, ValueError) as error:  # a DataError is a ValueError
        if site is None or _SITE_FIELD not in str(error):
            raise
        if not isinstance(error, DataError):
            raise SpecError(str(error).replace(_SITE_FIELD, "--site")) from None
        rule, expected, remedy = (
            text.replace(_SITE_FIELD, "--site") for text in (error.rule, error.expected, error.remedy)
        )
        raise DataError(error.where, rule, expected=expected, got=error.got, remedy=remedy) from None


def _publish(store: Store, evaluation_id: str, files: Mapping[str, bytes]) -> None:
    """Write an evaluation to the store; its figures, which the site looks for, come last."""
    for file in sorted(files, key=lambda file: file == EVALUATION_FILE):
        store.put_if_absent(evaluation_key(evaluation_id, file), files[file])


def asked_spec(options: LabelledOptions, bundle: PinnedBundle) -> tuple[RunSpec, Path]:
    """Return the specification of the data and its file, whose folder is the base of a relative address."""
    path = options.spec
    if path is None:
        assert options.data is not None  # one of the two is required
        path = options.data / FILE
    if options.spec is not None or path.exists():
        spec = load_checked(path, parse_spec)
        if unused := training_only(spec.spec):
            terminal.print_note(
                f"Warning: {path}: {', '.join(unused)} {'is' if len(unused) == 1 else 'are'} ignored, because the "
                "model is that of the bundle."
            )
        if spec.spec.recalibrate is not None:
            terminal.print_note(
                f"Warning: {path}: recalibrate is ignored. The command gives the bundle and the correction."
            )
        return spec, path
    spec = guessed_spec(path.parent, outcome=str(bundle.document["outcome"]))
    tables = ", ".join(
        f"{name} {file}" for name, file in spec.spec.data.tables.model_dump(exclude_none=True).items()
    )
    terminal.print_note(
        f"Tables as mlho init guesses them: {tables}; outcome {spec.spec.cohort.outcome}. State them with --spec."
    )
    return spec, path


def _by_site(spec: RunSpec, site: str | None) -> RunSpec:
    """Return the specification with only those fields of ``validation`` that an evaluation reads, and with the column of sites."""
    original = spec.spec.validation
    split = original.split_column if original.split == "site" else None
    column = site or split
    plain = {"seed": original.seed, "bootstrap_replicates": original.bootstrap_replicates}
    by_site = {"split": "site", "split_column": column} if column else {}
    validation = type(original)(**plain, **by_site)
    changed = with_fields(spec, validation=validation)
    changed.spec.cohort.check_uses(changed.spec)
    return changed


def _files(
    bundle: Mapping[str, bytes],
    spec: RunSpec,
    data: Path | str,
    data_digest: str,
    known: tuple[int, int],
    by: Literal["month", "night"],
) -> dict[str, bytes]:
    from mlho.external.command import evaluation_files

    n_files, n_labels = known
    return evaluation_files(
        bundle,
        spec.spec,
        open_data(data),
        data_digest=data_digest,
        n_known_files=n_files,
        n_known_labels=n_labels,
        period=by,
    )


def _show(evaluation: Mapping[str, Any], folder: Path, advised: str | None) -> None:
    terminal.print_lines(evaluation["summary"])
    terminal.print_lines(f"Warning: {sentence}" for sentence in evaluation["warnings"])
    terminal.out.print()
    terminal.print_line(f"report   {folder / 'report.html'}")
    terminal.print_line(f"figures  {folder / 'evaluation.json'}")
    if advised is not None:
        terminal.print_line(f"advised  {folder / advised}")
