"""The bundle under test, with the synthetic rows and events that several checks share."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import NumberCode
from mlho.model.frames import NO_DATE, batch_of, samples_of
from mlho.model.scorer import Scorer
from mlho.spec.model_tests import CasePatient

if TYPE_CHECKING:
    import pandas as pd

    from mlho.model.scoring import EncodedEvents

type EventRow = tuple[str, dt.datetime, str, float]
"""Patient, time, code and value."""

INDEX_DATE: Final = dt.date(2020, 1, 1)  # arbitrary; only differences matter
_N_PATIENTS = 6
_N_CODES = 24
_N_CROSSED = 13  # times the drawn rows: about two hundred
_STEP_DAYS = 37  # between the days of synthetic events: they reach beyond short windows


@dataclass(frozen=True)
class Finding:
    """The finding of a check.

    Attributes
    ----------
    got : str
        In words.
    defect : str
        A sentence that names the defect, for a check that failed.
    """

    passed: bool
    got: str
    defect: str = ""


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

        A share of 5 % needs more rows than a bundle stores. Columns are drawn independently, so that a shift keeps what they are.
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
    def last_day(self) -> dt.date:
        """The last day that features see."""
        scoring = self.bundle.document.scoring
        days = -scoring.gap_days if scoring.after is None else scoring.after.to_days
        return INDEX_DATE + dt.timedelta(days=days)

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
    def events(self) -> "pd.DataFrame":
        """The events of the synthetic patients as a table."""
        return events_of(self.rows)

    @cached_property
    def scores(self) -> dict[str, float]:
        """Probability of each synthetic patient."""
        return self.score(self.events)

    def score(self, events: "pd.DataFrame") -> dict[str, float]:
        """Return the probability of each patient of a table of events."""
        table = self.table(events)
        return dict(zip(table["patient_id"], table["probability"].tolist(), strict=True))

    def table(self, events: "pd.DataFrame", demographics: "pd.DataFrame | None" = None) -> "pd.DataFrame":
        """Score a table of events as of the index date; no demographics are known by default."""
        index = INDEX_DATE if self.has_index else None
        return self.bundle.predict_events(events, index, self.known(demographics))

    def encoded(self, events: "pd.DataFrame") -> NDArray[np.float64]:
        """Return the dense input of the model for the patients of a table of events, shape (n_patients, n_columns)."""
        from mlho.model.scoring import encode_events

        index = INDEX_DATE if self.has_index else None
        return self._dense(encode_events(self.bundle, events, index, self.known(None)))

    def encoded_rows(self) -> NDArray[np.float64]:
        """Return the dense input of the model for the synthetic patients without a DataFrame: writing a bundle needs no pandas."""
        from mlho.model.scoring import encode_batch

        patients, times, codes, values = zip(*self.rows, strict=True)
        columns = {
            "patient_id": pa.array(patients, pa.string()),
            "time": pa.array(times, pa.timestamp("us")),
            "code": pa.array(codes, pa.string()),
            "numeric_value": pa.array(values, pa.float64()),
        }
        samples = samples_of(patients, INDEX_DATE if self.has_index else None)
        extra = None
        if (encoder := self.bundle.demographics) is not None:
            unknown = [None] * len(samples.patient_of)
            extra = encoder.transform_table({code.name: unknown for code in encoder.codes})
        no_births = np.full(len(samples.patient_ids), NO_DATE, np.int64)
        return self._dense(encode_batch(self.bundle, samples, batch_of(columns), extra, no_births))

    def _dense(self, encoded: "EncodedEvents") -> NDArray[np.float64]:
        from mlho.method.classifiers.tree_matrix import dense_rows

        return np.asarray(dense_rows(encoded.design, self.bundle.classifier.empty_row))

    def known(self, demographics: "pd.DataFrame | None") -> "pd.DataFrame | None":
        """Return a table of demographics; by default one without rows. None for a bundle that uses none."""
        import pandas as pd

        encoder = self.bundle.demographics
        if encoder is None or demographics is not None:
            return demographics if encoder is not None else None
        return pd.DataFrame({name: [] for name in ("patient_id", *(code.name for code in encoder.codes))})

    def invented(self, patients: Sequence[CasePatient]) -> NDArray[np.float64]:
        """Return the probabilities of invented patients, in their order."""
        import pandas as pd

        day = _midnight(self.last_day)
        names = [f"patient {number:03d}" for number in range(len(patients))]
        rows = [
            (name, day, code, value)
            for name, patient in zip(names, patients, strict=True)
            for code, value in [*((code, float("nan")) for code in patient.codes), *patient.values.items()]
        ]
        index = pd.DataFrame({"patient_id": names})
        if self.has_index:
            index["index_date"] = pd.Timestamp(INDEX_DATE)
        table = self.bundle.predict_events(
            events_of(rows), index, self._invented_demographics(names, patients)
        )
        scores: NDArray[np.float64] = table["probability"].to_numpy()
        return scores

    def _invented_demographics(
        self, names: Sequence[str], patients: Sequence[CasePatient]
    ) -> "pd.DataFrame | None":
        import pandas as pd

        encoder = self.bundle.demographics
        if encoder is None:
            return None
        columns: dict[str, Any] = {"patient_id": list(names)}
        for code in encoder.codes:
            values = [patient.demographics.get(code.name) for patient in patients]
            is_number = isinstance(code, NumberCode)
            columns[code.name] = (
                pd.array([None if value is None else float(value) for value in values], dtype="Float64")
                if is_number
                else pd.array(values, dtype="string")
            )
        return pd.DataFrame(columns)


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day)


def events_of(rows: Sequence[EventRow]) -> "pd.DataFrame":
    """Return a table of events."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["patient_id", "time", "code", "numeric_value"])
    return frame.astype({"time": "datetime64[us]", "numeric_value": "float64"})
