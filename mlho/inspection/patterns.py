"""Patterns of codes in a specification that match no code of the sampled events."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlho.encoding.events.code_patterns import matches
from mlho.sources.arrow import texts_in
from mlho.spec.checks.subjects import OF_CODES
from mlho.spec.training import TrainingSpec

_NAMED: Final = 3  # maximum number of patterns in a warning


def judge_patterns(
    spec: TrainingSpec, batches: Sequence[Any], parents: Mapping[str, str], *, is_whole: bool
) -> list[str]:
    """Warn about patterns that match no code, for example because of their case; nothing else shows that they have no effect.

    Parameters
    ----------
    batches : sequence of record batches
        A sample of the events.
    parents : mapping of code to parent
        The map of ``features.rollUp``.
    is_whole : bool
        Whether the sample contains all rows. Otherwise a field is reported only if none of its patterns matches, because a
        rare code may be outside the sample.
    """
    codes = texts_in(batch.column("code") for batch in batches)
    known = sorted(codes | {parents[code] for code in codes & parents.keys()})
    warnings = []
    for field, patterns in _stated(spec).items():
        unmatched = [pattern for pattern in patterns if not matches([pattern], known).any()]
        if known and unmatched and (is_whole or len(unmatched) == len(patterns)):
            more = f" and {len(unmatched) - _NAMED:,} more" if len(unmatched) > _NAMED else ""
            named = ", ".join(map(repr, unmatched[:_NAMED])) + more
            warnings.append(
                f"In a sample, no code matches {named} of {field}. A pattern is matched against the whole code, in its case; * is any text."
            )
    return warnings


def _stated(spec: TrainingSpec) -> dict[str, tuple[str, ...]]:
    features, sequences = spec.features, spec.features.sequences
    overrides = () if spec.quality is None else spec.quality.overrides
    of_codes = [override.subjects for override in overrides if set(override.checks) <= set(OF_CODES)]
    stated = {
        "features.include": features.include,
        "features.exclude": features.exclude,
        "features.sequences.startCodes": None if sequences is None else sequences.start_codes,
        "features.sequences.endCodes": None if sequences is None else sequences.end_codes,
        "quality.codes": None if spec.quality is None else tuple(spec.quality.codes),
        "quality.overrides": tuple(dict.fromkeys(itertools.chain.from_iterable(of_codes))),
    }
    return {field: patterns for field, patterns in stated.items() if patterns}
