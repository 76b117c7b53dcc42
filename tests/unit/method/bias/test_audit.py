"""The audit by group and period: figures, small cells, comparisons, gaps, trends, and independence of row order and threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlho.method.bias.audit import audit
from mlho.method.bias.groups import Audit, Grouping, Periods
from mlho.method.evaluation.auroc import auroc
from mlho.method.evaluation.metrics import brier_of
from mlho.method.evaluation.reliability import bins_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import at_threshold
from tests.unit.method.evaluation.one_tally import calibration_error_of, line_of

RULE = "youden"
BENCHMARK = Path(__file__).parents[4] / "benchmarks" / "bias.py"


def cohort_of(n: int, *, seed: int = 1, excess: float = 0.0, samples_each: int = 1):
    """Return outcome, probability, group and patient. In group 1 the odds are exp(excess) times the predicted ones."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n // samples_each), samples_each)
    group = rng.integers(0, 2, n // samples_each)[patient]
    logit = rng.normal(-0.5, 1.2, n)
    y = rng.random(n) < 1 / (1 + np.exp(-(logit + excess * group)))
    return y.astype(np.uint8), 1 / (1 + np.exp(-logit)), group, patient


def audited(y, p, group, **options) -> Audit:
    arguments = {"patients": None, "alerts": {RULE: p >= 0.4}, "seed": [7], "n_replicates": 200} | options
    return audit(y, p, [Grouping("sex", ("female", "male"), group)], **arguments)


def figures(found: Audit, level: str):
    return next(group for group in found.groups if group.level == level).figures


def test_figures_of_a_group_are_those_of_its_samples():
    """Each figure of a group equals that of the evaluation of a whole test set with the samples of the group."""
    y, p, group, _ = cohort_of(600)
    p = np.round(p, 2)  # ties
    own_y, own_p = y[group == 1], p[group == 1]
    at = at_threshold(own_y, own_p, 0.4)
    t = tally(own_y, own_p)
    width, count = (
        calibration_error_of(t, bins_of(t, 10, how), 10) for how in ("equal-width", "equal-count")
    )

    found = {name: figure.value for name, figure in figures(audited(y, p, group), "male").items()}

    assert found == pytest.approx(
        {
            "auroc": auroc(own_y, own_p),
            "brier": brier_of(t),
            "brier_positive": np.mean((1 - own_p[own_y == 1]) ** 2),
            "brier_negative": np.mean(own_p[own_y == 0] ** 2),
            "rmse": np.sqrt(brier_of(t)),
            "error": np.abs(own_y - own_p).mean(),
            "error_positive": 1 - own_p[own_y == 1].mean(),
            "error_negative": own_p[own_y == 0].mean(),
            "observed_expected": own_y.sum() / own_p.sum(),
            "in_the_large": line_of(own_y, own_p, fixed_slope=True).intercept,
            "ece_equal_width": width[0],
            "mce_equal_width": width[1],
            "ece_equal_count": count[0],
            "mce_equal_count": count[1],
            f"{RULE}/sensitivity": at.sensitivity,
            f"{RULE}/specificity": at.specificity,
            f"{RULE}/ppv": at.ppv,
            f"{RULE}/npv": at.npv,
            f"{RULE}/accuracy": at.accuracy,
            f"{RULE}/alerts_per_100": at.alerts_per_100,
        },
        abs=1e-9,
    )


def test_a_group_for_which_risk_is_underestimated_is_found():
    """With twice the odds in one group, its calibration differs significantly from the reference, and recalibration corrects it."""
    y, p, group, _ = cohort_of(4000, excess=np.log(2))
    found = audited(y, p, group)
    male = next(audited_group for audited_group in found.groups if audited_group.level == "male")
    large = next(comparison for comparison in found.comparisons if comparison.metric == "in_the_large")

    assert (large.level, large.reference) in {("male", "female"), ("female", "male")}
    assert large.adjusted is not None
    assert large.adjusted < 0.001
    assert male.figures["in_the_large"].low > 0.5
    assert male.figures["ece_equal_count"].value > male.perfect["ece_equal_count"].high
    assert male.recalibrated == {}  # no folds were given

    again = audited(y, p, group, folds=np.arange(4000) % 5)
    male = next(audited_group for audited_group in again.groups if audited_group.level == "male")
    assert abs(male.recalibrated["in_the_large"].value) < 0.05
    assert male.recalibrated["ece_equal_count"].value < male.figures["ece_equal_count"].value / 2


def test_without_a_difference_few_comparisons_are_significant():
    """In at most two of 20 cohorts without bias, a comparison has an adjusted p-value below 0.05."""
    found = [audited(*cohort_of(800, seed=seed)[:3]).comparisons for seed in range(20)]

    assert sum(any(comparison.adjusted < 0.05 for comparison in comparisons) for comparisons in found) <= 2


def test_small_groups_without_a_difference_are_rarely_significant():
    """In at most four of 40 cohorts, a group with a tenth of the patients differs significantly. With the standard errors of the groups, ten did."""

    def is_any_significant(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        logit = rng.normal(-1.7, 1.2, 1200)
        group = Grouping("ward", ("a", "b", "c", "d"), rng.choice(4, size=1200, p=[0.7, 0.1, 0.1, 0.1]))
        y, p = rng.random(1200) < 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit))
        alerts = {"many": p >= 0.3, "few": p >= 0.6}
        found = audit(
            y.astype(np.uint8), p, [group], patients=None, alerts=alerts, seed=[seed], n_replicates=100
        )
        return any(row.adjusted is not None and row.adjusted < 0.05 for row in found.comparisons)

    assert sum(is_any_significant(seed) for seed in range(40)) <= 4


