"""Sequences in a run: candidates depend on training samples only, columns equal the events, and scoring agrees with training."""

import collections
import copy
import functools
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mlho.encoding.cohort.cohort
from mlho.arrays import write_arrays
from mlho.encoding.cohort.define import define_cohort
from mlho.encoding.events.blocks import pack_block
from mlho.encoding.events.concepts import Concepts
from mlho.encoding.events.dictionary import merge_dictionary
from mlho.encoding.events.partition import encode_partition
from mlho.encoding.events.sequences import SequenceMatrix, open_matrix
from mlho.errors import ArtifactDamaged
from mlho.method.selection.features import DURATIONS
from mlho.model.bundle import load_bundle
from mlho.model.scoring import encode_events
from mlho.sources import list_inputs, source_named
from mlho.sources.events import iter_events
from mlho.spec.training import RunSpec
from mlho.store.memory import MemoryStore
from mlho.training.iterations.design import learn_design
from mlho.training.iterations.permutation import permuted_labels, shadow_cells
from mlho.training.iterations.problem import Problem
from mlho.training.iterations.selection import select
from mlho.training.iterations.sequences import candidate_sequences, pair_patients, shadow_sequences
from tests.builders import make_document, run_inline

FIRST, THEN = "DX:1", "DX:2"
N_PATIENTS = 400
GAP_DAYS, WINDOW_DAYS, MARGIN = 3, 700, 2
CHANGES = {
    "cohort.lookBackDays": None,
    "cohort.gapDays": GAP_DAYS,
    "features": {
        "windows": [100, WINDOW_DAYS],
        "aggregates": ["presence", "count"],
        "sequences": {"maxCandidates": 12, "coOccurrenceDays": MARGIN},
    },
    "selection.nFeatures": 15,
    "selection.minPrevalence": 0.02,
    "data.tables": {"events": "events.csv", "labels": "labels.csv"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two codes whose order decides the outcome, among codes without effect; some patients have two samples."""
    path = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(11)
    rows, labels = [], []
    for patient in range(N_PATIENTS):
        days = random.integers(0, 1000, 2)
        has_both = random.random() < 0.7
        if has_both:
            rows += [(patient, FIRST, days[0]), (patient, THEN, days[1])]
        for code in range(3, 9):
            rows += [(patient, f"DX:{code}", day) for day in random.integers(0, 1000, random.integers(0, 3))]
        in_order = has_both and days[0] < days[1]
        for index in [1000] if patient % 4 else [800, 1000]:
            labels.append((patient, index, int(random.random() < (0.75 if in_order else 0.2))))
    write_days(path, rows, labels)
    return path


def write_days(path, rows, labels):
    """Write events (patient, code, day) and labels (patient, day, outcome); days count from 2018-01-01."""
    day = np.datetime64("2018-01-01")
    events = pd.DataFrame(rows, columns=["patient_id", "code", "time"])
    events["time"] = day + events["time"].to_numpy().astype("timedelta64[D]")
    table = pd.DataFrame(labels, columns=["patient_id", "index_date", "label"])
    table["index_date"] = day + table["index_date"].to_numpy().astype("timedelta64[D]")
    events.to_csv(path / "events.csv", index=False)
    table.to_csv(path / "labels.csv", index=False)


def spec_of(folder, changes=None):
    """Return the specification of the planted data."""
    document = make_document({**copy.deepcopy(CHANGES), "features.demographics": None, **(changes or {})})
    document["spec"]["data"]["uri"] = str(folder)
    return RunSpec.model_validate(document).spec


@pytest.fixture(scope="module")
def small_blocks():
    """Set blocks of 128 patients, so that a few hundred patients have several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlho.encoding.cohort.cohort, "BLOCK_PATIENTS", 128)
        for module in ("segments", "partition", "blocks"):
            patch.setattr(f"mlho.encoding.events.{module}.BLOCK_PATIENTS", 128, raising=False)
        yield


@pytest.fixture(scope="module")
def problem(folder, small_blocks, tmp_path_factory):
    """Return the packed problem, in several blocks."""
    found = _pack(spec_of(folder), folder, tmp_path_factory.mktemp("packed"))
    assert found.cohort.n_blocks > 1
    return found


def _pack(spec, folder, out):
    cohort = define_cohort(spec, folder).cohort
    (file,) = list_inputs(folder, "events.csv")
    batches = iter_events(source_named("native"), file, values=False)
    part = encode_partition(spec, cohort, batches, out / "segments")
    dictionary, ids = merge_dictionary([part])
    paths = [out / f"block-{number}" for number in range(cohort.n_blocks)]
    for number, path in enumerate(paths):
        pack_block(spec, cohort, number, [(out / "segments", ids[0])], dictionary, path)
    matrix = open_matrix(spec, paths, cohort, n_codes=len(dictionary))
    return Problem(
        spec, cohort, matrix, dictionary.codes, Concepts({FIRST: "diabetes", THEN: "kidney disease"})
    )


def listed(folder, problem, pair, last="max", more_than=MARGIN):
    """Return the samples with a first event and a second one more than the margin later, both in the window; this is the oracle."""
    return [
        sample
        for sample, (first, then) in enumerate(times_in_window(folder, problem, pair))
        if first and then and ({"min": min, "max": max}[last](then) - min(first)).days > more_than
    ]


def times_in_window(folder, problem, pair):
    """Yield the times of both codes in the window of each sample."""
    times = times_of_patients(folder)
    for patient, index in zip(
        problem.cohort.patient_of, problem.cohort.index_us.view("datetime64[us]"), strict=True
    ):
        index = pd.Timestamp(index)
        upper, lower = (index - pd.Timedelta(days=days) for days in (GAP_DAYS, WINDOW_DAYS))
        codes = times[problem.cohort.patient_ids[patient]]
        yield tuple([time for time in codes.get(code, ()) if lower < time <= upper] for code in pair)


@functools.cache
def times_of_patients(folder):
    """Return the times of the events of each patient and code."""
    events = pd.read_csv(folder / "events.csv", dtype={"patient_id": str}, parse_dates=["time"])
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for patient, code, time in zip(events.patient_id, events.code, events.time, strict=True):
        found[patient][code].append(time)
    return found


def pair_features(problem, pairs):
    """Return the features of pairs of codes."""
    numbers = np.array([[problem.codes.index(code) for code in pair] for pair in pairs])
    return problem.presence_of(problem.matrix.pair_columns(numbers[:, 0], numbers[:, 1]))


def all_pairs(problem):
    """Return the columns of all pairs and their bands or durations."""
    n_parts = 1 + problem.matrix.n_bands + len(problem.matrix.durations)
    return problem.n_columns + np.arange(n_parts * len(problem.codes) ** 2)


def everyone(problem):
    return np.ones(problem.cohort.n_samples, np.bool_)


def test_the_columns_of_pairs_equal_the_events(problem, folder):
    """Index date, gap and the longest window bound both events; columns of codes and of pairs may be read together in any order."""
    pairs = [(FIRST, THEN), (THEN, FIRST), ("DX:3", "DX:3")]
    features = pair_features(problem, pairs)
    columns = np.insert(problem.column_of(features), 1, 3)
    block = problem.matrix.column_block(columns, numbers=[None] * len(columns))
    code = problem.matrix.column_block(np.array([3]), numbers=[None])

    found = [block.indices[block.indptr[k] : block.indptr[k + 1]].tolist() for k in range(4)]
    assert found[1] == code.indices.tolist()
    assert [found[0], *found[2:]] == [listed(folder, problem, pair) for pair in pairs]
    assert block.count[block.indptr[1] : block.indptr[2]].tolist() == code.count.tolist()
    patients = [
        len({int(problem.cohort.patient_of[sample]) for sample in samples})
        for samples in (found[0], found[3])
    ]
    assert pair_patients(problem, columns[[0, 3]]).tolist() == patients


def test_a_mask_renumbers_the_samples_of_pairs(problem):
    """A mask renumbers the samples of pairs as it does for columns of codes."""
    mask = np.arange(problem.cohort.n_samples) % 3 != 0
    columns = problem.column_of(pair_features(problem, [(FIRST, THEN), ("DX:4", "DX:5")]))
    every, some = problem.matrix.column_samples(columns), problem.matrix.column_samples(columns, mask)

    numbers = np.flatnonzero(mask)
    for k in range(2):
        cells = every.indices[every.indptr[k] : every.indptr[k + 1]]
        assert (
            numbers[some.indices[some.indptr[k] : some.indptr[k + 1]]].tolist() == cells[mask[cells]].tolist()
        )


def test_the_planted_order_is_the_first_candidate_and_is_selected(problem):
    """Its codes alone have little information, because the outcome depends on their order."""
    (planted,) = pair_features(problem, [(FIRST, THEN)])
    selection = select(problem, everyone(problem), beside_chance=True)

    assert planted in selection.features.tolist()
    assert problem.name_of(int(planted)).id == f"{FIRST}→{THEN}|{WINDOW_DAYS}d|presence"
    assert problem.name_of(int(planted)).words == (
        f"diabetes, then kidney disease ({FIRST}→{THEN}): recorded in this order, more than 2 days apart, in the 700 days "
        "before the index date"
    )


def test_a_significant_order_is_selected_before_the_codes(problem):
    """With room for two features, one is the planted order, with its information given both codes. On permuted labels no order is significant."""
    (planted,) = pair_features(problem, [(FIRST, THEN)])
    few = problem.spec.selection.model_copy(update={"n_features": 2})
    narrow = replace(problem, spec=problem.spec.model_copy(update={"selection": few}))
    screened = problem.presence_of(np.arange(problem.n_columns))

    selection = select(narrow, everyone(problem), beside_chance=True)
    found = candidate_sequences(narrow, everyone(problem), screened, problem.y)

    assert selection.features[0] == planted
    assert selection.scores[0] == found.information[0]
    assert problem.pair_of(int(selection.features[1]) // len(problem.aggregates)) != (FIRST, THEN)
    assert found.significant.tolist() == [planted]
    assert (
        candidate_sequences(narrow, everyone(problem), screened, permuted_labels(problem)).significant.size
        == 0
    )


def test_the_order_of_first_events_equals_the_events(folder, tmp_path):
    """With ``order: first``, only first events count: no pair has both orders, and no code precedes itself."""
    problem = _pack(spec_of(folder, {"features.sequences.order": "first"}), folder, tmp_path)
    pairs = [(FIRST, THEN), ("DX:3", "DX:4"), ("DX:4", "DX:3"), ("DX:3", "DX:3")]
    block = problem.matrix.column_samples(problem.column_of(pair_features(problem, pairs)))

    found = [block.indices[block.indptr[k] : block.indptr[k + 1]].tolist() for k in range(4)]
    assert found == [listed(folder, problem, pair, last="min") for pair in pairs]
    assert not set(found[1]) & set(found[2])
    assert found[1]
    assert not found[3]
    name = problem.name_of(int(pair_features(problem, pairs)[0]))
    assert name.id == f"{FIRST}→{THEN}|{WINDOW_DAYS}d|first"
    assert "first recorded in this order" in name.words


def test_test_samples_have_no_influence_on_the_candidates(problem):
    """Candidates are chosen on the training part, at most the requested number, and only from pairs of screened codes."""
    train = np.arange(problem.cohort.n_samples) % 2 == 0
    screened = problem.presence_of(np.arange(problem.n_columns))
    found = candidate_sequences(problem, train, screened, problem.y[train]).features

    assert 0 < found.size <= 12
    assert found.tolist() == sorted(found.tolist())
    assert (problem.column_of(found) >= problem.n_columns).all()
    few = screened[problem.column_of(screened) // problem.n_windows < 2]
    codes = {
        code
        for feature in candidate_sequences(problem, train, few, problem.y[train]).features.tolist()
        for code in problem.pair_of(feature // 2)
    }
    assert codes <= set(problem.codes[:2])


def test_shadow_candidates_are_as_informative_on_permuted_rows(problem):
    """A shadow is chosen like a candidate, on permuted rows, and has as many cells as its pair."""
    train = everyone(problem)
    screened = problem.presence_of(np.arange(problem.n_columns))
    features = shadow_sequences(problem, train, screened).features
    cells = shadow_cells(problem, features, train)

    block = problem.matrix.column_samples(problem.column_of(features))
    assert [len(cell.samples) for cell in cells] == np.diff(block.indptr).tolist()
    chosen = candidate_sequences(problem, train, screened, problem.y).features
    assert features.tolist() != chosen.tolist()


@pytest.mark.parametrize(
    ("changes", "names", "words"),
    [
        ({}, (), "no days"),
        ({"features.sequences.durations": ["min"]}, ("first_day", "last_day"), "not all days"),
    ],
)
def test_blocks_without_days_are_refused(problem, folder, tmp_path, changes, names, words):
    """Blocks packed without sequences, or without durations, are not a valid input of a run that uses them."""
    spec = spec_of(folder, changes)
    assert isinstance(problem.matrix, SequenceMatrix)
    cohort = problem.cohort
    path = tmp_path / "block"
    n_cells = problem.matrix.n_columns + 1
    write_arrays(
        path,
        {
            "indptr": np.zeros(n_cells, np.int64),
            "indices": np.empty(0, np.int32),
            "count": np.empty(0, np.int32),
            **{name: np.empty(0, np.int32) for name in names},
        },
    )

    with pytest.raises(ArtifactDamaged, match=words):
        open_matrix(spec, [path], cohort, n_codes=len(problem.codes))


@pytest.mark.parametrize(
    ("order", "bands", "durations"),
    [("any", None, None), ("first", [30, 365], None), ("any", None, ["min", "mean", "max"])],
)
def test_scoring_computes_the_columns_of_training(folder, tmp_path, order, bands, durations):
    """The bundle contains the sequence, and encodes new events to the same matrix as training, cell by cell."""
    changes = {
        "features.sequences.order": order,
        "features.sequences.bands": bands,
        "features.sequences.durations": durations,
    }
    problem = _pack(spec_of(folder, changes), folder, tmp_path)
    home = run_inline(
        folder, MemoryStore(), {**copy.deepcopy(CHANGES), "features.demographics": None, **changes}
    )
    for name, content in home.bundle().items():
        target = tmp_path / "bundle" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    bundle = load_bundle(tmp_path / "bundle")
    labels = pd.read_csv(folder / "labels.csv", dtype={"patient_id": str}, parse_dates=["index_date"])
    events = pd.read_csv(folder / "events.csv", dtype={"patient_id": str}, parse_dates=["time"])

    served = encode_events(bundle, events, labels[["patient_id", "index_date"]], None)

    every = np.concatenate([np.arange(2 * problem.n_columns), problem.presence_of(all_pairs(problem))])
    numbers = {problem.name_of(feature).id: feature for feature in every.tolist()}
    features = np.array([numbers[name] for name in bundle.columns])
    trained = learn_design(problem, features, everyone(problem)).matrix(problem, everyone(problem))
    assert any(feature.code == FIRST and feature.then == THEN for feature in bundle.document.features)
    assert bundle.document.scoring.co_occurrence_days == MARGIN
    assert (bundle.document.scoring.sequence_order or "any") == order
    assert any(feature.band for feature in bundle.document.features) == bool(bands)
    assert any(feature.aggregate in DURATIONS for feature in bundle.document.features) == bool(durations)
    for name in ("indptr", "indices", "data"):
        assert getattr(served.design, name).tolist() == getattr(trained, name).tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features.aggregates": ["count"]}, "sequences requires the aggregate presence"),
        (
            {"selection.ranking": "mlho-r", "features.aggregates": ["presence"]},
            "mlho-r does not allow features.sequences",
        ),
    ],
)
def test_an_unsupported_combination_is_refused(changes, words):
    """An unsupported combination is refused by the specification."""
    with pytest.raises(ValueError, match=words):
        RunSpec.model_validate(make_document({"features.sequences": {}, **changes}))


def test_a_disabled_section_asks_for_nothing():
    """The run id is that of a specification without the section."""
    without, disabled = (
        RunSpec.model_validate(make_document(changes))
        for changes in ({}, {"features.sequences": {"enabled": False, "maxCandidates": 7}})
    )

    assert disabled.digest == without.digest


BANDS = (30, 365)


@pytest.fixture(scope="module")
def banded(folder, tmp_path_factory):
    """Return the problem with bands of the days between the first events."""
    changes = {"features.sequences.order": "first", "features.sequences.bands": list(BANDS)}
    return _pack(spec_of(folder, changes), folder, tmp_path_factory.mktemp("banded"))


def test_the_bands_of_a_pair_equal_the_events(banded, folder):
    """Each sample with the pair is in one band: above its lower bound, and at most at its upper bound."""
    first, then = (np.array([banded.codes.index(code)]) for code in (FIRST, THEN))
    columns = np.concatenate([banded.matrix.pair_columns(first, then, part=band) for band in range(4)])
    block = banded.matrix.column_samples(columns)
    found = [block.indices[block.indptr[k] : block.indptr[k + 1]].tolist() for k in range(4)]
    edges = [MARGIN, *BANDS, 10_000]

    assert found[0] == listed(folder, banded, (FIRST, THEN), last="min")
    for band, low, high in zip(found[1:], edges, edges[1:], strict=False):
        within = listed(folder, banded, (FIRST, THEN), last="min", more_than=low)
        beyond = listed(folder, banded, (FIRST, THEN), last="min", more_than=high)
        assert band == sorted(set(within) - set(beyond))
        assert band
    names = [banded.name_of(int(feature)) for feature in banded.presence_of(columns)]
    assert [name.id.rsplit("|", 1)[1] for name in names] == [
        "first",
        "first 3-30d",
        "first 31-365d",
        "first 366d-",
    ]
    assert names[3].recorded == "first recorded in this order, more than 1 year apart"


def test_a_significant_pair_is_selected_with_its_bands(banded):
    """The bands follow their pair, and the significant columns are about half of the selection at most."""
    screened = banded.presence_of(np.arange(banded.n_columns))
    found = candidate_sequences(banded, everyone(banded), screened, banded.y)
    columns = banded.column_of(found.significant)

    assert {banded.pair_of(int(column)) for column in columns[:4]} == {(FIRST, THEN)}
    assert [banded.band_of(int(column)) for column in columns[:4]] == [0, 1, 2, 3]
    assert len(columns) <= banded.spec.selection.n_features / 2 + 3
    assert len(set(found.information[:4].tolist())) == 1


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"bands": [365]}, "bands requires order: first"),
        ({"order": "first", "bands": [365, 30]}, "must be increasing"),
        ({"order": "first", "bands": [30], "coOccurrenceDays": 30}, "above coOccurrenceDays"),
    ],
)
def test_invalid_bands_are_refused(section, words):
    """The days between two codes are only unambiguous for first events."""
    with pytest.raises(ValueError, match=words):
        RunSpec.model_validate(make_document({"features.sequences": section}))


