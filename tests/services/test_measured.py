"""The limits of the proofs can be missed, so that a proof can fail."""

from tests.services.measured import Measured, missed, table


def test_nothing_measured_is_a_missed_limit() -> None:
    assert missed([Measured("start", [], 8)]) == ["start | 0 | – | – | – | – | ≤ 8 s | MISSED"]


def test_one_of_a_hundred_may_pass_a_limit_of_the_99th_percentile() -> None:
    """With 99 values of 1 s and one of 9 s, a limit of 8 s is kept for the 99th percentile, but not for all values."""
    values = [1.0] * 99 + [9.0]
    assert Measured("start", values, 8, share=0.99).is_kept
    assert not Measured("start", values, 8).is_kept
    assert not Measured("start", [*values[1:], 9.0], 8, share=0.99).is_kept


def test_a_slower_machine_has_a_longer_limit_and_no_other_count() -> None:
    figures = [Measured("start", [20.0], 8), Measured("starts", [2.0], 1, unit="starts")]
    assert missed(figures, slower=4) == ["starts | 1 | 2 | 2 | 2 | 2 | ≤ 1 starts | MISSED"]
    assert len(missed(figures)) == 2


def test_too_little_is_a_missed_limit_too() -> None:
    assert not Measured("starts", [3, 2], 3, 3).is_kept
    assert Measured("starts", [3, 3], 3, 3).is_kept


def test_table_and_line_of_json_say_the_same() -> None:
    figure = Measured("start", [1.0, 2.0, 4.0], 3)
    assert table([figure]).splitlines()[2].split() == [
        "start",
        "3",
        "1",
        "2",
        "4",
        "4",
        "≤",
        "3",
        "s",
        "MISSED",
    ]
    assert figure.plain() == {
        "what": "start", "n": 3, "min": 1.0, "p50": 2.0, "p99": 4.0, "max": 4.0, "limit": 3, "unit": "s", "holds": False,
    }  # fmt: skip
