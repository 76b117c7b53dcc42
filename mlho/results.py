"""Access to a finished run from a notebook: tables as pandas, figures with a rich display."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from mlho.errors import ArtifactDamaged, ArtifactNotFound, plural
from mlho.printable import printable
from mlho.report.figures.evaluations import tidy_figures
from mlho.report.result import IterationResult, Result, Spread

if TYPE_CHECKING:  # importing pandas takes half a second, which the command avoids
    import pandas as pd

    from mlho.report.figures.figure import Figure

RESULT_FILE: Final = "result.json"
MAX_LISTED: Final = 10
_RECALIBRATION: Final = "RecalibrationRun"
_AUROC: Final = {"auroc": "value", "auroc_low": "low", "auroc_high": "high"}


def open_run(store: str | Path, run: str = "latest") -> "Run":
    """Return a finished training run of a store.

    Parameters
    ----------
    store : str or Path
        Directory of the store, such as ``./mlho-store``.
    run : str
        The run's id, a prefix of it, or the ``metadata.name`` of its specification: the run of that name that finished
        last. ``latest`` is the training run that finished last.

    Raises
    ------
    ArtifactNotFound
        No finished training run matches, or several do; the message lists their ids.
    ArtifactDamaged
        The run's ``result.json`` has a format that this version cannot read.

    Examples
    --------
    >>> run = open_run("mlho-store", "prediabetes")  # doctest: +SKIP
    >>> run.features.head()  # doctest: +SKIP
    >>> run.figures["roc"].save("roc.svg")  # doctest: +SKIP
    """
    folder = _find(Path(store), run)
    return Run(id=folder.name, path=folder, result=_read(folder / RESULT_FILE))


def _find(store: Path, run: str) -> Path:
    results = sorted(path.parent for path in (store / "runs").glob(f"*/{RESULT_FILE}"))
    finished = [folder for folder in results if _spec_of(folder).get("kind") != _RECALIBRATION]
    if not finished:
        raise ArtifactNotFound(f"{store}: contains no finished run. Use the directory of mlho run --store.")
    named = finished if run == "latest" else [folder for folder in finished if _name_of(folder) == run]
    if named and not (store / "runs" / run).is_dir():
        return max(named, key=lambda folder: ((folder / RESULT_FILE).stat().st_mtime_ns, folder.name))
    for matches in (
        [folder for folder in finished if folder.name == run],
        [folder for folder in finished if run and folder.name.startswith(run)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ArtifactNotFound(
                f"{store}: {len(matches)} finished runs are called {run[:64]!r}: {_listed(matches)}. Give more characters of the id."
            )
    for folder in results:
        if run and folder not in finished and (folder.name.startswith(run) or _name_of(folder) == run):
            raise ArtifactNotFound(
                f"{store}: {run[:64]!r} is a recalibration, without the tables of a training run. Load its bundle with "
                f"mlho.load_bundle({str(folder / 'bundle')!r}), or open a training run: {_listed(finished)}."
            )
    raise ArtifactNotFound(
        f"{store}: no finished run is called {run[:64]!r}. There are: {_listed(finished)}."
    )


def _listed(folders: list[Path]) -> str:
    shown = [f"{folder.name} ({name})" if (name := _name_of(folder)) else folder.name for folder in folders]
    more = f" and {len(shown) - MAX_LISTED} more" if len(shown) > MAX_LISTED else ""
    return ", ".join(shown[:MAX_LISTED]) + more


def _spec_of(folder: Path) -> dict[str, Any]:
    """Return the run's specification; empty if it cannot be read."""
    try:
        document = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


def _name_of(folder: Path) -> str | None:
    """Return the name in the run's specification; None if there is none."""
    metadata = _spec_of(folder).get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else None