def test_differences_are_paired():
    """The difference between a group and its exact copy is always 0, because both use the same replicates."""
    y, p, _, _ = cohort_of(500)
    nearly = Grouping("near", ("a", "b"), (np.arange(500) < 250).astype(int))
    same = audit(y, p, [nearly], patients=None, alerts={}, seed=[1], n_replicates=100)
    twice = audit(np.r_[y, y], np.r_[p, p], [Grouping("copy", ("a", "b"), np.repeat([0, 1], 500))],
                  patients=np.r_[np.arange(500), np.arange(500)], alerts={}, seed=[1], n_replicates=100)  # fmt: skip

    difference = {comparison.metric: comparison.difference for comparison in twice.comparisons}
    assert difference["auroc"].value == 0
    assert difference["auroc"].reason == "no interval: all replicates are equal"
    assert {comparison.metric: comparison.difference for comparison in same.comparisons}[
        "auroc"
    ].low is not None


def with_small_group(n_found: int):
    """Return a cohort with 40 patients in group 1, 11 of them with the outcome, of which ``n_found`` are alerted; and the alerts."""
    y, p, _, _ = cohort_of(600)
    order = np.r_[np.flatnonzero(y == 1)[:11], np.flatnonzero(y == 0)[:29]]
    group = np.isin(np.arange(600), order).astype(int)
    alert = np.where(group == 1, np.isin(np.arange(600), order[:n_found]), p >= 0.4)
    return y, p, group, alert


def test_the_interval_of_a_ppv_of_one_counts_the_alerted_patients():
    """If 3 of 3 alerts are right, the PPV has Wilson's interval for 3 patients, from 0.438, and the NPV of 29 of 37 that of 37."""
    y, p, group, alert = with_small_group(3)
    male = figures(audited(y, p, group, alerts={RULE: alert}, n_replicates=500), "male")

    assert (male[f"{RULE}/ppv"].value, male[f"{RULE}/ppv"].high) == (1.0, 1.0)
    assert male[f"{RULE}/ppv"].low == pytest.approx(0.4385, abs=1e-3)
    assert (male[f"{RULE}/npv"].low, male[f"{RULE}/npv"].high) == pytest.approx((0.628, 0.886), abs=0.02)


def test_a_rate_of_one_in_a_small_group_is_not_a_significant_difference():
    """11 of 11 against 85 % found is p = 0.4 by Fisher's test. The difference has an interval that contains 0, and no p-value below 0.05."""
    y, p, group, alert = with_small_group(11)
    rest = np.flatnonzero((y == 1) & (group == 0))
    alert[rest] = np.arange(rest.size) % 20 < 17
    found = audited(y, p, group, alerts={RULE: alert}, n_replicates=500).comparisons
    sensitivity = next(comparison for comparison in found if comparison.metric == f"{RULE}/sensitivity")

    assert sensitivity.difference.value == pytest.approx(0.15, abs=0.01)
    assert sensitivity.difference.low < 0 < sensitivity.difference.high
    assert sensitivity.ratio.low < 1 < sensitivity.ratio.high
    assert sensitivity.p_value > 0.05


def test_a_large_group_without_any_alert_is_a_significant_difference():
    """If none of 300 patients of a group is alerted, all replicates are 0, and the difference is significant all the same."""
    y, p, group, _ = cohort_of(600)
    found = audited(y, p, group, alerts={RULE: (p >= 0.4) & (group == 0)}).comparisons
    alerts = next(comparison for comparison in found if comparison.metric == f"{RULE}/alerts_per_100")

    assert alerts.adjusted < 1e-6
    assert not alerts.difference.low < 0 < alerts.difference.high


def test_small_groups_and_periods_have_no_figures():
    """A group or period with only ten patients with the outcome has no figures and no comparison, and no other count reveals its size."""
    y, p, group, _ = cohort_of(400)
    group = np.where(np.cumsum(y == 1) <= 10, 0, 1)
    month = np.where(np.arange(400) < 390, 0, 1)
    periods = Periods("month", ("2020-01", "2020-02"), month, np.array([0, 1 / 12]))
    found = audited(y, p, group, periods=periods)
    everyone, female, male = found.groups

    assert female.figures == {}
    assert female.reason == "fewer than 11 patients with or without the outcome"
    assert (female.n_samples, male.n_samples) == (None, None)
    assert [period.n_samples for period in everyone.periods] == [None, None]
    assert [bool(period.figures) for period in everyone.periods] == [True, False]
    assert found.comparisons == ()
    assert found.errors == ()


