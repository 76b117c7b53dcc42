"""The subjects of data quality findings that are known before a run, and whether a pattern can match one."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

#: Subjects of the checks whose subjects do not depend on the specification or the data.
NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "code-form": ("placeholder", "number", "blank"),
    "unusable-rows": ("no patient", "no code", "unusable code", "unreadable time", "no time"),
    "implausible-dates": ("implausible date", "after death"),
}
#: Subject of ``missing-by-outcome`` in addition to the demographics.
RECORDS: Final = "records"
SITE: Final = "site "  # prefix of the subjects of ``site-months``
OF_YEARS: Final = ("hours", "weekdays")
YEARS: Final = "[0-9][0-9?*]*"  # regular expression of a pattern of years
ANY: Final = "*"  # pattern of any subject
#: Checks whose subjects are codes, which are known only from the events.
OF_CODES: Final = (
    "copy-forward",
    "negative-values",
    "placeholder-values",
    "two-scales",
    "value-jumps",
    "values-missing",
)


def subjects_in_words(check: str) -> str:
    """Describe the subjects of a check, for a message."""
    if check in NAMED:
        return ", ".join(NAMED[check])
    if check in OF_YEARS:
        return "years, such as 2020"
    if check == "site-months":
        return "sites, such as site North"
    if check == "missing-by-outcome":
        return f"{RECORDS} and the names of features.demographics"
    return "codes"


def can_match(pattern: str, check: str, only: str | None = None) -> bool:
    """Return whether a pattern can match a subject of a check, as far as is known without data.

    Wildcards are for codes, sites and years. A subject with a fixed name is given in full, or as ``*``, so that the API server
    can apply the same rule.

    Parameters
    ----------
    only : str or None
        The only subject of a check with a single figure.

    Examples
    --------
    >>> can_match("placeholder", "code-form"), can_match("LOINC:*", "code-form"), can_match("LOINC:*", "copy-forward")
    (True, False, True)
    >>> can_match("place*", "code-form"), can_match("*", "code-form")
    (False, True)
    >>> can_match("site N*", "site-months"), can_match("North", "site-months"), can_match("20??", "hours")
    (True, False, True)
    """
    known = NAMED.get(check, ()) if only is None else (only,)
    if known:
        return pattern in (*known, ANY)
    if check in OF_YEARS:
        return pattern == ANY or re.fullmatch(YEARS, pattern) is not None
    if check == "site-months":
        return pattern == ANY or pattern.startswith(SITE)
    return True


def unmatched_demographics(patterns: Sequence[str], demographics: Collection[str]) -> bool:
    """Return whether ``missing-by-outcome`` has none of these subjects; names of demographics are given without wildcards."""
    return not {ANY, RECORDS, *demographics} & {*patterns}
