"""Time limits of tests. No test may fail because of other work on the machine."""

from typing import Final

GUARD_SECONDS: Final = 60.0
"""Limit of a wait whose duration is not the claim. It only ends a test that would hang."""
SLOWER: Final = 4
"""Factor of the limits that are claims: other programs can make everything this many times slower."""