def test_counts_of_a_pair_are_hidden_together():
    """Three patients are in one of four combinations. All four counts are hidden, because the totals of the columns would reveal it."""
    y, p, _, _ = cohort_of(800)
    sex, race = np.repeat([0, 1], 400), np.tile([0, 1], 400)
    race[(sex == 0) & (np.arange(800) > 6)] = 1
    pair = Grouping("sex × race", ("fa", "fb", "ma", "mb"), 2 * sex + race, is_crossed=True)
    found = audit(y, p, [pair], patients=None, alerts={}, seed=[1], n_replicates=10)

    assert [cell.n_samples for cell in found.groups[1:]] == [None] * 4


def test_gaps_equal_those_of_fairlearn():
    """The gaps equal equalized_odds_difference, equal_opportunity_difference and demographic_parity_difference of fairlearn 0.15.0."""
    i = np.arange(240)
    y = ((i * 7) % 5 < 2).astype(int)
    alert = (i * i + 3 * i + i % 3) % 11 < 4 + 2 * y
    found = audit(
        y, np.full(240, 0.4), [Grouping("g", ("a", "b", "c"), i % 3)],
        patients=None, alerts={RULE: alert}, seed=[1], n_replicates=100,
    )  # fmt: skip

    assert {gap.metric: gap.value.value for gap in found.gaps} == pytest.approx(
        {
            f"{RULE}/equal_opportunity": 0.15625,
            f"{RULE}/equalised_odds": 0.375,
            f"{RULE}/demographic_parity": 0.2875,
        }
    )
    assert all(gap.by_chance > 0 for gap in found.gaps)


def test_error_of_patients_is_compared_within_the_outcome():
    """If a model gives lower risks to patients of one group with the outcome, Cliff's delta is large for them and near 0 for the others."""
    y, p, group, _ = cohort_of(1000)
    p = np.where((group == 1) & (y == 1), p * 0.3, p)
    positive, negative = audited(y, p, group).errors

    assert (positive.outcome, negative.outcome) == (1, 0)
    assert abs(positive.delta.value) > 0.5
    assert positive.adjusted < 1e-6
    assert negative.delta.low < 0 < negative.delta.high


def test_a_trend_over_months_is_found():
    """If the log-odds rise by 1 over a year, the trend of calibration in the large is about 1 per year."""
    y, p, group, _ = cohort_of(6000)
    month = np.arange(6000) % 12
    rng = np.random.default_rng(3)
    logit = np.log(p / (1 - p))
    y = (rng.random(6000) < 1 / (1 + np.exp(-(logit + month / 12)))).astype(int)
    periods = Periods("month", tuple(f"2020-{m:02}" for m in range(1, 13)), month, np.arange(12) / 12)
    found = audited(y, p, group, periods=periods)
    trend = next(
        found_trend
        for found_trend in found.trends
        if (found_trend.level, found_trend.metric) == ("all patients", "in_the_large")
    )

    assert trend.n_periods == 12
    assert trend.per_year.low < 1 < trend.per_year.high
    assert trend.adjusted < 0.001


def test_few_audits_without_a_trend_have_a_significant_one():
    """Months with few alerts or outcomes have uncertain standard errors: up to 13 % of such audits had a significant trend."""
    periods = [f"2020-{m:02}" for m in range(1, 13)]
    n_significant = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        month, logit = rng.integers(0, 12, 2400), rng.normal(-1.8, 1.2, 2400)
        p = 1 / (1 + np.exp(-logit))
        found = audit(
            (rng.random(2400) < p).astype(np.uint8),
            p,
            [],
            patients=None,
            alerts={RULE: p >= 0.2, "rare": p >= 0.6},
            seed=[seed],
            n_replicates=100,
            periods=Periods("month", tuple(periods), month, np.arange(12) / 12),
        )
        n_significant += any(trend.adjusted is not None and trend.adjusted < 0.05 for trend in found.trends)

    assert n_significant <= 3


def test_result_depends_neither_on_the_order_of_rows_nor_on_threads():
    """The audit is equal to the last bit for another order of rows and for more threads."""
    y, p, group, patient = cohort_of(300, samples_each=2)
    order = np.random.default_rng(5).permutation(300)
    first = audited(y, p, group, patients=patient)
    second = audited(y[order], p[order], group[order], patients=patient[order], n_threads=3)

    assert second == first


def test_patients_with_several_samples_widen_the_interval():
    """Five equal samples of each patient give the same interval as one sample."""
    y, p, group, _ = cohort_of(300)
    once = figures(audited(y, p, group), "all patients")["brier"]
    repeated = [np.repeat(values, 5) for values in (y, p, group)]
    clustered = figures(audited(*repeated, patients=np.repeat(np.arange(300), 5)), "all patients")["brier"]

    assert clustered.high - clustered.low == pytest.approx(once.high - once.low)


def test_intervals_cover_the_truth():
    """In the short form of ``make bench-bias``, the share of 200 cohorts whose interval contains the truth is 93 to 97 %, within sampling error."""
    command = [sys.executable, str(BENCHMARK), "--no-speed", "--cohorts", "200", "--replicates", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
