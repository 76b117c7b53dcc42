"""Columns of labels and demographics that are not features: persons, sites or parts, and columns of the audit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import CategoricalColumn, Groups
from mlho.encoding.cohort.join import person_of_patients, rows_of_persons
from mlho.encoding.cohort.kept import TextColumn, category_of, groups_of, sample_texts
from mlho.encoding.cohort.labels import LabelRows
from mlho.encoding.cohort.persons import Persons
from mlho.spec.training import TrainingSpec


def read_kept_columns(
    spec: TrainingSpec,
    labels: LabelRows,
    rows: NDArray[np.int64],
    persons: Persons | None,
    patient_of: NDArray[np.integer[Any]],
) -> tuple[Groups | None, CategoricalColumn | None, tuple[CategoricalColumn, ...]]:
    """Return the persons behind the patients, the part of each sample, and the columns of the audit, as far as they are specified."""
    tables, group_by, part = spec.data.tables, spec.cohort.group_by, spec.validation.split_column
    where = " and ".join(filter(None, (tables.labels, tables.demographics)))
    person_rows = None
    if persons is not None and spec.kept_columns:
        person_of = person_of_patients(persons, labels.patient_ids)[labels.patient[rows]]
        person_rows = rows_of_persons(persons, person_of, labels.index_us[rows])

    def read(name: str, field: str, *, unknown: bool = False) -> TextColumn:
        return sample_texts(
            name,
            field,
            labels=labels.kept,
            rows=rows,
            persons={} if persons is None else persons.kept,
            person_rows=person_rows,
            where=where,
            unknown=unknown,
        )

    groups = group_by and groups_of(group_by, read(group_by, "cohort.groupBy"), patient_of, where)
    parts = part and category_of(part, read(part, "validation.splitColumn"), where, "validation.splitColumn")
    audited = tuple(
        category_of(name, read(name, "bias.columns", unknown=True), where, "bias.columns")
        for name in (() if spec.bias is None else spec.bias.columns)
    )
    return groups or None, parts or None, audited
