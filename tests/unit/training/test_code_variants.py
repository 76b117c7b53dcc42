"""The check ``code-variants``: rows of other spellings of a code count, and codes that differ otherwise do not."""

import numpy as np
import pytest

from mlho.training.checks.conformance import rows_of_variants


@pytest.mark.parametrize(
    "variant",
    ["e\u0301cg", "E\u0301CG", "\uff25\u0301\uff23\uff27", "ÉC\u00a0G", " éc g"],
    ids=["decomposed", "decomposed, in capitals", "full-width", "no-break space", "case and blanks"],
)
def test_the_rows_of_another_spelling_of_a_code_are_counted(variant):
    """The spelling with fewer rows is the variant, at any position."""
    for codes, rows in ((["ÉCG", variant, "ECG"], [90, 7, 40]), ([variant, "ÉCG", "ECG"], [7, 90, 40])):
        assert rows_of_variants(codes, np.array(rows)) == 7


def test_codes_that_differ_in_more_than_spelling_are_no_variants():
    """Accents, digits and separators are part of a code."""
    assert rows_of_variants(["E11", "E11.9", "É11", "E-11"], np.array([5, 4, 3, 2])) == 0
