"""The section ``bias``: columns must be demographics, and an absent section does not change the run id."""

import pytest

from mlho.errors import SpecError
from mlho.spec.training import normalised
from tests.builders import make_spec


def test_a_specification_without_the_section_has_no_trace_of_it():
    """Without the section, the run id is that of earlier versions."""
    assert "bias" not in normalised(make_spec().spec)
    assert normalised(make_spec({"bias": {"periods": "month"}}).spec)["bias"]["periods"] == "month"


@pytest.mark.parametrize(
    "bias", [{"groups": ["ward"]}, {"pairs": [["ward", "ward"]]}, {"references": {"ward": "3"}}]
)
def test_a_column_that_is_no_demographic_is_refused(bias):
    """A column of ``bias`` that is not a demographic is refused, because groups come from ``features.demographics``."""
    with pytest.raises(
        SpecError, match=r"bias names what neither features\.demographics nor bias\.columns has: ward"
    ):
        make_spec({"bias": bias})


def test_a_feature_is_not_named_as_a_column_of_the_audit():
    """A feature in ``bias.columns`` is refused, because features already make groups."""
    with pytest.raises(SpecError, match=r"bias\.columns names features: sex"):
        make_spec({"features.demographics": ["sex"], "bias": {"columns": ["sex"]}})