@pytest.fixture(scope="module")
def timed(folder, small_blocks, tmp_path_factory):
    """Return the problem with all durations, presence only, in several blocks."""
    changes = {"features.aggregates": ["presence"], "features.sequences.durations": ["min", "max", "mean"]}
    return _pack(spec_of(folder, changes), folder, tmp_path_factory.mktemp("timed"))


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("pair", [(FIRST, THEN), ("DX:3", "DX:4"), ("DX:5", "DX:5")])
def test_the_durations_of_a_pair_equal_the_events(timed, folder, pair, is_masked):
    """The days are those between all distinct days in the window that are further apart than the margin. A mask renumbers the samples."""
    first, then = (np.array([timed.codes.index(code)]) for code in pair)
    columns = np.concatenate([timed.matrix.pair_columns(first, then, part=part) for part in (3, 0, 2, 1)])
    mask = np.arange(timed.cohort.n_samples) % 3 != 0 if is_masked else everyone(timed)
    block = timed.matrix.column_block(columns, mask, numbers=[None] * len(columns))
    cells = [slice(start, stop) for start, stop in itertools.pairwise(block.indptr.tolist())]
    expected = {sample: days for sample, days in all_days(folder, timed, pair).items() if mask[sample]}

    assert len(expected) > 10
    for cell in cells:
        assert np.flatnonzero(mask)[block.indices[cell]].tolist() == sorted(expected)
    for cell, figure in zip((cells[0], *cells[2:]), (min, np.mean, max), strict=True):
        assert block.number[cell].tolist() == [figure(expected[sample]) for sample in sorted(expected)]
    assert np.isnan(block.number[cells[1]]).all()
    names = [timed.name_of(int(feature)) for feature in timed.presence_of(columns)]
    ids = ["minDays", "presence", "meanDays", "maxDays"]
    assert [described.id for described in names] == [
        f"{pair[0]}→{pair[1]}|{WINDOW_DAYS}d|{name}" for name in ids
    ]