def _read(path: Path) -> Result:
    try:
        return Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        # The cause would print the content of the file.
        raise ArtifactDamaged(
            f"{path}: is not a result that this version reads ({plural(error.error_count(), 'problem')}, the first at {where}: "
            f"{first['type']}). Run the specification again, or use the version that wrote it."
        ) from None


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    id : str
        The run's id, which is the name of its folder.
    path : Path
        The run's folder, with ``result.json``, ``report.html``, ``bundle/``.
    result : Result
        The whole result, in the documented schema of ``result.json``.
    """

    id: str
    path: Path
    result: Result

    @property
    def name(self) -> str | None:
        """The name in the specification, if there is one."""
        return _name_of(self.path)

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.path / "report.html"

    @property
    def bundle(self) -> Path:
        """Path of the model bundle; ``mlho.load_bundle`` reads it."""
        return self.path / "bundle"

    @property
    def features(self) -> "pd.DataFrame":
        """Table with one row per feature, highest confidence first, then the demographics.

        Columns: id, words, kind, code, description, window_days, aggregate, n_patients, prevalence, selection_frequency,
        median_rank, in_consensus, in_final_model, final_importance, confidence_score, and the consensus model's odds
        ratios (odds_ratio, wald_low, wald_high, profile_low, profile_high, p_value, odds_ratio_per_sd, per_sd_low,
        per_sd_high). Values that do not apply are missing.
        """
        return _frame([_feature_row(feature.model_dump()) for feature in self.result.features])

    @property
    def confidence(self) -> "pd.DataFrame":
        """Table with one row per feature with a confidence score: score, n_seen, n_positive, n_negative, mean_odds_ratio, limits, reason."""
        return _frame(
            [
                {"id": f.id, "words": f.words, "in_consensus": f.in_consensus, **f.confidence.model_dump()}
                for f in self.result.features
                if f.confidence is not None
            ]
        )

    @property
    def metrics(self) -> "pd.DataFrame":
        """Table with one row per candidate and metric: iteration, classifier, is_winner, metric, value, low, high, reason; on test sets.

        Metrics of one version of the probabilities, or of one threshold, have its name as a prefix: ``calibrated/slope``,
        ``youden/sensitivity``.
        """
        rows = [row for iteration in self.result.iterations for row in _metric_rows(iteration)]
        columns = ["iteration", "classifier", "is_winner", "metric", "value", "low", "high", "reason"]
        return _frame(rows, columns)

    @property
    def headline(self) -> "pd.DataFrame":
        """Test metrics of models fitted like the final one, one per row: mean, sd, low, high, minimum, maximum, n, n_absent."""
        return _spreads(self.result.headline)

    @property
    def winners(self) -> "pd.DataFrame":
        """Test metrics of another procedure, the best candidate of each iteration; they do not describe the final model."""
        return _spreads(self.result.winners)

    @property
    def test_sets(self) -> "pd.DataFrame":
        """Table with one row per test set: name, classifier, n_train_patients, n_test_patients, n_features, AUROC, thresholds."""
        return _frame(
            [
                {
                    **test_set.model_dump(exclude={"thresholds"}),
                    **{name: getattr(auroc, key) for name, key in _AUROC.items()},
                    **{f"threshold {rule}": value for rule, value in test_set.thresholds.items()},
                }
                for test_set, auroc in zip(self.result.test_sets, self.result.headline_auroc, strict=True)
            ]
        )

    @property
    def attrition(self) -> "pd.DataFrame":
        """Attrition of the cohort by rule: rule, patients, samples, and the numbers excluded: patients_out, samples_out.

        Numbers hidden because of small cells are missing.
        """
        frame = _frame([step.model_dump() for step in self.result.cohort.attrition])
        for column in ("patients", "samples"):
            frame[column] = frame[column].astype("Int64")
            frame[f"{column}_out"] = -frame[column].diff()
            frame.loc[0, f"{column}_out"] = 0
        return frame

    @property
    def ledger(self) -> "pd.DataFrame":
        """Ledger of event rows: rule (``used`` first), meaning, rows; the sum is the number of rows read."""
        ledger = self.result.ledger
        used = {"rule": "used", "meaning": "Seen by a feature.", "rows": ledger.rows_used}
        return _frame([used, *(rule.model_dump() for rule in ledger.rules)])

    @property
    def curves(self) -> "dict[str, pd.DataFrame]":
        """Curves of models fitted like the final one: ``roc``, ``precision_recall``, ``calibration``, ``decision``.

        ``roc``: test_set, false_positive_rate, sensitivity. ``precision_recall``: test_set, recall, precision.
        ``calibration``: test_set, kind (``smooth`` or ``bin``), predicted, observed, and for bins low, high, n.
        ``decision``: threshold, model, low, high, all, none.
        """
        curves, names = self.result.curves, [test_set.name for test_set in self.result.test_sets]
        return {
            "roc": _frame(
                list(_points(curves.roc, names, "false_positive_rate", "sensitivity")),
                ["test_set", "false_positive_rate", "sensitivity"],
            ),
            "precision_recall": _frame(
                list(_points(curves.precision_recall, names, "recall", "precision")),
                ["test_set", "recall", "precision"],
            ),
            "calibration": _frame(
                list(_calibration_points(curves.calibration, names)),
                ["test_set", "kind", "predicted", "observed", "low", "high", "n"],
            ),
            "decision": _decision_frame(curves.decision),
        }

    @property
    def candidates(self) -> "pd.DataFrame":
        """Table with one row per candidate and metric: classifier, is_final, wins, metric (``cv_auroc`` is out of fold), and its spread."""
        return _frame(
            [
                {
                    "classifier": c.classifier,
                    "is_final": c.is_final,
                    "wins": c.wins,
                    "metric": metric,
                    **s.model_dump(),
                }
                for c in self.result.candidates
                for metric, s in [("cv_auroc", c.cv_auroc), *sorted(c.test.items())]
            ]
        )

    @property
    def iterations(self) -> "pd.DataFrame":
        """Table with one row per iteration: sizes of its parts, numbers of columns screened and selected, winner."""
        return _frame([i.model_dump(exclude={"candidates"}) for i in self.result.iterations])

    @cached_property
    def figures(self) -> "dict[str, Figure]":
        """The report's figures by name (see ``mlho.report.figures.catalogue.figures_of``), with rich display and a method ``save``."""
        from mlho.report.figures.catalogue import figures_of

        return figures_of(self.result)

    def __repr__(self) -> str:
        return f"Run({self.id!r}, outcome={self.result.outcome!r})"

    def _repr_html_(self) -> str:
        """Return the summary of the run in sentences, as at the top of the report."""
        notes = [*self.result.summary, *(f"Careful: {warning}" for warning in self.result.warnings)]
        items = "".join(f"<li>{escape(printable(note))}</li>" for note in notes)
        title = escape(printable(f"{self.name or 'run'} ({self.id})"))
        flag = "" if self.result.predictive else "<p><b>not predictive: association only</b></p>"
        return f"<div><b>{title}</b>{flag}<ul>{items}</ul></div>"


