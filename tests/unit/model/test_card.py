"""The model card says what is known, and shows where people must write."""

from mlho.model.card import SECTIONS, WRITTEN_BY_PEOPLE, model_card


def test_every_section_is_there_in_order(parts):
    """Named sections, so that a reader and a program find them."""
    card = model_card(parts())

    assert [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")] == list(
        SECTIONS
    )


def test_gaps_are_visible_until_people_write(parts):
    """A section that only people can write says what it lacks; a note fills it."""
    gaps = model_card(parts()).count("**TO BE WRITTEN:**")
    card = model_card(parts(notes={"Purpose": "Finds patients for a dietitian's call."}))

    assert gaps == len(WRITTEN_BY_PEOPLE)
    assert card.count("**TO BE WRITTEN:**") == gaps - 1
    assert "Finds patients for a dietitian's call." in card


def test_figures_stand_with_their_intervals(parts):
    """Metrics in words with intervals, absent ones as a dash, thresholds with their reason."""
    metrics = {"auroc": {"mean": 0.81, "low": 0.75, "high": 0.87}, "brier": {"mean": None}}
    card = model_card(parts(metrics=metrics))

    assert "| AUROC | 0.810 | 0.750 to 0.870 |" in card
    assert "| Brier score | – | – |" in card
    assert "| youden | 0.4 |" in card
    assert "| fixed-alert-rate:0.1 (one class only) | – |" in card


def test_association_is_said_aloud(parts):
    """A model without index date is no prediction, and the card says so first."""
    card = model_card(parts(predictive=False))

    assert card.splitlines()[2].startswith("**Not predictive: association only.**")


def test_text_from_data_cannot_break_the_table(parts):
    """A description with a bar, a line break or markup stays in its cell."""
    made = parts()
    features = (made.features[0].model_copy(update={"words": "a|b\n<script> *x*"}), *made.features[1:])

    assert r"| a\|b \<script\> \*x\* |" in model_card(parts(features=features))
