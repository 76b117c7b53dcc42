"""Cost of a run: estimated seconds on one core and bytes in the store, from the specification and the row counts alone.

Pure arithmetic, so that a plan that depends on it is the same on every machine. The constants are CPU seconds
measured on 300 count features of ``uci_diabetes130`` with 8 % of the cells stored. Expect a factor of two in
either direction.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mlho.grids import GRIDS, Setting, settings_from
from mlho.spec.features import RECENCY
from mlho.spec.training import Candidate, TrainingSpec
from mlho.steps.learn.held_out import held_out_together

# Per sample, independent of the specification: reading cells, predicting, computing metrics.
_EACH: Final = 3e-6
# Per sample and pick of the ranking: counting against the remaining columns.
_PICK: Final = 5e-8
# Per sample and feature, and per ...
_STEP: Final = 1.1e-10  # step of glmboost
_TREE_LEVEL: Final = 1.5e-10  # level of a tree
_PENALTY: Final = 1e-7  # penalty of the elastic net
_BAG: Final = 1.5e-6  # bag of the EBM, which stops early, before a thousand rounds
_EBM_ROUNDS: Final = 1_000
# Selection with sequences, per training sample: a pair of codes that the sample has, a candidate pair, a candidate in a pick of
# the ranking, and a duration of a candidate. CPU seconds of 3,000 to 12,000 samples with 25 to 200 events of 300 or 600 codes,
# if a sample has ``_CELLS_A_ROW`` codes per event.
_PAIR: Final = 2e-8
_CANDIDATE: Final = 4e-9
_CANDIDATE_PICK: Final = 4.3e-11
_DURATION: Final = 1e-7
_BESIDE_CHANCE: Final = 3  # selections of an iteration: by the outcome, of shadows, and by permuted labels
# Fixed costs, independent of the number of samples: per level of a tree, and per feature under a weak penalty,
# which needs many rounds.
_LEVEL_SECONDS: Final = 1e-3
_WEAK_SECONDS: Final = 1e-2
_WEAK: Final = 0.05  # inverse penalty c from which a penalty counts as weak
# Measured on two shared cores. The estimate is approximate; the progress bar is more precise after a minute.
_READ_ROWS_A_SECOND: Final = 600_000
_PACKED_ROWS_A_SECOND: Final = 3_000_000
STAGE_SECONDS: Final = 1.0  # of any other stage
# Bytes: of an encoded row (patient and code; time; value), of a packed cell, of a number, of a day, of the records of an iteration, and of
# the bundle and the report.
_ROW, _TIME, _VALUE, _CELL, _NUMBER, _DAY = 6, 8, 8, 8, 8, 4
_ITERATION_BYTES: Final = 60_000
_RESULT_BYTES: Final = 2_500_000


# Memory of a worker, measured on 250,000 patients with 52 M rows: libraries and buffers; ids, splits and rings of a sample; cells
# per row; a cell of levels with its temporary copies; a cell of the matrices of linear models and of trees with their copies.
_PROCESS_BYTES: Final = 300e6
_SAMPLE_BYTES: Final = 200
_CELLS_A_ROW: Final = 0.45
_LEVEL_CELL: Final = 24
_SPAN_CELL: Final = 20  # by code and by sample
_FITTED_CELL: Final = 60
_MEAN_OF_LEAST: Final = 6
_LEAST_PREVALENCE: Final = 0.001
# Bytes of a row in a file: less than most have, so that rows are not underestimated by much.
_PARQUET_ROW, _PACKED_ROW, _TEXT_ROW = 8, 10, 40
_EVENTS_A_PATIENT: Final = 100
_PACKED: Final = (".gz", ".bz2", ".zst", ".xz")


def fold_seconds(spec: TrainingSpec, n_train: int) -> float:
    """Return the seconds to select features and fit every setting of every candidate on ``n_train`` samples."""
    n_features = spec.selection.n_features + len(spec.features.demographics)
    picks = spec.selection.n_features * len(spec.features.aggregates) if spec.selection.scope == "fold" else 0
    fits = sum(_fits(candidate, n_features, n_train) for candidate in spec.fitted)
    return n_train * (_EACH + _PICK * picks) + fits


def final_fold_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of one fold of the final model, the longest fold of a run: every sample trains
    or is held out.
    """
    folds = spec.validation.folds
    return fold_seconds(spec, n_samples * (folds - 1) // folds)


def learning_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of all iterations: their folds, and the fits of the chosen settings, which cost at
    most one fold.
    """
    validation = spec.validation
    n_train = round(n_samples * (1 - validation.test_fraction))
    of_folds = validation.folds * fold_seconds(spec, n_train * (validation.folds - 1) // validation.folds)
    return validation.iterations * (of_folds + fold_seconds(spec, n_train))


def model_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of the final model: its folds and its fit."""
    return spec.validation.folds * final_fold_seconds(spec, n_samples) + fold_seconds(spec, n_samples)


def consensus_seconds(spec: TrainingSpec, n_samples: int) -> float:
    """Return the seconds of a consensus model: for each set of held-out folds, one subsample per iteration,
    and the fits.
    """
    validation = spec.validation
    n_train = round(n_samples * (1 - validation.test_fraction))
    subsample = fold_seconds(spec.model_copy(update={"candidates": (spec.consensus_candidate,)}), n_train)
    judging = validation.iterations * subsample + fold_seconds(spec, n_samples)
    return len(held_out_together(validation)) * judging


def stage_seconds(spec: TrainingSpec, *, n_samples: int, n_events: int, is_by_fold: bool) -> dict[str, float]:
    """Return the seconds on one core of each stage that takes more than ``STAGE_SECONDS``."""
    is_consensus = spec.final.features == "consensus"
    model = consensus_seconds(spec, n_samples) if is_consensus else model_seconds(spec, n_samples)
    is_beside = is_by_fold or is_consensus
    of_learning, of_model = _sequence_seconds(spec, n_samples=n_samples, n_events=n_events)
    learning, model = learning_seconds(spec, n_samples) + of_learning, model + of_model
    return {
        "encode": n_events / _READ_ROWS_A_SECOND,
        "pack": n_events / _PACKED_ROWS_A_SECOND,
        # Folds of the final model that are tasks run in parallel with those of the iterations.
        "learn": learning + (model if is_beside else 0.0) + STAGE_SECONDS,
        "model": (0.0 if is_beside else model) + STAGE_SECONDS,
    }


def stored_bytes(spec: TrainingSpec, *, n_samples: int, n_events: int, is_by_fold: bool) -> float:
    """Return the approximate maximum number of bytes that a run stores: every row is used, each in a separate cell."""
    numbers = spec.features.numbers
    value = _VALUE if set(numbers) - {RECENCY} else 0
    encoded = n_events * (_ROW + _TIME + value)
    packed = n_events * (_CELL + _VALUE * len(numbers)) * len(spec.windows)
    if spec.features.sequences:
        packed += n_events * (3 if spec.features.sequences.durations else 2) * _DAY
    scores = _NUMBER * (1 + len(spec.candidates)) * n_samples * spec.validation.test_fraction
    if is_by_fold:
        n_settings = sum(
            len(settings_from(candidate.grid, GRIDS[candidate.classifier], candidate.classifier))
            for candidate in spec.fitted
        )
        scores += _NUMBER * (1 + n_settings) * n_samples
    return encoded + packed + spec.validation.iterations * (scores + _ITERATION_BYTES) + _RESULT_BYTES


def worker_bytes(spec: TrainingSpec, *, n_samples: int, n_events: int) -> float:
    """Return the approximate memory of a worker process for the largest learning task, without the mapped matrix.

    The ranking holds each screened column and its shadow: as bits if presence is the only aggregate, otherwise as
    cells. Fits hold the selected columns. The number of screened columns is a guess: their mean prevalence is about
    six times the lowest one.
    """
    n_train = n_samples * (1 - spec.validation.test_fraction)
    n_cells = n_events * _CELLS_A_ROW * len(spec.windows)
    least = max(spec.selection.min_prevalence, _LEAST_PREVALENCE)
    durations = (spec.features.sequences and spec.features.sequences.durations) or ()
    is_presence = tuple(spec.features.aggregates) == ("presence",) and not durations
    n_columns = n_cells / (_MEAN_OF_LEAST * least * n_samples)
    ranked = n_columns * n_train / 8 if is_presence else n_cells * _LEVEL_CELL * len(spec.features.aggregates)
    if spec.features.sequences:
        ranked += spec.features.sequences.max_candidates * n_train / 8
        of_durations = _MEAN_OF_LEAST * least * n_train * _LEVEL_CELL * len(durations)
        ranked += spec.features.sequences.max_candidates * of_durations
        ranked += n_events * _CELLS_A_ROW * _SPAN_CELL  # spans by code and by sample
    n_features = min(n_columns, spec.selection.n_features) + len(spec.features.demographics)
    fitted = n_features * n_train * _MEAN_OF_LEAST * least * _FITTED_CELL
    return _PROCESS_BYTES + n_samples * _SAMPLE_BYTES + 2 * ranked + fitted


def guess_rows(files: Iterable[tuple[str, int]]) -> int:
    """Return the approximate maximum number of rows of the files, from their names and sizes.

    Examples
    --------
    >>> guess_rows([("events/part-0.parquet", 8_000), ("more.csv.gz", 10_000)])
    2000
    """
    return sum(
        size // (_PARQUET_ROW if "parq" in key else _PACKED_ROW if key.endswith(_PACKED) else _TEXT_ROW)
        for key, size in files
    )


def guess_samples(n_events: int) -> int:
    """Estimate the number of samples that cohort rules make, before they are applied: one patient per hundred events."""
    return n_events // _EVENTS_A_PATIENT


def _sequence_seconds(spec: TrainingSpec, *, n_samples: int, n_events: int) -> tuple[float, float]:
    """Return the additional seconds of sequences in all iterations, and in the final model."""
    asked, validation = spec.features.sequences, spec.validation
    if asked is None:
        return 0.0, 0.0
    n_codes = n_events * _CELLS_A_ROW / max(1, n_samples)
    of_ranking = _CANDIDATE + _CANDIDATE_PICK * spec.selection.n_features
    of_candidate = of_ranking + _DURATION * len(asked.durations or ())
    a_sample = n_codes**2 * _PAIR + asked.max_candidates * of_candidate
    n_train = n_samples * (1 - validation.test_fraction)
    of_folds = validation.folds - 1 if spec.selection.scope == "fold" else 0
    n_learning = validation.iterations * n_train * (_BESIDE_CHANCE + of_folds)
    n_model: float = n_samples * (1 + of_folds)
    if spec.final.features == "consensus":
        n_model = len(held_out_together(validation)) * (validation.iterations * n_train + n_samples)
    return n_learning * a_sample, n_model * a_sample


def _fits(candidate: Candidate, n_features: int, n_train: int) -> float:
    """Return the seconds of fitting a candidate's grid."""
    name, n_cells = candidate.classifier, n_features * n_train
    settings = settings_from(candidate.grid, GRIDS[name], name)
    if name in ("elasticnet", "cox", "discreteTime"):
        n_weak = sum(setting["c"] >= _WEAK for setting in settings)
        return n_cells * _PENALTY * len(settings) + n_features * _WEAK_SECONDS * n_weak
    if name == "ebm":
        rounds = sum(setting["nBags"] * min(setting["maxRounds"], _EBM_ROUNDS) for setting in settings)
        return n_cells * _BAG * rounds / _EBM_ROUNDS
    if name == "glmboost":
        return n_cells * _STEP * sum(_longest(settings, "nSteps").values())
    longest = _longest(settings, "nRounds")
    n_levels = sum(dict(rest)["maxDepth"] * rounds for rest, rounds in longest.items())
    return n_levels * (n_cells * _TREE_LEVEL + _LEVEL_SECONDS)


def _longest(settings: list[Setting], length: str) -> Mapping[tuple[tuple[str, float], ...], float]:
    """Return the longest fit for each combination of the other parameters. It contains the shorter fits as prefixes."""
    longest: dict[tuple[tuple[str, float], ...], float] = {}
    for setting in settings:
        rest = tuple((name, value) for name, value in setting.items() if name != length)
        longest[rest] = max(longest.get(rest, 0), setting[length])
    return longest
