"""Ordered pairs and their durations equal the pairs of events, listed one by one."""

import math
from collections import defaultdict

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.method.sequences import durations as durations_module
from mlho.method.sequences import pairs as pairs_module
from mlho.method.sequences.days import CodeSpans, DayLists
from mlho.method.sequences.durations import durations, durations_in_pieces
from mlho.method.sequences.pairs import informative_pairs, pair_samples
from mlho.method.sequences.significance import is_significant

N_SAMPLES, N_CODES = 6, 4
PATIENT_OF = np.array([0, 0, 1, 2, 2, 3], np.int32)
Y = np.array([1, 0, 1, 0, 1, 0], np.uint8)

rows = st.lists(
    st.tuples(st.integers(0, N_SAMPLES - 1), st.integers(0, N_CODES - 1), st.integers(-3, 8)), max_size=40
)
margins = st.integers(0, 3)


def lists_of(events, *, n_samples=N_SAMPLES, n_codes=N_CODES):
    """Return the events of a test as day lists."""
    days_of = defaultdict(list)
    for sample, code, day in sorted(set(events)):
        days_of[code, sample].append(day)
    cells = sorted(days_of)
    spans = CodeSpans(
        n_samples,
        np.searchsorted([code for code, _ in cells], np.arange(n_codes + 1)),
        np.array([sample for _, sample in cells], np.int32),
        first=np.array([days_of[cell][0] for cell in cells], np.int32),
        last=np.array([days_of[cell][-1] for cell in cells], np.int32),
    )
    starts = np.cumsum([0, *(len(days_of[cell]) for cell in cells)])
    return DayLists(spans, starts, np.array([day for cell in cells for day in days_of[cell]], np.int32))


def every_pair():
    """Return the first and the second code of every ordered pair."""
    return tuple(grid.ravel() for grid in np.meshgrid(np.arange(N_CODES), np.arange(N_CODES), indexing="ij"))


def listed(events, margin):
    """Return every ordered pair of distinct days by (first code, second code) and sample; this is the oracle."""
    distinct = sorted(set(events))
    found = defaultdict(lambda: defaultdict(list))
    for sample, code, day in distinct:
        for other_sample, other, later in distinct:
            if other_sample == sample and later - day > margin:
                found[code, other][sample].append(later - day)
    return found


def information(events, pair, has_pair):
    """Return I(pair; Y | both codes) in nats from the definition; this is the oracle."""
    sets = [{sample for sample, code, _ in events if code == member} for member in pair]
    strata = defaultdict(list)
    for sample in range(N_SAMPLES):
        strata[sample in sets[0], sample in sets[1]].append((sample in has_pair, int(Y[sample])))
    total = 0.0
    for cells in strata.values():
        for cell in set(cells):
            n = cells.count(cell)
            n_x, n_y = (sum(other_cell[side] == cell[side] for other_cell in cells) for side in (0, 1))
            total += n / N_SAMPLES * math.log(n * len(cells) / (n_x * n_y))
    return total


@given(rows, margins)
@settings(deadline=None, max_examples=150)
def test_pairs_have_the_patients_that_listing_finds(events, margin):
    """The screen, which only uses the first and the last day of each code, finds the same pairs and patients as listing."""
    spans = lists_of(events).spans
    expected = {
        pair: len({int(PATIENT_OF[sample]) for sample in samples})
        for pair, samples in listed(events, margin).items()
    }

    for min_patients in (1, 2):
        found = informative_pairs(
            spans, Y, 100, min_patients=min_patients, co_occurrence_days=margin, patient_of=PATIENT_OF
        )
        if len(found):
            assert found.n_screened == sum(n >= min_patients for n in expected.values())
        pairs = zip(found.first.tolist(), found.then.tolist(), strict=True)
        assert found.n_patients.tolist() == [expected[pair] for pair in pairs]


@given(rows, margins)
@settings(deadline=None, max_examples=150)
def test_durations_equal_those_of_all_pairs_of_days(events, margin):
    """Count, shortest, longest and sum are exact for every pair and sample."""
    first, then = every_pair()
    found = durations(lists_of(events), first, then, co_occurrence_days=margin)

    expected, oracle = [], listed(events, margin)
    for pair in zip(first.tolist(), then.tolist(), strict=True):
        for sample, days in sorted(oracle.get(pair, {}).items()):
            expected.append((pair, sample, len(days), min(days), max(days), sum(days)))
    numbers = np.repeat(np.arange(len(first)), np.diff(found.indptr))
    pairs = [(int(first[number]), int(then[number])) for number in numbers]
    columns = (found.samples, found.count, found.shortest, found.longest, found.total)
    assert list(zip(pairs, *(column.tolist() for column in columns), strict=True)) == expected


