"""Minimum sample sizes, compared with published numbers."""

import pytest

from mlho.method.sample_size import ASSUMED_R2, SampleSize, largest_r2, most_parameters, sample_size


def test_the_published_example_of_a_binary_outcome():
    """The figures are those of Riley et al. 2019 and of pmsampsize: 24 parameters, prevalence 0.174, Cox-Snell R² 0.288."""
    found = sample_size(24, 0.174, r2=0.288)

    assert found == SampleSize(shrinkage=623, optimism=662, intercept=221)
    assert found.needed == 662


@pytest.mark.parametrize(
    ("prevalence", "expected"),
    [(0.5, 0.75), (0.4, 0.74), (0.3, 0.71), (0.2, 0.63), (0.1, 0.48), (0.05, 0.33)],
)
def test_the_largest_r2_of_an_outcome(prevalence, expected):
    """The figures are those of Riley et al. 2020, table of the maximum Cox-Snell R² by the prevalence of the outcome."""
    assert round(largest_r2(prevalence), 2) == expected


@pytest.mark.parametrize("n_patients", [400, 5_000, 120_000])
def test_the_most_parameters_are_those_that_the_sample_supports(n_patients):
    """One more parameter needs more patients. Without an expected R², a share of the largest is assumed."""
    most = most_parameters(n_patients, 0.08)

    assert max(sample_size(most, 0.08).shrinkage, sample_size(most, 0.08).optimism) <= n_patients
    assert sample_size(most + 1, 0.08).needed > n_patients
    assert sample_size(9, 0.08) == sample_size(9, 0.08, r2=ASSUMED_R2 * largest_r2(0.08))
