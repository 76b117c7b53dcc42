"""The section ``validation``: the fields that a split needs, and the ones that it excludes."""

import pytest

from mlho.errors import SpecError
from mlho.spec.training import normalised
from tests.builders import make_spec

SITE = {"validation.split": "site", "validation.splitColumn": "site"}


def test_fields_of_other_splits_are_left_out_of_plain_values():
    """Fields of other splits are left out, so a specification without them keeps its run id."""
    plain = normalised(make_spec().spec)

    assert not {"testFrom", "origins", "splitColumn", "temporalCheck"} & set(plain["validation"])
    assert not {"followUpDays", "groupBy"} & set(plain["cohort"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation.testFrom": "2020-01-01"}, "testFrom requires split: temporal"),
        ({"validation.split": "rolling"}, "origins and split: rolling require each other"),
        (
            {"validation.split": "rolling", "validation.origins": ["2021-01-01", "2020-01-01"]},
            "origins must be ascending",
        ),
        ({"validation.split": "given"}, "splitColumn and split: site or given require each other"),
        (
            {"validation.split": "temporal", "cohort.index": {"date": "2020-01-01"}},
            "requires cohort.index.column",
        ),
        ({**SITE, "final.features": "consensus", "validation.folds": 3}, "excludes validation.split: site"),
        (
            {"validation.split": "temporal", "validation.temporalCheck": True},
            "temporalCheck requires split: random or stratified",
        ),
        (
            {"validation.temporalCheck": True, "cohort.index": {"date": "2020-01-01"}},
            "temporalCheck requires cohort.index.column",
        ),
        ({"cohort.index": "none", "cohort.followUpDays": 30}, "followUpDays requires an index date"),
    ],
)
def test_a_split_without_its_fields_is_refused(changes, words):
    """The error for a split with missing or excluded fields names the field to change."""
    with pytest.raises(SpecError, match=words):
        make_spec(changes)
