"""The cohort: patients in canonical order, their samples with index dates and outcomes, and their demographics.

Patients are sorted by the text of their id, samples by (patient, index date). Every later array follows this order, so
results do not depend on the order of rows or on the partitions. A block is a range of consecutive patients.
"""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct, text_arrays, texts_of, write_arrays
from mlho.pseudonyms import read_id_arrays

BLOCK_PATIENTS: Final = (
    16_384  # patients in a block; a multiple of 64, so that bit columns end at word boundaries
)
NO_BOUND: Final = np.iinfo(np.int64).max  # index "none": all data may be used


@dataclass(frozen=True)
class NumericColumn:
    """A numeric demographic with one value per sample; ``NaN`` if missing."""

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class CategoricalColumn:
    """A categorical demographic with one level code per sample. Level 0 is the reference: the most frequent in the cohort.

    The other levels are in alphabetical order. Missing values form the level ``unknown``, which is treated like any other.
    """

    name: str
    levels: tuple[str, ...]
    codes: NDArray[np.int16]


@dataclass(frozen=True)
class Groups:
    """The persons behind the patients (``cohort.groupBy``)."""

    ids: tuple[str, ...]
    """Sorted by their UTF-8 bytes. Shape (n_groups,)."""
    of_patient: NDArray[np.int32]
    """Group of each patient. Shape (n_patients,)."""


@dataclass(frozen=True, eq=False)
class FollowUp:
    """Follow-up after the index date (``cohort.timeToEvent``), as in :class:`mlho.method.survival.times.EventTimes`."""

    days: NDArray[np.float64]
    """From the index date to the event, the competing event or the end of observation."""
    status: NDArray[np.uint8]
    """0 for the end of observation, 1 for the event, 2 for a competing event."""

    def __getitem__(self, where: Any) -> "FollowUp":
        """Return the follow-up of these rows."""
        return FollowUp(self.days[where], self.status[where])


