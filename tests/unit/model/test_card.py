"""The model card contains the known facts, and marks the sections that people must write."""

from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, NumberCode
from mlho.model.card import SECTIONS, WRITTEN_BY_PEOPLE, model_card
from mlho.model.parts import BundlePerformance, RiskHorizon


def test_every_section_is_there_in_order(parts):
    """Sections have fixed names, for readers and programs."""
    card = model_card(parts())

    assert [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")] == list(
        SECTIONS
    )


def test_gaps_are_visible_until_people_write(parts):
    """A section that only people can write states what is missing, and a note replaces it."""
    gaps = model_card(parts()).count("**TO BE WRITTEN:**")
    card = model_card(parts(notes={"Purpose": "Finds patients for a dietitian's call."}))

    assert gaps == len(WRITTEN_BY_PEOPLE)
    assert card.count("**TO BE WRITTEN:**") == gaps - 1
    assert "Finds patients for a dietitian's call." in card


def test_uses_and_patients_outside_the_training_data_are_excluded(parts):
    """The card has exclusions before a person writes any: of every model, and of the outcome, horizon and levels of this one."""
    encoder = DemographicsEncoder(
        (NumberCode("age", 50.0, False), CategoryCode("sex", ("F", "M", "unknown")))
    )
    calibrator = parts().calibrator
    for changes, words in (
        (
            {},
            "Outcomes other than `label`, or periods after the index date other than that of its labels.",
        ),
        ({"predictive": False}, "Prediction: it shows associations only."),
        (
            {"demographics": encoder},
            "Patients with a sex other than F, M: the training data had none or too few of them.",
        ),
        (
            {"horizons": tuple(RiskHorizon(days=days, calibrator=calibrator) for days in (90, 365))},
            "or risks beyond 365 days after the index date.",
        ),
    ):
        section = model_card(parts(**changes)).partition("## Not for")[2].partition("## Data")[0]
        assert "- Decisions about a patient without human judgement." in section
        assert words in section
        assert "**TO BE WRITTEN:** further uses and patients" in section


def test_the_column_of_a_risk_has_the_number_of_days_without_separators(parts):
    """A program can build the name from the horizon, as the documentation gives it."""
    assert RiskHorizon(days=1825, calibrator=parts().calibrator).column == "risk: 1825 days"


def test_figures_stand_with_their_intervals(parts):
    """Metrics have their intervals, missing ones a dash, and thresholds their reason."""
    metrics = {"auroc": {"mean": 0.81, "low": 0.75, "high": 0.87}, "brier": {"mean": None}}
    card = model_card(parts(metrics=metrics))

    assert "| AUROC | 0.810 | 0.750 to 0.870 |" in card
    assert "| Brier score, before calibration | – | – |" in card
    assert "| youden | 0.4 |" in card
    assert "| fixed-alert-rate:0.1 (one class only) | – |" in card


def test_the_procedure_its_rival_and_the_net_benefit_are_named(parts):
    """The card names the evaluated procedure with its rates and net benefit, and another procedure in a separate sentence."""
    spread = {"mean": 0.81, "low": 0.75, "high": 0.87}
    judged = BundlePerformance(
        procedure="glmboost on ranked features",
        n_test_sets=20,
        decision_curve={
            "threshold": [0.05, 0.1],
            "model": {"mean": [0.02, 0.01], "low": [0.0, 0.0], "high": [0.03, 0.02]},
            "all": [0.015, -0.05],
        },
        winner_per_iteration={"auroc": {**spread, "mean": 0.84}},
    )
    card = model_card(parts(metrics={"auroc": spread, "youden/ppv": spread}, performance=judged))
    alone = judged.model_copy(update={"winner_per_iteration": {"auroc": spread}})

    assert "on held-out patients: glmboost on ranked features." in card
    assert "| youden | 0.4 | 0.81 (0.75 to 0.87) |" in card
    assert "| 10 % | 0.0100 | 0.0000 | 0.0200 | -0.0500 |" in card
    assert (
        "Another procedure, the best candidate on ranked features in each iteration, had an AUROC of 0.840"
        in card
    )
    assert "youden/ppv" not in card
    assert "Another procedure" not in model_card(parts(metrics={"auroc": spread}, performance=alone))


def test_the_net_benefit_on_one_test_set_is_one_figure(parts):
    """A recalibration has one test set, so its lowest and its highest figure would repeat the mean."""
    curve = {
        "threshold": [0.1],
        "model": {"mean": [0.01], "low": [0.01], "high": [0.01]},
        "all": [-0.05],
    }
    judged = BundlePerformance(procedure="recalibrated", n_test_sets=1, decision_curve=curve)
    card = model_card(parts(performance=judged))

    assert (
        "| net benefit at threshold | model | treat all |\n|---:|---:|---:|\n| 10 % | 0.0100 | -0.0500 |"
        in card
    )


def test_an_association_is_marked_at_the_top(parts):
    """The card of a model without index date says at the top that it does not predict."""
    card = model_card(parts(predictive=False))

    assert card.splitlines()[2].startswith("**Not predictive: association only.**")


def test_text_from_data_cannot_break_the_table(parts):
    """A description with a bar, a line break or markup stays in its cell."""
    bundle_parts = parts()
    features = (
        bundle_parts.features[0].model_copy(update={"words": "a|b\n<script> *x*"}),
        *bundle_parts.features[1:],
    )

    assert r"| a\|b \<script\> \*x\* |" in model_card(parts(features=features))
