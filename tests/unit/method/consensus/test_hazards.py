"""Hazard ratios where the partial likelihood has no maximum."""

import numpy as np
import pytest

from mlho.method.consensus.hazards import fit_hazards


def test_a_category_whose_reference_has_no_event_has_no_hazard_ratio():
    """All events are in two of three levels, so that the ratios of both to the third are infinite. The ratio of another column is that of a fit without them."""
    rng = np.random.default_rng(3)
    level = rng.choice(3, 2000, p=[0.1, 0.5, 0.4])
    other = (rng.random(2000) < 0.3).astype(float)
    days, is_event = rng.integers(1, 300, 2000), (rng.random(2000) < 0.2) & (level > 0)
    first, second, third = fit_hazards(np.stack([level == 1, level == 2, other], 1), days, is_event)
    at_risk = level > 0
    *_, without = fit_hazards(
        np.stack([level == 1, other], 1)[at_risk].astype(float), days[at_risk], is_event[at_risk]
    )

    assert first.ratio() is None
    assert second.ratio() is None
    assert "no maximum" in str(first.reason)
    assert third.log_ratio == pytest.approx(without.log_ratio, abs=1e-6)
    assert third.standard_error == pytest.approx(without.standard_error, rel=1e-6)
