"""Samples that lose all their events to a rule."""

import numpy as np

from mlho.encoding.events.fates import SEVERAL, join_fates, lost_sentence, samples_lost
from mlho.encoding.events.ledger import Rule
from mlho.encoding.events.partition import encode_partition

DAY = 86_400_000_000
INDEX = 18_000 * DAY
FAR = 10**17  # microseconds: the year 5138


def test_samples_that_lose_all_events_are_counted_by_rule(make_spec, make_cohort, make_batch, tmp_path):
    """The counts do not depend on the partitions. A patient with a used row, or without any row, does not count."""
    cohort = make_cohort(
        {"a": (INDEX, INDEX + DAY), "b": (INDEX,), "c": (INDEX,), "d": (INDEX,), "e": (INDEX,)}
    )
    rows = [
        {"patient": "a", "code": "A", "time": -FAR},
        {"patient": "a", "code": "A", "time": FAR},
        {"patient": "b", "code": "A", "time": FAR},
        {"patient": "b", "code": "A", "time": INDEX},
        {"patient": "c", "code": None, "time": INDEX},
        {"patient": "c", "code": "A", "time": INDEX + 5 * DAY},
        {"patient": "d", "code": "A\t", "time": INDEX},
        {"patient": None, "code": "A", "time": INDEX},
    ]
    counts = []
    for cut in (0, 3, 8):
        parts = [
            encode_partition(make_spec(), cohort, [make_batch(batch_rows)], tmp_path / "segments")
            for batch_rows in (rows[:cut], rows[cut:])
            if batch_rows
        ]
        fates = join_fates([(part.patients, part.fates) for part in parts], cohort.n_patients)
        counts.append(samples_lost(fates, np.diff(cohort.sample_starts())))

    assert counts == [{Rule.UNUSABLE_CODE.words: 1, Rule.IMPLAUSIBLE_DATE.words: 2, SEVERAL: 1}] * 3


def test_the_sentence_shows_no_small_count():
    """The sentence on lost samples hides small counts."""
    words = lost_sentence({"implausible date": 1204, "no time": 3}, 11)

    assert words.endswith("1,204 samples by “implausible date”, fewer than 11 samples by “no time”.")