@dataclass(frozen=True)
class Cohort:
    """Patients, samples, outcomes and demographics, in the order given in the module docstring."""

    patient_ids: tuple[str, ...]
    """Sorted by their UTF-8 bytes. Shape (n_patients,)."""
    birth_us: NDArray[np.int64]
    """Birth date in microseconds since 1970; ``NaT`` (the smallest int64) if unknown. Shape (n_patients,)."""
    patient_of: NDArray[np.int32]
    """Patient of each sample, non-decreasing. Shape (n_samples,)."""
    index_us: NDArray[np.int64]
    """Index date: the last microsecond since 1970 that may be used; ``NO_BOUND`` without an index date. Shape (n_samples,)."""
    outcome: NDArray[np.uint8]
    """0 or 1. Shape (n_samples,)."""
    demographics: tuple[NumericColumn | CategoricalColumn, ...] = ()
    attrition: tuple[dict[str, Any], ...] = ()
    """``{"rule": words, "patients": n, "samples": n}`` remaining after each step; the first one counts all label rows."""
    warnings: tuple[str, ...] = field(default=())
    groups: Groups | None = None
    """Persons behind the patients, if ``cohort.groupBy`` names them."""
    parts: CategoricalColumn | None = None
    """Site or part of each sample, if ``validation.splitColumn`` names a column; levels sorted, all of them used."""
    last_us: NDArray[np.int64] | None = None
    """Last plausible time of each patient's events, some days after the death; ``None`` without any bound. Shape (n_patients,)."""
    audited: tuple[CategoricalColumn, ...] = ()
    """Groups that are not features, in the order of ``bias.columns``."""
    outcome_us: NDArray[np.int64] | None = None
    """Date of the outcome, if ``cohort.outcomeDate`` names a column; ``NO_BOUND`` for a sample without one. Shape (n_samples,)."""
    follow_up: FollowUp | None = None
    """Follow-up of each sample, if the outcome is a time to an event; ``outcome`` is then 1 for an event up to the first horizon."""

    @property
    def unit_ids(self) -> tuple[str, ...]:
        """Ids of the units of splits and intervals: persons if they are named, otherwise patients."""
        return self.patient_ids if self.groups is None else self.groups.ids

    @cached_property
    def unit_of(self) -> NDArray[np.int32]:
        """Unit of each sample, shape (n_samples,): its person if persons are named, otherwise its patient."""
        return self.patient_of if self.groups is None else self.groups.of_patient[self.patient_of]

    def n_units(self, samples: NDArray[np.bool_]) -> int:
        """Count the units of these samples."""
        return n_distinct(self.unit_of[samples])

    def positive_units(self, samples: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return which units have the outcome in any sample, or in any of these samples. Splits and folds are stratified by it."""
        positive = np.zeros(len(self.unit_ids), np.bool_)
        is_positive = self.outcome == 1
        positive[self.unit_of[is_positive if samples is None else is_positive & samples]] = True
        return positive

    @property
    def n_patients(self) -> int:
        """Number of patients, including those without any event."""
        return len(self.patient_ids)

    @property
    def n_samples(self) -> int:
        """Number of samples, which are the rows of the matrix."""
        return len(self.patient_of)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the packed cohort."""
        return max(1, -(-self.n_patients // BLOCK_PATIENTS))

    @property
    def has_repeats(self) -> bool:
        """Whether any patient has several samples."""
        return self.n_samples > self.n_patients

    def sample_starts(self) -> NDArray[np.int64]:
        """Return the first sample of each patient, with the number of samples as the last entry; shape (n_patients + 1,)."""
        return np.searchsorted(self.patient_of, np.arange(self.n_patients + 1)).astype(np.int64)

    def block_patients(self, block: int) -> tuple[int, int]:
        """Return the first patient of a block, and the first patient after it."""
        return block * BLOCK_PATIENTS, min((block + 1) * BLOCK_PATIENTS, self.n_patients)

    def positive_patients(self) -> NDArray[np.bool_]:
        """Return which patients have the outcome in any sample."""
        positive = np.zeros(self.n_patients, np.bool_)
        positive[self.patient_of[self.outcome == 1]] = True
        return positive

    def write(self, path: Path) -> None:
        """Write the cohort to one array file; equal cohorts give equal bytes."""
        meta = {
            "attrition": list(self.attrition),
            "demographics": [_column_meta(column) for column in self.demographics],
            "warnings": list(self.warnings),
        }
        if self.parts is not None:
            meta["parts"] = _column_meta(self.parts)
        if self.audited:
            meta["audited"] = [_column_meta(column) for column in self.audited]
        arrays: dict[str, NDArray[Any]] = {
            **text_arrays("patient_id", self.patient_ids),
            "birth_us": self.birth_us,
            "patient_of": self.patient_of,
            "index_us": self.index_us,
            "outcome": self.outcome,
            "meta": np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8),
        }
        if self.last_us is not None:
            arrays["last_us"] = self.last_us
        if self.outcome_us is not None:
            arrays["outcome_us"] = self.outcome_us
        if self.follow_up is not None:
            arrays |= {"follow_up_days": self.follow_up.days, "follow_up_status": self.follow_up.status}
        for number, column in enumerate(self.demographics):
            arrays[f"demographic_{number}"] = (
                column.values if isinstance(column, NumericColumn) else column.codes
            )
        if self.parts is not None:
            arrays["parts"] = self.parts.codes
        arrays |= {f"audited_{number}": column.codes for number, column in enumerate(self.audited)}
        if self.groups is not None:
            arrays |= text_arrays("group_id", self.groups.ids) | {"group_of_patient": self.groups.of_patient}
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> "Cohort":
        """Memory-map a cohort written by :meth:`write`."""
        arrays = read_id_arrays(path)
        meta = json.loads(arrays["meta"].tobytes())
        return cls(
            patient_ids=texts_of("patient_id", arrays),
            birth_us=arrays["birth_us"],
            patient_of=arrays["patient_of"],
            index_us=arrays["index_us"],
            outcome=arrays["outcome"],
            demographics=tuple(
                NumericColumn(column["name"], arrays[f"demographic_{number}"])
                if column["levels"] is None
                else _category(column, arrays[f"demographic_{number}"])
                for number, column in enumerate(meta["demographics"])
            ),
            attrition=tuple(meta["attrition"]),
            warnings=tuple(meta["warnings"]),
            groups=Groups(texts_of("group_id", arrays), arrays["group_of_patient"])
            if "group_of_patient" in arrays
            else None,
            parts=_category(meta["parts"], arrays["parts"]) if "parts" in meta else None,
            last_us=arrays.get("last_us"),
            audited=tuple(
                _category(column, arrays[f"audited_{number}"])
                for number, column in enumerate(meta.get("audited", ()))
            ),
            outcome_us=arrays.get("outcome_us"),
            follow_up=FollowUp(arrays["follow_up_days"], arrays["follow_up_status"])
            if "follow_up_days" in arrays
            else None,
        )


def _column_meta(column: NumericColumn | CategoricalColumn) -> dict[str, Any]:
    levels = list(column.levels) if isinstance(column, CategoricalColumn) else None
    return {"levels": levels, "name": column.name}


def _category(meta: dict[str, Any], codes: NDArray[np.int16]) -> CategoricalColumn:
    return CategoricalColumn(meta["name"], tuple(meta["levels"]), codes)