def _frame(rows: list[dict[str, Any]], columns: list[str] | None = None) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)


def _spreads(figures: dict[str, Spread]) -> "pd.DataFrame":
    return _frame([{"metric": name, **s.model_dump()} for name, s in sorted(figures.items())])


def _feature_row(feature: dict[str, Any]) -> dict[str, Any]:
    confidence, odds = feature.pop("confidence"), feature.pop("odds_ratio") or {}
    return {
        **feature,
        "confidence_score": confidence["score"] if confidence else None,
        "odds_ratio": odds.get("per_unit"),
        **{
            name: odds.get(name)
            for name in ("wald_low", "wald_high", "profile_low", "profile_high", "p_value")
        },
        "odds_ratio_per_sd": odds.get("per_sd"),
        **{name: odds.get(name) for name in ("per_sd_low", "per_sd_high")},
    }


def _metric_rows(iteration: IterationResult) -> Iterator[dict[str, Any]]:
    for candidate in iteration.candidates:
        for metric, value, low, high, reason in tidy_figures(candidate.evaluation):
            yield {
                "iteration": iteration.iteration,
                "classifier": candidate.classifier,
                "is_winner": candidate.classifier == iteration.winner,
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "reason": reason,
            }


def _points(
    lines: list[dict[str, list[float]]], names: list[str], x: str, y: str
) -> Iterator[dict[str, Any]]:
    for name, line in zip(names, lines, strict=False):
        for at, height in zip(line["x"], line["y"], strict=True):
            yield {"test_set": name, x: at, y: height}


def _calibration_points(items: list[dict[str, Any]], names: list[str]) -> Iterator[dict[str, Any]]:
    for name, item in zip(names, items, strict=False):
        for at, height in zip(item.get("x", []), item.get("y", []), strict=True):
            yield {"test_set": name, "kind": "smooth", "predicted": at, "observed": height}
        for b in item.get("bins", []):
            predicted = b.get("mean", b.get("mean_predicted"))
            limits = {key: b.get(key) for key in ("observed", "low", "high", "n")}
            yield {"test_set": name, "kind": "bin", "predicted": predicted, **limits}


def _decision_frame(curve: dict[str, Any]) -> "pd.DataFrame":
    columns = ["threshold", "model", "low", "high", "all", "none"]
    if not curve.get("threshold"):
        return _frame([], columns)
    n, model = len(curve["threshold"]), curve["model"]
    absent = [None] * n
    values = (
        curve["threshold"],
        model["mean"],
        model.get("low") or absent,
        model.get("high") or absent,
        curve["all"],
        [0.0] * n,
    )
    return _frame([dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)])
