"""Whether the rules of a cohort are applied before a run: where the events are few."""

from collections.abc import Sequence
from typing import Final

from mlho.sources.files import SourceFile

#: Bytes of events up to which the rules are applied: some seconds, and they are read in a stream.
MOST_EVENT_BYTES: Final = 64 << 20


def can_apply_rules(files: Sequence[SourceFile]) -> bool:
    """Return whether the events are few enough to be read whole before a run."""
    return sum(file.size for file in files) <= MOST_EVENT_BYTES