def all_days(folder, problem, pair):
    """Return all days from a day of the first code to a later one of the second in the window, by sample; this is the oracle."""
    found = {}
    for sample, (first, then) in enumerate(times_in_window(folder, problem, pair)):
        days = [(b - a).days for a in set(first) for b in set(then) if (b - a).days > MARGIN]
        if days:
            found[sample] = days
    return found


def test_durations_are_ranked_together_with_the_codes(timed):
    """The durations of every candidate pair are ranked, also if the pair is selected first, and they have descriptions."""
    screened = timed.presence_of(np.arange(timed.n_columns))
    found = candidate_sequences(timed, everyone(timed), screened, timed.y)
    (planted,) = pair_features(timed, [(FIRST, THEN)])
    durations = [feature for feature in found.ranked.tolist() if timed.pair_of(feature) == (FIRST, THEN)]

    assert found.significant[0] == planted
    assert [timed.aggregate_of(feature) for feature in durations] == ["maxDays", "meanDays", "minDays"]
    assert timed.name_of(durations[-1]).words == (
        f"diabetes, then kidney disease ({FIRST}→{THEN}): shortest time from one to the other, in days, more than 2 days "
        "apart, in the 700 days before the index date"
    )
    selection = select(timed, everyone(timed), beside_chance=True)
    assert any(timed.aggregate_of(feature) in DURATIONS for feature in selection.features.tolist())


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"order": "first", "durations": ["min"]}, "durations requires order: any.*use bands"),
        ({"durations": ["min", "min"]}, "must not contain duplicates"),
    ],
)
def test_invalid_durations_are_refused(section, words):
    """Between first events there is only one duration, which bands divide."""
    with pytest.raises(ValueError, match=words):
        RunSpec.model_validate(make_document({"features.sequences": section}))


