"""Counts of patients or samples in text, for results that leave the hospital."""

from typing import Final

LARGE_SHARE: Final = 0.2  # a rule that drops more than this share of the rows causes a warning


def shown_count(n: int, noun: str, min_cell: int = 0) -> str:
    """Return a count with its noun in singular or plural. A count from 1 to ``min_cell`` − 1 is shown only as a bound.

    Examples
    --------
    >>> shown_count(1204, "sample", 11), shown_count(3, "sample", 11), shown_count(1, "sample")
    ('1,204 samples', 'fewer than 11 samples', '1 sample')
    """
    return f"{shown_number(n, min_cell)} {noun}{'' if is_one(n, min_cell) else 's'}"


def shown_number(n: int, min_cell: int) -> str:
    """Return a count without a noun. A count from 1 to ``min_cell`` − 1 is shown only as a bound."""
    return f"fewer than {min_cell}" if 0 < n < min_cell else f"{n:,}"


def shown_with_share(n: int, total: int, noun: str, min_cell: int) -> str:
    """Return a count and its share of a total. For a small count only the bound is shown, because the share would reveal the count.

    Examples
    --------
    >>> shown_with_share(40, 1204, "sample", 11), shown_with_share(3, 1204, "sample", 11)
    ('40 of 1,204 samples (3.3 %)', 'fewer than 11 of 1,204 samples')
    >>> shown_with_share(400, 400, "sample", 11)
    '400 of 400 samples (100 %)'
    """
    if 0 < n < min_cell:
        return f"fewer than {min_cell} of {shown_count(total, noun)}"
    share = float(f"{100 * n / total:.2g}")  # two digits
    return f"{n:,} of {shown_count(total, noun)} ({share:g} %)"


def is_one(n: int, min_cell: int = 0) -> bool:
    """Return whether :func:`shown_count` shows 1, so that the verb is singular."""
    return n == 1 and min_cell <= 1
