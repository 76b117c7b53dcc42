"""The temporal check on cohorts in which the outcome is rare before its date."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from mlho.training.results.temporal_check import evaluate_later
from tests.builders import make_tables

DAY_US = 86_400_000_000


def rare_at_first():
    """Return a cohort over 1,500 days in which six patients have the outcome before the last fifth, and every second one in it."""
    tables = make_tables(300, seed=9)
    labels = tables.labels
    number = np.array([int(patient[1:]) for patient in labels.column("patient_id").to_pylist()])
    index = np.array(labels.column("index_date").cast(pa.int64()).to_pylist()) + number * 5 * DAY_US
    outcome = np.where(number < 240, np.isin(number, range(0, 120, 20)), number % 2)
    labels = labels.set_column(1, "index_date", pa.array(index, pa.timestamp("us")))
    return replace(tables, labels=labels.set_column(2, "label", pa.array(outcome.astype(np.int8))))


def test_more_folds_than_early_patients_with_the_outcome_give_a_reason(make_problem):
    """Six patients with the outcome before the date cannot be in ten folds: the check gives the reason, and the run goes on."""
    asked = {"validation.split": "stratified", "validation.folds": 10, "validation.temporalCheck": True}

    later = evaluate_later(make_problem(asked, tables=rare_at_first()), "glmboost", {"nSteps": 50})

    assert later.figures == {}
    assert "one class" in later.reason