def test_a_pair_that_is_always_in_order_is_a_candidate_by_its_times(tmp_path):
    """If the second code follows within two months or after a year, and this decides the outcome, the pair is a candidate by its durations.
    The order itself has no information.
    """
    random = np.random.default_rng(5)
    rows, labels = [], []
    for patient in range(400):
        is_soon = bool(random.random() < 0.5)
        gap = int(random.integers(5, 60) if is_soon else random.integers(370, 400))
        rows += [
            (patient, FIRST, 400),
            (patient, THEN, 400 + gap),
            (patient, "DX:3", random.integers(310, 990)),
        ]
        labels.append((patient, 1000, int(random.random() < (0.7 if is_soon else 0.2))))
    write_days(tmp_path, rows, labels)
    changes = {"plain": None, "timed": {"features.sequences.durations": ["min"]}}
    for name in changes:
        (tmp_path / name).mkdir()
    plain, timed = (
        _pack(spec_of(tmp_path, change), tmp_path, tmp_path / name) for name, change in changes.items()
    )
    (planted,) = pair_features(timed, [(FIRST, THEN)])

    for problem in (plain, timed):
        screened = problem.presence_of(np.arange(problem.n_columns))
        found = candidate_sequences(problem, everyone(problem), screened, problem.y)
        assert (planted in found.features.tolist()) == (problem is timed)
    selection = select(timed, everyone(timed))
    names = [timed.name_of(feature).id for feature in selection.features.tolist()]
    assert f"{FIRST}→{THEN}|{WINDOW_DAYS}d|minDays" in names
