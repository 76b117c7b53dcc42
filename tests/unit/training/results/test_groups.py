"""Groups and periods of a cohort, and the audit of test sets."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort, FollowUp, NumericColumn
from mlho.errors import SpecError
from mlho.method.bias.contradictions import find_contradictions
from mlho.spec.training import TrainingSpec
from mlho.spec.validation import Bias
from mlho.steps.encode.check_splits import CheckSplits
from mlho.training.results.groups import (
    Predictions,
    add_contradictions,
    audit_test_sets,
    groupings,
    periods_of,
)
from tests.builders import make_spec

N = 400
HALF = np.repeat([0, 1], N // 2)


def cohort_of(*columns, outcome=None, day=None):
    outcome = np.tile([0, 1], N // 2) if outcome is None else np.array(outcome)
    day = np.zeros(N, np.int64) if day is None else day
    return Cohort(
        patient_ids=tuple(f"{i:04d}" for i in range(N)),
        birth_us=np.zeros(N, np.int64),
        patient_of=np.arange(N, dtype=np.int32),
        index_us=day.astype(np.int64) * 86_400_000_000,
        outcome=outcome.astype(np.uint8),
        demographics=columns,
    )


def spec_of(**bias):
    return SimpleNamespace(
        report=SimpleNamespace(min_cell=11),
        validation=SimpleNamespace(seed=7, bootstrap_replicates=20, split="random"),
        bias=Bias.model_validate(bias) if bias else None,
    )


def sex(codes):
    return CategoricalColumn("sex", ("f", "m"), np.array(codes, np.int16))


def level(found, name):
    return next(group for group in found.groups if group.level == name)


def test_rare_levels_join_a_level_that_is_called_other():
    """A column with the level "other" and a rare one has one group "other" with the patients of both, not two of this name."""
    codes = np.where(np.arange(N) < 200, 0, np.where(np.arange(N) < 395, 1, 2))
    race = CategoricalColumn("race", ("other", "white", "rare"), codes.astype(np.int16))
    cohort = replace(cohort_of(), audited=(race,))

    (grouping,) = groupings(make_spec({"bias.columns": ["race"]}).spec, cohort)

    assert grouping.levels == ("other", "white")
    assert np.bincount(grouping.codes).tolist() == [205, 195]


def test_figures_of_a_group_are_those_of_its_own_samples():
    """The model ranks women perfectly and men in reverse, and the outcome of men is twice as frequent as predicted."""
    outcome = np.tile([0, 1], N // 2)
    p = np.where(HALF == 1, np.where(outcome == 1, 0.2, 0.3), np.where(outcome == 1, 0.8, 0.2))
    found = audit_test_sets(spec_of(), cohort_of(sex(HALF)), [Predictions(np.arange(N), p, {"youden": 0.5})])
    women, men = level(found, "f"), level(found, "m")

    assert (women.n_samples, women.n_positive) == (200, 100)
    assert women.figures["auroc"].value == 1
    assert women.figures["observed_expected"].value == pytest.approx(1)
    assert women.figures["youden/sensitivity"].value == 1
    assert women.figures["youden/alerts_per_100"].value == 50
    assert men.figures["auroc"].value == 0
    assert men.figures["observed_expected"].value == pytest.approx(2)
    assert men.figures["youden/ppv"].value is None  # no patient is flagged


def test_a_sample_counts_once_with_its_first_test_set():
    """The second test set repeats the first half with other predictions and another threshold, which are not used."""
    first = Predictions(np.arange(200), np.full(200, 0.3), {"youden": 0.2, "none": None})
    second = Predictions(np.arange(N), np.full(N, 0.6), {"youden": 0.9, "none": 0.5})
    found = audit_test_sets(spec_of(), cohort_of(sex(HALF)), [first, second])

    assert level(found, "all patients").n_samples == N
    assert level(found, "f").figures["youden/alerts_per_100"].value == 100
    assert level(found, "m").figures["youden/alerts_per_100"].value == 0
    assert found.rules == ["youden"]


def test_the_auroc_compares_only_patients_that_one_model_scored():
    """Each of two models ranks its own patients perfectly. All scores of the second are below those of the first: pooled, the AUROC is 0.75."""
    outcome, is_second = np.tile([0, 1], N // 2), np.arange(N) // 2 % 2 == 1
    p = np.where(outcome == 1, 0.9, 0.6) - np.where(is_second, 0.5, 0.0)
    sets = [Predictions(samples, p[samples], {}) for samples in map(np.flatnonzero, (~is_second, is_second))]

    found = audit_test_sets(spec_of(), cohort_of(sex(HALF)), sets)

    assert {group.figures["auroc"].value for group in found.groups} == {1.0}
    pooled = audit_test_sets(spec_of(), cohort_of(sex(HALF)), [Predictions(np.arange(N), p, {})])
    assert level(pooled, "all patients").figures["auroc"].value == 0.75
    assert level(found, "f").figures["observed_expected"] == level(pooled, "f").figures["observed_expected"]


def test_ages_are_put_into_bands_and_a_missing_age_into_none():
    """A bound belongs to the band above it, and a missing age belongs to no band."""
    age = np.concatenate([[10.0] * 5, [18.0] * 95, [50.0] * 140, [79.9] * 140, [np.nan] * 20])
    (grouping,) = groupings(spec_of(), cohort_of(NumericColumn("age", age)))

    assert grouping.levels == ("under 18", "18–39", "40–64", "65–79")
    assert np.bincount(grouping.codes + 1).tolist() == [20, 5, 95, 140, 140]


def test_pairs_and_references_follow_the_specification():
    """Two columns give four combinations, and the reference is the named level."""
    site = CategoricalColumn("ward", ("a", "b"), np.tile([0, 1], N // 2).astype(np.int16))
    spec = spec_of(groups=["sex"], pairs=[["sex", "ward"]], references={"sex": "m"})
    single, pair = groupings(spec, cohort_of(sex(HALF), site))

    assert single.levels[single.reference_level] == "m"
    assert (pair.by, pair.levels) == ("sex × ward", ("f, a", "f, b", "m, a", "m, b"))
    assert np.bincount(pair.codes).tolist() == [100] * 4


@pytest.mark.parametrize(
    ("bias", "problem"),
    [
        ({"groups": ["weight"]}, "'weight' does not define groups"),
        ({"references": {"sex": "x"}}, "sex has no level 'x'. Expected one of f, m"),
    ],
)
def test_a_column_or_level_that_makes_no_group_is_refused(bias, problem):
    weight = NumericColumn("weight", np.full(N, 80.0))

    with pytest.raises(SpecError, match=problem):
        groupings(spec_of(**bias), cohort_of(sex(HALF), weight))


def test_periods_are_the_shortest_that_give_at_most_24_and_small_ones_are_none():
    """Four years give quarters instead of months, and a month with few patients has no period."""
    unit_of = np.arange(N, dtype=np.int32)
    four_years = np.linspace(0, 4 * 365, N).astype("timedelta64[D]") + np.datetime64("2016-01-01")
    quarters = periods_of(four_years.astype("datetime64[us]").astype(np.int64), unit_of, None, 11)
    two_months = np.where(np.arange(N) < 5, np.datetime64("2016-01-09"), np.datetime64("2016-02-09"))
    months = periods_of(two_months.astype("datetime64[us]").astype(np.int64), unit_of, "month", 11)

    assert (quarters.unit, quarters.levels[:2], len(quarters.levels)) == (
        "quarter",
        ("2016 Q1", "2016 Q2"),
        16,
    )
    assert quarters.years[:2].tolist() == [0, 0.25]
    assert months.levels == ("2016-02",)
    assert np.bincount(months.codes + 1).tolist() == [5, 395]


def test_columns_of_the_audit_make_groups_and_small_values_count_as_other():
    """A ward with five patients counts as ``other``."""
    ward = CategoricalColumn("ward", ("a", "b", "c"), np.repeat([0, 1, 2], [195, 5, 200]).astype(np.int16))
    cohort = replace(cohort_of(sex(HALF)), audited=(ward,))
    _, grouping = groupings(spec_of(columns=["ward"]), cohort)

    assert (grouping.by, grouping.levels) == ("ward", ("a", "c", "other"))
    assert np.bincount(grouping.codes).tolist() == [195, 200, 5]


def test_groups_that_do_not_exist_fail_before_anything_is_fitted():
    """The task that checks the splits reads the groups, but nothing of them without the section."""
    changes = {
        "features.demographics": ["age", "sex"],
        "bias": {"groups": ["sex"], "references": {"sex": "x"}},
    }
    narrowed = CheckSplits().narrow(make_spec(changes).spec)
    again = TrainingSpec.model_validate(narrowed.model_dump(mode="json", by_alias=True))

    assert CheckSplits().narrow(make_spec().spec).bias is None
    with pytest.raises(SpecError, match="sex has no level 'x'"):
        groupings(again, cohort_of(sex(HALF)))


def test_contradicted_labels_of_a_small_group_are_hidden():
    """Eight men have no share, and the number of women is hidden, because the number of men would follow from it."""
    codes = np.where(np.arange(N) < 8, 1, 0)
    p = np.linspace(0.1, 0.9, N)
    cohort, spec = cohort_of(sex(codes)), spec_of()
    audited = audit_test_sets(spec, cohort, [Predictions(np.arange(N), p, {})])
    arrays = [{"samples": np.arange(N), "m": p}] * 3

    found = add_contradictions(audited, spec, cohort, find_contradictions(arrays, "m", cohort.outcome))

    everyone, women, men = (level(found, name) for name in ("all patients", "f", "m"))
    assert everyone.contradicted.n_samples == N
    assert women.contradicted.n_samples is None
    assert women.contradicted.observed.value == pytest.approx(0.5, abs=0.1)
    assert men.contradicted is None


def test_two_iterations_are_too_few_for_contradicted_labels():
    cohort, spec, p = cohort_of(sex(HALF)), spec_of(), np.linspace(0.1, 0.9, N)
    audited = audit_test_sets(spec, cohort, [Predictions(np.arange(N), p, {})])
    arrays = [{"samples": np.arange(N), "m": p}] * 2

    found = add_contradictions(audited, spec, cohort, find_contradictions(arrays, "m", cohort.outcome))

    assert found == audited


def audit_of_times(
    seed, *, n=2_000, excess=1.0, censored_a_year=lambda group: 0.7, follow_up_years=lambda quarter: 9.0
):
    """Return the audit of predicted risks at one year. In group 1 the hazard is ``excess`` times the predicted one; otherwise the risks are true."""
    rng = np.random.default_rng(seed)
    group, quarter = rng.integers(0, 2, n), rng.integers(0, 8, n)
    hazard = 0.25 * np.exp(rng.normal(size=n))
    event = rng.exponential(1 / (hazard * np.where(group == 1, excess, 1.0)))
    end = np.minimum(rng.exponential(size=n) / censored_a_year(group), follow_up_years(quarter))
    risk = 1 - np.exp(-hazard)
    cohort = Cohort(
        patient_ids=tuple(f"{i:04d}" for i in range(n)),
        birth_us=np.zeros(n, np.int64),
        patient_of=np.arange(n, dtype=np.int32),
        index_us=(91 * quarter + 15).astype(np.int64) * 86_400_000_000,
        outcome=((event <= end) & (event <= 1)).astype(np.uint8),
        demographics=(CategoricalColumn("sex", ("f", "m"), group.astype(np.int16)),),
        follow_up=FollowUp(np.ceil(365 * np.minimum(event, end)), (event <= end).astype(np.uint8)),
    )
    spec = spec_of()
    spec.validation.by_date, spec.validation.is_drawn, spec.validation.bootstrap_replicates = False, True, 100
    spec.cohort = SimpleNamespace(time_to_event=SimpleNamespace(horizon_days=[365]))
    return audit_test_sets(spec, cohort, [Predictions(np.arange(n), risk, {"youden": 0.4})])


def significant(comparisons):
    return {found.metric for found in comparisons if (found.adjusted or 1.0) < 0.05}


def test_a_shorter_follow_up_of_a_group_is_no_difference():
    """Half of the men, and a tenth of the women, are censored within the year: with the same true risks, observed over expected is 1 for both."""
    found = audit_of_times(1, censored_a_year=lambda group: np.where(group == 1, 1.5, 0.2))

    for sex_level in "fm":
        assert level(found, sex_level).figures["observed_expected"].value == pytest.approx(1, abs=0.1)
    assert significant(found.comparisons) == set()


def test_the_end_of_the_data_is_no_trend():
    """Later index dates have a shorter follow-up. Periods without a patient followed to the horizon have no figures, and the other periods have no trend."""
    found = audit_of_times(1, n=4_000, follow_up_years=lambda quarter: 2.2 - quarter / 4)
    everyone = level(found, "all patients")

    assert [bool(period.figures) for period in everyone.periods] == [True] * 5 + [False] * 3
    for period in everyone.periods[:5]:
        assert period.figures["observed_expected"].value == pytest.approx(1, abs=0.25)
    assert significant(found.trends) == set()


def test_the_calibration_error_expected_by_chance_counts_each_patient_once():
    """Two thirds are censored, so that each known sample stands for several: the error of true risks is within the one expected by chance."""
    above = 0
    for seed in range(5):
        everyone = level(audit_of_times(seed, n=1_000, censored_a_year=lambda group: 1.6), "all patients")
        above += everyone.figures["ece_equal_count"].value > everyone.perfect["ece_equal_count"].high

    assert above <= 1


def test_a_higher_risk_of_a_group_is_found_despite_its_shorter_follow_up():
    """The hazard of men is twice the predicted one, and they are censored more often."""
    found = audit_of_times(1, excess=2.0, censored_a_year=lambda group: np.where(group == 1, 1.5, 0.2))

    assert level(found, "f").figures["observed_expected"].value == pytest.approx(1, abs=0.1)
    assert level(found, "m").figures["observed_expected"].value == pytest.approx(1.6, abs=0.2)
    assert "observed_expected" in significant(found.comparisons)
