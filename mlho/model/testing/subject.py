"""The bundle under test, with the synthetic rows and events that several checks share."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import NumberCode
from mlho.model.scorer import Scorer
from mlho.spec.model_tests import CasePatient

if TYPE_CHECKING:
    from mlho.model.scoring import EncodedEvents

type EventRow = tuple[str, dt.datetime | None, str, float | None]
"""Patient, time, code and value."""

_INDEX_DATE: Final = dt.date(2020, 1, 1)  # arbitrary; only differences matter
_N_PATIENTS = 6
_N_CODES = 24
_N_CROSSED = 13  # times the drawn rows: about two hundred
_TIME = pa.timestamp("us")
_STEP_DAYS = 37  # between the days of synthetic events: they reach beyond short windows


@dataclass(frozen=True)
class Finding:
    """The finding of a check."""

    passed: bool
    got: str
    """In words."""
    defect: str = ""
    """A sentence that names the defect, for a check that failed."""


def valid_score(score: float, defect: str) -> Finding:
    """Return whether a score is strictly between 0 and 1."""
    return Finding(0 < score < 1, f"{score:.6g}", defect)


@dataclass(frozen=True, eq=False)
class Subject:
    """A bundle under test."""

    bundle: Scorer

    @cached_property
    def drawn(self) -> NDArray[np.float64]:
        """Synthetic rows drawn feature by feature, shape (n_rows, n_columns); without the dense ones."""
        golden = self.bundle.golden
        rows = [number for number, kind in enumerate(golden.kinds) if kind == "drawn"]
        return golden.X[rows[::2]]

    @cached_property
    def crossed(self) -> NDArray[np.float64]:
        """More synthetic rows, shape (n_rows, n_columns): the columns of the drawn ones, each shifted by a different number of rows.

        A share of 5 % needs more rows than a bundle stores. Columns are drawn independently, so that a shift preserves their distributions.
        """
        n_rows, n_columns = self.drawn.shape
        shifts = np.arange(_N_CROSSED)[:, None] * (1 + np.arange(n_columns))
        rows = (np.arange(n_rows)[None, :, None] + shifts[:, None, :]) % n_rows
        crossed: NDArray[np.float64] = self.drawn[rows, np.arange(n_columns)].reshape(-1, n_columns)
        return crossed

    @cached_property
    def has_index(self) -> bool:
        """Whether a score is as of an index date."""
        return self.bundle.document.scoring.index_kind != "none"

    @cached_property
    def index_date(self) -> dt.date:
        """Index date of the synthetic patients: one whose events are in the plausible years of training."""
        scoring = self.bundle.document.scoring
        first, last = scoring.plausible_years
        window = dt.timedelta(days=0 if scoring.after is None else scoring.after.to_days)
        if first <= _INDEX_DATE.year and (_INDEX_DATE + window).year <= last:
            return _INDEX_DATE
        if first > _INDEX_DATE.year:
            return dt.date(min(first + 2, last), 1, 1)
        return dt.date(last, 12, 1) - window

    @cached_property
    def last_day(self) -> dt.date:
        """The last day that features see."""
        scoring = self.bundle.document.scoring
        days = -scoring.gap_days if scoring.after is None else scoring.after.to_days
        return self.index_date + dt.timedelta(days=days)

    @cached_property
    def rows(self) -> list[EventRow]:
        """Events of synthetic patients with the bundle's codes: patient k has every k-th code; empty without features."""
        codes = sorted(self.bundle.document.codes)[:_N_CODES]
        return [
            (
                f"patient {number}",
                _midnight(self.last_day - dt.timedelta(days=_STEP_DAYS * (place % 4) * number)),
                code,
                float(1 + place % 3),
            )
            for number in range(_N_PATIENTS)
            for place, code in enumerate(codes)
            if place % (number + 1) == 0
        ]

    @cached_property
    def scores(self) -> dict[str, float]:
        """Probability of each synthetic patient."""
        return self.score(self.rows)

    def score(self, rows: Sequence[EventRow]) -> dict[str, float]:
        """Return the probability of each patient of these events, as of the index date."""
        return self.scores_of(self.encoded(events_of(rows)))

    def scores_of(self, encoded: "EncodedEvents") -> dict[str, float]:
        """Return the probability of each encoded patient."""
        probabilities = self.bundle.predict_proba(encoded.design)
        return dict(zip(encoded.samples.patient_ids, probabilities.tolist(), strict=True))

    def encoded(self, events: pa.Table) -> "EncodedEvents":
        """Encode a table of events as of the index date; no demographics are known."""
        from mlho.model.scoring import encode_events

        return encode_events(self.bundle, events, self.index_date if self.has_index else None, self.unknown)

    @cached_property
    def inputs(self) -> NDArray[np.float64]:
        """The dense input of the model for the synthetic patients, shape (n_patients, n_columns)."""
        from mlho.method.classifiers.tree_matrix import dense_rows

        encoded = self.encoded(events_of(self.rows))
        return np.asarray(dense_rows(encoded.design, self.bundle.classifier.empty_row))

    @cached_property
    def unknown(self) -> pa.Table | None:
        """A table of demographics without rows; None for a bundle that uses none."""
        encoder = self.bundle.demographics
        if encoder is None:
            return None
        return pa.table(
            {name: pa.nulls(0) for name in ("patient_id", *(code.name for code in encoder.codes))}
        )

    def invented(self, patients: Sequence[CasePatient]) -> NDArray[np.float64]:
        """Return the probabilities of invented patients, in their order."""
        from mlho.model.scoring import encode_events

        day = _midnight(self.last_day)
        names = [f"patient {number:03d}" for number in range(len(patients))]
        rows = [
            (name, day, code, value)
            for name, patient in zip(names, patients, strict=True)
            for code, value in [*((code, None) for code in patient.codes), *patient.values.items()]
        ]
        index = {"patient_id": pa.array(names, pa.string())}
        if self.has_index:
            index["index_date"] = pa.array([_midnight(self.index_date)] * len(names), _TIME)
        demographics = self._invented_demographics(names, patients)
        encoded = encode_events(self.bundle, events_of(rows), pa.table(index), demographics)
        return self.bundle.predict_proba(encoded.design)

    def _invented_demographics(
        self, names: Sequence[str], patients: Sequence[CasePatient]
    ) -> pa.Table | None:
        encoder = self.bundle.demographics
        if encoder is None:
            return None
        columns = {"patient_id": pa.array(names, pa.string())}
        for code in encoder.codes:
            values = [patient.demographics.get(code.name) for patient in patients]
            if isinstance(code, NumberCode):
                numbers = [None if value is None else float(value) for value in values]
                columns[code.name] = pa.array(numbers, pa.float64())
            else:
                columns[code.name] = pa.array(values, pa.string())
        return pa.table(columns)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day)


def events_of(rows: Sequence[EventRow]) -> pa.Table:
    """Return a table of events. Not a DataFrame: a training run tests its model, and needs pandas for nothing else."""
    patients, times, codes, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "patient_id": pa.array(patients, pa.string()),
            "time": pa.array(times, _TIME),
            "code": pa.array(codes, pa.string()),
            "numeric_value": pa.array(values, pa.float64()),
        }
    )
