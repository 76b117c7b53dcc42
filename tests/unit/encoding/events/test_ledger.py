"""The ledger adds up, or an error is raised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.encoding.events.ledger import Ledger, Rule, intended_rules
from mlho.errors import MlhoError
from mlho.steps import STEPS
from mlho.training.checks.ledger import ledger_warnings
from tests.builders import make_spec

RULES = {"entry": {"codes": ["A"]}, "outcome": {"codes": ["B"], "toDays": 90}}


@st.composite
def sound_ledgers(draw):
    counts = st.integers(0, 10**12)
    dropped = draw(st.dictionaries(st.sampled_from(Rule), counts))
    used = draw(counts)
    return Ledger(used + sum(dropped.values()), used, dropped, draw(st.integers(0, used)))


def test_the_report_does_not_warn_of_static_rows_of_meds():
    """The step that writes the report keeps the source; static rows of other sources are a warning."""
    ledger = Ledger(rows_in=10, rows_used=6, dropped={Rule.NO_TIME: 4})
    meds, native = (
        STEPS["write_report"].narrow(make_spec({"data.source": name}).spec) for name in ("meds", "native")
    )

    assert ledger_warnings(meds, ledger) == []
    assert "no time" in ledger_warnings(native, ledger)[0]


@pytest.mark.parametrize("changes", [{"cohort.only": {"age": {"atLeast": 65}}}, {"cohort.rules": RULES}])
def test_patients_whom_a_cohort_leaves_out_are_no_unknown_ids(changes):
    """A subgroup and a cohort by rule leave patients out on purpose, also for the check of data quality, which does not read the rules."""
    if "cohort.rules" in changes:
        changes |= {"data.tables.labels": None, "cohort.index": None}
    spec = make_spec(changes).spec

    assert (
        intended_rules(spec) == intended_rules(STEPS["check_quality"].narrow(spec)) == (Rule.UNKNOWN_PATIENT,)
    )
    assert intended_rules(make_spec({}).spec) == ()


def test_the_published_order_of_rules():
    """Documentation and reports list the rules in this order, and a row is counted by the first rule that matches."""
    assert [rule.words for rule in Rule] == [
        "no patient",
        "no code",
        "unusable code",
        "unreadable time",
        "no time",
        "unknown patient",
        "implausible date",
        "after death",
        "after index",
        "in gap",
        "before look-back",
        "excluded code",
        "modifier",
        "end before start",
        "duplicate of one day",
    ]
    assert all(rule.meaning.endswith(".") for rule in Rule)


@given(st.lists(sound_ledgers(), max_size=5))
def test_the_sum_of_sound_ledgers_is_sound(ledgers):
    """If the ledgers of partitions add up, so does their total, rule by rule."""
    total = Ledger.total(ledgers).check()
    assert total.rows_in == sum(ledger.rows_in for ledger in ledgers)
    assert all(total.n_dropped(rule) == sum(ledger.n_dropped(rule) for ledger in ledgers) for rule in Rule)


@given(sound_ledgers())
def test_a_ledger_comes_back_from_json(ledger):
    """A ledger is equal after a round trip through JSON, and rules without rows are written as 0."""
    back = Ledger.from_json(ledger.to_json())
    assert back.to_json() == ledger.to_json()
    assert list(ledger.to_json()["dropped"]) == [rule.words for rule in ledger.rules]
    unasked = Ledger(rows_in=1, rows_used=1)
    assert set(Rule) - set(unasked.rules) == {
        Rule.AFTER_DEATH,
        Rule.EXCLUDED_CODE,
        Rule.MODIFIER,
        Rule.END_BEFORE_START,
    }


@given(sound_ledgers(), st.integers(0, 100))
def test_duplicates_move_rows_from_used_to_dropped(ledger, n):
    """Duplicates move rows from used to dropped, and the number of rows read does not change."""
    n = min(n, ledger.rows_used)
    after = ledger.with_duplicates(n).check()
    assert after.rows_used == ledger.rows_used - n
    assert after.n_dropped(Rule.DUPLICATE) == ledger.n_dropped(Rule.DUPLICATE) + n


@pytest.mark.parametrize(
    "ledger",
    [
        Ledger(rows_in=3, rows_used=1, dropped={Rule.NO_CODE: 1}),
        Ledger(rows_in=3, rows_used=3, dropped={Rule.NO_CODE: 1}),
        Ledger(rows_in=0, rows_used=-1, dropped={Rule.NO_CODE: 1}),
    ],
    ids=["a row lost", "a row counted twice", "a negative count"],
)
def test_a_ledger_that_does_not_add_up_fails(ledger):
    """A run that loses rows must fail."""
    with pytest.raises(MlhoError, match=r"part-3\.parquet: the ledger does not add up"):
        ledger.check("part-3.parquet")


def test_a_rule_that_drops_more_than_a_fifth_of_the_rows_is_a_warning():
    """Exactly a fifth gives no warning. The largest rule comes first, and each warning has its own remedy."""
    dropped = {Rule.UNREADABLE_TIME: 21, Rule.UNKNOWN_PATIENT: 40, Rule.NO_CODE: 20}
    ledger = Ledger(rows_in=100, rows_used=19, dropped=dropped).check()

    first, second = ledger.warnings()
    assert first.startswith("40.0 % of the event rows (40 of 100) are dropped by the rule “unknown patient”.")
    assert first.endswith(Rule.UNKNOWN_PATIENT.remedy)
    assert "“unreadable time”" in second
    assert "2020-01-31" in second
    assert Ledger().warnings() == []
    assert ledger.warnings(intended=[Rule.UNKNOWN_PATIENT]) == [second]  # as with a cohort by rule