@given(rows, margins)
@settings(deadline=None, max_examples=150)
def test_pairs_are_ranked_by_what_they_add_to_their_codes(events, margin):
    """The score is I(pair; Y | first, then), and a pair without information is not a candidate."""
    spans = lists_of(events).spans
    found = informative_pairs(spans, Y, 100, min_patients=1, co_occurrence_days=margin)

    expected = {
        pair: information(events, pair, set(samples)) for pair, samples in listed(events, margin).items()
    }
    informative = {pair for pair, nats in expected.items() if nats > 1e-9}
    ranked = list(zip(found.first.tolist(), found.then.tolist(), strict=True))
    assert informative <= set(ranked)
    assert [expected[pair] for pair in ranked] == pytest.approx(found.information.tolist(), abs=1e-9)
    assert found.information.tolist() == sorted(found.information.tolist(), reverse=True)


@given(rows, margins)
@settings(deadline=None, max_examples=100)
def test_the_samples_of_a_pair_are_those_with_the_order(events, margin):
    """The samples of a pair equal those found by listing the pairs of events."""
    spans = lists_of(events).spans
    first, then = every_pair()
    bounds = {"more_than": np.full(len(first), margin), "at_most": np.full(len(first), 100)}
    indptr, samples = pair_samples(spans, first, then, **bounds)

    oracle = listed(events, margin)
    for number, pair in enumerate(zip(first.tolist(), then.tolist(), strict=True)):
        assert samples[indptr[number] : indptr[number + 1]].tolist() == sorted(oracle[pair])


def random_rows(n_rows, seed=3):
    random = np.random.default_rng(seed)
    return [
        (int(s), int(c), int(d))
        for s, c, d in zip(
            random.integers(0, N_SAMPLES, n_rows),
            random.integers(0, N_CODES, n_rows),
            random.integers(0, 50, n_rows),
            strict=True,
        )
    ]


def test_pieces_change_nothing(monkeypatch):
    """Memory is bounded by processing pairs and cells in pieces; the result is that of one piece."""
    lists = lists_of(random_rows(60))
    arguments = (lists.spans, Y, 5)
    whole = informative_pairs(*arguments, min_patients=1)
    first, then = every_pair()
    monkeypatch.setattr(pairs_module, "_PAIRS_AT_ONCE", 3)
    monkeypatch.setattr(durations_module, "_CELLS_AT_ONCE", 4)

    in_pieces = informative_pairs(*arguments, min_patients=1)
    pieces = list(durations_in_pieces(lists, first, then))

    for name in ("first", "then", "n_patients", "information"):
        assert getattr(in_pieces, name).tolist() == getattr(whole, name).tolist()
    assert len(whole) == 5
    joined = np.concatenate([piece.total for _, piece in pieces])
    assert joined.tolist() == durations(lists, first, then).total.tolist()
    assert [span.start for span, _ in pieces][1:] == [span.stop for span, _ in pieces][:-1]
    assert len(pieces) > 1


def test_pairs_start_and_end_with_the_codes_that_are_asked_for():
    """Filters do not change the order and the scores of the remaining pairs."""
    spans = lists_of(random_rows(60)).spans
    starts, ends = np.array([True, False, False, True]), np.array([False, True, True, True])
    every = informative_pairs(spans, Y, 100, min_patients=2)
    some = informative_pairs(spans, Y, 100, min_patients=2, starts=starts, ends=ends)

    kept = starts[every.first] & ends[every.then]
    for name in ("first", "then", "n_patients", "information"):
        assert getattr(some, name).tolist() == getattr(every, name)[kept].tolist()
    assert 0 < len(some) < len(every)


def test_significance_is_the_g_test_of_order_and_outcome_among_samples_with_both_codes():
    """The statistic equals scipy's on the 2 × 2 table of these samples, and the bound is Bonferroni's over all pairs that pass the screen."""
    random = np.random.default_rng(5)
    n = 3_000
    days = random.integers(0, 50, (n, 2))
    in_order = days[:, 0] < days[:, 1]
    y = (random.random(n) < np.where(in_order, 0.32, 0.27)).astype(np.uint8)
    samples = np.repeat(np.arange(n), 2)
    columns = (samples, np.tile([0, 1], n), days.ravel())
    lists = lists_of(zip(*(column.tolist() for column in columns), strict=True), n_samples=n, n_codes=2)
    found = informative_pairs(lists.spans, y, 5, min_patients=1)
    table = [[np.sum((in_order == order) & (y == label)) for label in (0, 1)] for order in (0, 1)]
    expected = scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")

    at = [(int(a), int(b)) for a, b in zip(found.first, found.then, strict=True)].index((0, 1))
    assert 2 * n * found.information[at] == pytest.approx(expected.statistic, rel=1e-6)
    assert found.n_screened == 2  # 0 → 1 and 1 → 0; no code recurs
    for n_tests in (1, 3, 10, 30, 100, 300):
        (is_rare,) = is_significant(found.information[[at]], n_units=n, n_tests=n_tests)
        assert is_rare == (expected.pvalue * n_tests < 0.05)
    assert 0.05 / 300 < expected.pvalue < 0.05
