"""Figures by group are in natural order."""

from mlho.report.figures.groups import of_audit


def test_bands_ascend_although_the_audit_begins_with_the_reference(result):
    """Bands are in ascending order within their column, and the level of missing values is last."""
    everyone, female, *_ = result.bias.groups
    levels = ["[70-80)", "unknown", "[0-10)", "[10-20)"]
    bands = [female.model_copy(update={"by": "age_band", "level": level}) for level in levels]
    audit = result.bias.model_copy(update={"groups": [everyone, female, *bands]})

    figure = next(candidate for candidate in of_audit(audit) if candidate.name == "groups")

    shown = [name for name, _ in figure.rows]
    assert shown == [
        "sex: female",
        *(f"age_band: {band}" for band in ["[0-10)", "[10-20)", "[70-80)", "unknown"]),
    ]


def test_the_heading_of_a_column_keeps_its_capitals(result):
    """The column ``ED_visit`` is “ED visit”, not “Ed visit”."""
    groups = [group.model_copy(update={"by": "ED_visit"}) for group in result.bias.groups[1:]]
    audit = result.bias.model_copy(update={"groups": [result.bias.groups[0], *groups]})

    assert any(">ED visit<" in figure.wide for figure in of_audit(audit))
