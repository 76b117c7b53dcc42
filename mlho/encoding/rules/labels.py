"""The labels that rules produce, as an artifact: the columns of a table of labels, and the account of the rules."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import text_arrays, texts_of, write_arrays
from mlho.encoding.cohort.cohort import FollowUp
from mlho.encoding.cohort.define import RuleAccount
from mlho.encoding.cohort.labels import LabelRows
from mlho.encoding.rules.evaluation import RuleCohort
from mlho.pseudonyms import read_id_arrays


@dataclass(frozen=True, eq=False)
class RuleLabels:
    """Labels by rule."""

    rows: LabelRows
    account: RuleAccount

    @classmethod
    def of(cls, cohort: RuleCohort, patient_ids: Any) -> "RuleLabels":
        """Return the labels of a cohort, given the patients of its histories. Patients without a sample are left out."""
        kept, patient = np.unique(cohort.patient, return_inverse=True)
        account = RuleAccount(cohort.dropped, cohort.attrition, cohort.warnings)
        ids = patient_ids.take(pa.array(kept.tolist(), pa.int64()))
        patients = patient.astype(np.int64)
        return cls(_rows(ids, patients, cohort.index_us, cohort.outcome, cohort.follow_up), account)

    def write(self, path: Path) -> None:
        """Write the labels to one array file; equal labels give equal bytes."""
        text = json.dumps(vars(self.account), sort_keys=False).encode()
        follow_up = self.rows.follow_up
        write_arrays(
            path,
            {
                **text_arrays("id", self.rows.patient_ids.to_pylist()),
                "patient": self.rows.patient,
                "index_us": self.rows.index_us,
                "outcome": self.rows.outcome,
                "account": np.frombuffer(text, np.uint8),
                **({} if follow_up is None else {"days": follow_up.days, "status": follow_up.status}),
            },
        )

    @classmethod
    def read(cls, path: Path) -> "RuleLabels":
        """Memory-map labels written by :meth:`write`."""
        arrays = read_id_arrays(path)
        ids = pa.array(texts_of("id", arrays), pa.string())
        plain: Mapping[str, Any] = json.loads(arrays["account"].tobytes())
        account = RuleAccount(plain["dropped"], tuple(plain["attrition"]), tuple(plain["warnings"]))
        times = FollowUp(arrays["days"], arrays["status"]) if "days" in arrays else None
        return cls(_rows(ids, arrays["patient"], arrays["index_us"], arrays["outcome"], times), account)


def _rows(
    patient_ids: Any,
    patient: NDArray[np.int64],
    index_us: NDArray[np.int64],
    outcome: NDArray[np.int8],
    follow_up: FollowUp | None,
) -> LabelRows:
    has_index = np.ones(len(patient), np.bool_)
    return LabelRows(patient_ids, patient, index_us, has_index, outcome, follow_up=follow_up)
