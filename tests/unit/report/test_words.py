import pytest

from mlho.report import words
from mlho.report.population import SplitAccount, SplitSet
from mlho.report.result import Estimate, Spread


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(words.count(1_204), "1,204", id="thousands"),
        pytest.param(words.number(-0.04), "−0.04", id="minus sign"),
        pytest.param(words.number(-0.0001), "0.00", id="no negative zero"),
        pytest.param(words.percent(0.381), "38.1\u202f%", id="percent"),
        pytest.param(words.ratio(0.0521), "0.052", id="small ratio"),
        pytest.param(words.ratio(1.844), "1.84", id="ratio"),
        pytest.param(words.ratio(12.34), "12.3", id="larger ratio"),
        pytest.param(words.ratio(1e9), "over 1,000", id="huge ratio"),
        pytest.param(words.p_value(0.00004), "<\u202f0.001", id="small p"),
        pytest.param(words.interval(0.68, 0.67, 0.69), "0.68 (95\u202f% CI 0.67–0.69)", id="interval"),
        pytest.param(
            words.interval(0.0, -0.1, 0.1, 1), "0.0 (95\u202f% CI −0.1 to 0.1)", id="interval below zero"
        ),
        pytest.param(words.interval(0.68, None, None), "0.68", id="no interval"),
        pytest.param(words.odds(1.84, 1.22, 2.77), "1.84 (1.22–2.77)", id="odds"),
        pytest.param(words.odds(None), "–", id="no odds"),
        pytest.param(words.odds(5e4, 2e3, 1e9), "over 1,000", id="odds beyond what is written"),
        pytest.param(words.odds(5e4, 2.0, 1e9), "over 1,000 (2.00 to over 1,000)", id="one end beyond"),
        pytest.param(words.cut("x" * 200), "x" * 99 + "…", id="long label"),
        pytest.param(words.cell(None, 11), "fewer than 11", id="suppressed"),
        pytest.param(words.plural(1, "patient"), "1 patient", id="one"),
        pytest.param(words.plural(1_204, "patient"), "1,204 patients", id="many"),
        pytest.param(words.spread(Spread(mean=None)), "not available", id="absent spread"),
    ],
)
def test_numbers_are_written_for_people(written, expected):
    """Thousands, minus signs, narrow spaces and intervals are formatted as in a journal."""
    assert written == expected


def test_an_absent_estimate_says_why():
    """A missing figure is shown as words with its reason, never as an empty cell."""
    assert words.estimate(Estimate(value=None, reason="one class only")) == "not available (one class only)"


def test_known_metrics_come_first_in_a_readers_order():
    """The order is discrimination, accuracy, calibration, then unknown metrics by name."""
    assert words.metric_order(["zeta", "brier", "alpha", "auroc"]) == ["auroc", "brier", "alpha", "zeta"]


def test_an_interval_is_clipped_to_the_range_of_the_metric():
    """A symmetric interval of a sensitivity near one would exceed one; a calibration intercept has no bounds."""
    wide = Spread(mean=0.95, low=0.85, high=1.05)

    assert words.possible("youden/sensitivity", wide).high == 1.0
    assert words.possible("calibration_intercept", wide) == wide


def test_demographic_columns_among_the_stable_features_are_counted(result):
    """The count of stable features includes demographic columns, which no table of codes has; the sentence says how many."""
    first, *others = result.features
    demographic = first.model_copy(update={"kind": "demographic", "in_consensus": True})

    sentences = words.summary_sentences(result.model_copy(update={"features": [demographic, *others]}))

    assert (
        "8 features are stable (selected in most iterations, with the same direction of effect), 1 of them demographic"
        in sentences[4]
    )
    assert sentences[4].endswith("By chance alone, 1 would be expected, not counting demographics.")


@pytest.mark.parametrize(
    ("large", "words_of_it"),
    [
        (Spread(mean=0.69, low=0.5, high=0.9), "too low on average"),
        (Spread(mean=-0.69, low=-0.9, high=-0.5), "too high on average"),
        (Spread(mean=0.1, low=0.05, high=0.15), "close to the observed frequencies"),
        (Spread(mean=0.4, low=-0.1, high=0.9), "close to the observed frequencies"),
        (Spread(mean=None), "close to the observed frequencies"),
    ],
)
def test_probabilities_that_are_off_on_average_are_not_called_close(result, large, words_of_it):
    """With an ideal slope, twice or half the predicted odds are stated, with the calibration in the large. A small or uncertain deviation is not."""
    slope = Spread(mean=1.0, low=0.95, high=1.05)
    headline = {"calibration_slope": slope, "calibration_in_the_large": large}

    sentence = words.calibrated(result.model_copy(update={"headline": headline}))

    assert f"the predicted probabilities were {words_of_it}" in sentence
    assert ("calibration in the large" in sentence) == ("on average" in words_of_it)
    assert "1.00 (95" in sentence


def test_figures_of_a_small_test_set_are_not_judged_by_the_size_of_the_cohort(result):
    """In a split by date only tested samples count: with 178 positive ones, calibration is not assessed; with 90, the AUROC has a caution."""

    def sentences(kind, *n_positive):
        sets = [
            SplitSet(
                name=f"set {n}",
                n_test_samples=1_599,
                n_test_positive_samples=n,
                n_train_samples=1_401,
                left_out=[],
            )
            for n in n_positive
        ]
        account = SplitAccount(
            kind=kind,
            column=None,
            follow_up_days=None,
            left_out_fraction=0.3,
            iterations_each=20,
            test_sets=sets,
        )
        return " ".join(words.summary_sentences(result.model_copy(update={"split": account})))

    too_few = "cannot be assessed (fewer than 200 samples with or without the outcome)"
    assert too_few in sentences("temporal", 178)
    assert "fewer than 100 samples" in sentences("temporal", 90)
    assert too_few not in sentences("rolling", 178, 22)
    assert too_few not in sentences("site", 178)


def test_the_summary_says_for_whom_how_well_and_how_surely(result):
    """The sentences are on the patients, performance with interval, calibration, stability and features, in this order, with the planted numbers."""
    assert len(result.summary) == 6
    assert "71,515 patients" in result.summary[0]
    assert "0.68 (95\u202f% CI 0.66–0.69)" in result.summary[1]
    assert "close to the observed frequencies" in result.summary[2]
    assert "0.71" in result.summary[3]
    assert "8 features are stable" in result.summary[4]
    assert "Another procedure" in result.summary[5]
