"""The bundle: a model with everything needed to use, explain and test it, in safe file formats.

Layout: ``bundle.json`` (see :mod:`mlho.model.document`), ``model/*`` (the classifier), ``tests/golden.json`` (synthetic rows with
their scores), ``tests/tests.json`` (:mod:`mlho.model.testing`), ``model_card.md`` and ``bundle.sha256``. Equal parts give equal bytes.
"""

import datetime as dt
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlho.errors import BundleError
from mlho.model.card import model_card
from mlho.model.contents import MODEL_FOLDER, classifier_of, demographics_of, has_value_columns
from mlho.model.document import document_bytes, document_of, parse_document
from mlho.model.files import (
    DIGEST,
    DOCUMENT,
    FileFacts,
    digest_line,
    facts_of,
    read_document,
    read_files,
    write_folder,
)
from mlho.model.golden import GoldenRows, golden_inputs
from mlho.model.parts import BundleParts
from mlho.model.scorer import Scorer
from mlho.model.testing.generate import generate_tests
from mlho.model.testing.records import TESTS_FILE, ModelTest, ModelTestResult, parse_tests, written_tests
from mlho.model.testing.runner import run_tests
from mlho.spec.training import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from mlho.model.scoring import EncodedEvents

CARD: Final = "model_card.md"
GOLDEN: Final = "tests/golden.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle(Scorer):
    """A loaded bundle. It predicts from a feature matrix or from events, explains its predictions, and tests itself.

    Attributes
    ----------
    document : BundleDocument
        ``bundle.json``.
    demographics : DemographicsEncoder or None
        Encoder of the columns that follow the features.
    card : str
        The model card, in Markdown.
    digest : str
        SHA-256 (hexadecimal) of ``bundle.json``, which covers all files of the bundle.
    n_bytes : int
        Total size of all files.
    tests : tuple of ModelTest, or None
        Tests that the bundle carries; None for a bundle of an earlier version.
    """

    card: str
    digest: str

    @property
    def features(self) -> "pd.DataFrame":
        """The feature dictionary with one row per feature, in column order."""
        import pandas as pd

        names = [
            "id",
            "code",
            "description",
            "window_days",
            "aggregate",
            "words",
            "importance",
            "coefficient",
        ]
        rows = [[getattr(feature, name) for name in names] for feature in self.document.features]
        return pd.DataFrame(rows, columns=names).astype({"window_days": "Int64", "coefficient": "float64"})

    def explain(self, X: Any) -> "pd.DataFrame":
        """Return the contribution of each column to the log-odds of each row, before calibration.

        Returns
        -------
        DataFrame, shape (n_samples, n_columns + 1)
            Columns are :attr:`columns` and ``intercept``. Summed from left to right, they are the log-odds of the
            uncalibrated probability.
        """
        import pandas as pd

        matrix = self._matrix(X)
        index = X.index if hasattr(X, "loc") else None
        return pd.DataFrame(
            self.classifier.contributions(matrix), columns=[*self.columns, "intercept"], index=index
        )

    def predict_events(
        self,
        events: "pd.DataFrame",
        index: "pd.DataFrame | dt.date | None" = None,
        demographics: "pd.DataFrame | None" = None,
    ) -> "pd.DataFrame":
        """Score patients from their events, encoded by the same code as the training data.

        Parameters
        ----------
        events : DataFrame
            ``patient_id``, ``time``, ``code`` and, if the bundle uses values, ``numeric_value``.
        index : DataFrame, date or None
            The samples: a table of ``patient_id`` and ``index_date``, one row per sample (patients without events are
            scored too); one date for all patients in ``events`` and ``demographics``; or None, if the bundle has its own
            date or none. A date includes the whole day, a timestamp (a datetime column) data up to that instant.
        demographics : DataFrame, optional
            ``patient_id`` and the columns used by the bundle (required if there are any). ``age`` is computed from
            ``birth_date`` if there is no column ``age``. One row per patient, or one per sample with a column
            ``index_date``. Values of patients without a row are unknown.

        Returns
        -------
        DataFrame
            Sorted by (patient_id as text, index_date): ``patient_id``, ``index_date``, ``probability`` (calibrated),
            ``uncalibrated``, ``risk: <n> days`` for each horizon of a time to an event, and ``alert: <rule>`` for each threshold. ``attrs`` holds ``unknown_codes`` and
            ``unknown_code_rows`` (usable rows whose code is not in the bundle: ignored) and ``ledger`` (rows by rule).

        Raises
        ------
        DataError
            A column is missing or has a wrong type, no time can be read, or the index does not match the bundle.

        Warns
        -----
        UserWarning
            Many rows are unusable, or none is used (rows of other patients and after the index date do not count); no patient with events
            has a row of demographics, or many rows of it have a level that the bundle does not have.
        """
        from mlho.model.scoring import score_table

        return score_table(self, self._encoded(events, index, demographics))

    def explain_events(
        self,
        events: "pd.DataFrame",
        index: "pd.DataFrame | dt.date | None" = None,
        demographics: "pd.DataFrame | None" = None,
    ) -> "pd.DataFrame":
        """Return the contributions of :meth:`explain` for the samples of :meth:`predict_events`, in the same order.

        The first columns are ``patient_id`` and ``index_date``.
        """
        from mlho.model.scoring import with_samples

        encoded = self._encoded(events, index, demographics)
        return with_samples(encoded, self.explain(encoded.design))

    def run_tests(self, *, measured: bool = True) -> list[ModelTestResult]:
        """Run the tests of the bundle; see :func:`mlho.model.testing.runner.run_tests`. A failure is reported, not raised."""
        return run_tests(self, measured=measured)

    def _encoded(
        self,
        events: "pd.DataFrame",
        index: "pd.DataFrame | dt.date | None",
        demographics: "pd.DataFrame | None",
    ) -> "EncodedEvents":
        """Encode events for a caller of the public methods, who is warned of lost rows and values."""
        from mlho.model.demographics import lost_values
        from mlho.model.scoring import encode_events, lost_rows

        encoded = encode_events(self, events, index, demographics)
        lost = lost_values(self.demographics, encoded.samples, events, demographics)
        for sentence in (*lost_rows(encoded), *lost):
            warnings.warn(sentence, UserWarning, stacklevel=3)
        return encoded

    def __repr__(self) -> str:
        return (
            f"Bundle({self.document.outcome!r}, {self.classifier.name}, {len(self.columns)} columns,"
            f" digest {self.digest[:12]})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        document = self.document
        rows = {
            "outcome": document.outcome + ("" if document.predictive else " (association only)"),
            "classifier": self.classifier.name,
            "features": f"{len(document.features)} of events, {len(self.columns) - len(document.features)} of demographics",
            "thresholds": ", ".join(
                f"{threshold.rule} {threshold.value:.3g}"
                for threshold in self.thresholds
                if threshold.value is not None
            ),
            "digest": self.digest[:12],
        }
        cells = "".join(
            f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>mlho bundle</caption>{cells}</table>"


def write_bundle(folder: Path, parts: BundleParts) -> str:
    """Write a bundle and return its digest.

    Parameters
    ----------
    folder : Path
        A new folder, or one with an identical bundle, which is left unchanged. Writing is atomic.

    Returns
    -------
    str
        SHA-256 (hexadecimal) of ``bundle.json``.

    Raises
    ------
    BundleError
        The parts are inconsistent, or the folder contains something else.
    """
    _check(parts)
    files = {MODEL_FOLDER + name: content for name, content in parts.classifier.to_files().items()}
    files[GOLDEN] = canonical_json(_golden(parts).to_json())
    files[CARD] = model_card(parts).encode()
    files[TESTS_FILE] = written_tests(_tests(parts, _facts(files)))
    document = document_bytes(parts, _facts(files))
    parse_document(document, where=DOCUMENT)  # write only documents that can be read
    write_folder(folder, {**files, DOCUMENT: document, DIGEST: digest_line(document)})
    return facts_of(document).sha256


def _facts(files: Mapping[str, bytes]) -> dict[str, FileFacts]:
    return {name: facts_of(content) for name, content in files.items()}


def _tests(parts: BundleParts, files: dict[str, FileFacts]) -> tuple[ModelTest, ...]:
    """Return the tests of a bundle with these parts and files."""
    bundle = Scorer(
        document=document_of(parts, files),
        classifier=parts.classifier,
        demographics=parts.demographics,
        golden=_golden(parts),
        n_bytes=0,
    )
    return generate_tests(bundle, parts.evidence, parts.requirements, parts.monotone)


def _golden(parts: BundleParts) -> GoldenRows:
    empty_row = parts.classifier.empty_row
    kinds, X = golden_inputs(parts.statistics, empty_row=empty_row, seed=int(parts.lineage["seed"]))
    probability = parts.classifier.predict_proba(X)
    return GoldenRows(kinds, X, empty_row, probability, np.asarray(parts.calibrator.apply(probability)))


def _check(parts: BundleParts) -> None:
    n_columns, seed = len(parts.columns), parts.lineage.get("seed")
    problems = {
        f"the classifier has {parts.classifier.n_features} columns": parts.classifier.n_features != n_columns,
        f"there are statistics of {len(parts.statistics)} columns": len(parts.statistics) != n_columns,
        "the names of the columns are not unique": len(set(parts.columns)) != n_columns,
        "the classifier has different value columns": not has_value_columns(
            parts.classifier, parts.features, parts.scoring, parts.demographics
        ),
        "lineage has no whole number 'seed'": not isinstance(seed, int) or isinstance(seed, bool) or seed < 0,
        "lineage or metrics are not plain JSON without NaN": not _is_plain([parts.lineage, parts.metrics]),
    }
    found = [words for words, is_so in problems.items() if is_so]
    if found:
        raise BundleError(
            f"bundle: the parts are inconsistent. Expected {n_columns} columns (features, then demographics), a seed and plain"
            f" figures; got: {'; '.join(found)}. Build the parts from one fit."
        )


def _is_plain(value: object) -> bool:
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        return False
    return True


def load_bundle(path: str | Path, *, digest: str | None = None) -> Bundle:
    """Load a bundle after verifying all of its files.

    Parameters
    ----------
    digest : str, optional
        Expected digest, if the caller knows which bundle to use.

    Raises
    ------
    BundleError
        A file is missing, damaged or unexpected, the schema or version differs, or the parts are inconsistent.

    Examples
    --------
    >>> bundle = load_bundle("bundles/prediabetes")
    >>> scores = bundle.predict_events(events, index=dt.date(2026, 1, 31))
    >>> scores.loc[scores["alert: youden"], ["patient_id", "probability"]]
    """
    folder = Path(path)
    content = read_document(folder)
    found = facts_of(content).sha256
    if digest is not None and digest != found:
        raise BundleError(
            f"{folder}: another bundle. Expected digest {digest[:64]}; got {found}. Fetch the requested bundle."
        )
    document = parse_document(content, where=str(folder / DOCUMENT))
    files = read_files(folder, document.file_facts)
    for name in (GOLDEN, CARD):
        if name not in files:
            raise BundleError(
                f"{folder}: {DOCUMENT} does not list {name}. Expected a complete bundle. Build it again."
            )
    tests = parse_tests(files[TESTS_FILE]) if TESTS_FILE in files else None
    classifier, demographics = classifier_of(document, files), demographics_of(document)
    if not has_value_columns(classifier, document.features, document.scoring, demographics):
        raise BundleError(
            f"{folder}: the parts are inconsistent. Expected a model whose value columns are the features with values, the"
            " numeric demographics and utilisation; got others. Build the bundle again."
        )
    return Bundle(
        document=document,
        classifier=classifier,
        demographics=demographics,
        golden=GoldenRows.from_json(files[GOLDEN], empty_row=classifier.empty_row),
        card=files[CARD].decode(errors="replace"),
        digest=found,
        n_bytes=len(content) + len(digest_line(content)) + sum(map(len, files.values())),
        tests=tests,
    )
