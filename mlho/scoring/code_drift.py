"""Codes of the events that are new or have vanished since training, including codes that the model does not use. Pure."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.events.code_patterns import code_filter
from mlho.errors import listed
from mlho.model.parts import BundleFeature, TrainingSamples
from mlho.printable import cut
from mlho.report.monitoring import CodeDrift, CodeShift
from mlho.spec.features import Features

#: Minimum number of samples with a new code, or expected with a vanished one. If 30 are expected and none is found, chance is ruled out (e⁻³⁰).
#: The samples of a patient are alike: where patients have several, the numbers are scaled to one for each patient.
MIN_SAMPLES: Final = 30
#: Share of the samples at which a new or a vanished code gives a warning: rarer codes come and go with each edition of a code system.
COMMON: Final = 0.01
_Z: Final = 3.89  # two-sided, one false finding in 10,000 codes
_N_LISTED: Final = 20
_N_NAMED: Final = 5


def split_codes(
    training: TrainingSamples | None, samples_by_code: Mapping[str, int]
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Return the samples of each code that the vocabulary lists, in its order, and of all other codes that training used.

    Examples
    --------
    >>> from mlho.model.parts import Vocabulary
    >>> codes = Vocabulary(floor=0.01, shares={"A": 0.2, "B": 0.1}, exclude=("X*",))
    >>> training = TrainingSamples(without_events=0.0, alert_rates={}, codes=codes)
    >>> listed, others = split_codes(training, {"B": 7, "C": 3, "X1": 9})
    >>> listed.tolist(), others
    ([0, 7], {'C': 3})
    """
    if training is None or training.codes is None:
        return np.empty(0, np.int64), {}
    known = training.codes
    is_excluded = code_filter(Features(include=known.include, exclude=known.exclude))
    in_order = np.array([samples_by_code.get(code, 0) for code in known.shares], np.int64)
    others = {
        code: n for code, n in samples_by_code.items() if code not in known.shares and not is_excluded(code)
    }
    return in_order, others


def find_code_drift(
    training: TrainingSamples | None,
    listed: NDArray[np.int64],
    others: Mapping[str, int],
    n: int,
    *,
    n_patients: int,
) -> CodeDrift:
    """Compare the codes of the events with those of training.

    Parameters
    ----------
    listed : int64, shape (n_codes,)
        Samples with each code of its vocabulary.
    others : mapping of code to int
        Samples with each other code, of ``n``, which belong to ``n_patients``.
    """
    if training is None or training.codes is None:
        return CodeDrift(reason="the bundle does not have the codes of training")
    known = training.codes
    shares = list(known.shares.items())
    vanished = [
        CodeShift(code=code, training=p, now=0.0)
        for (code, p), count in zip(shares, listed.tolist(), strict=True)
        if count == 0 and p * n_patients >= MIN_SAMPLES
    ]
    new = [
        CodeShift(code=code, training=known.floor, now=round(count / n, 4))
        for code, count in others.items()
        if _is_new(count / n, n_patients, known.floor)
    ]
    vanished.sort(key=lambda shift: (-shift.training, shift.code))
    new.sort(key=lambda shift: (-shift.now, shift.code))
    return CodeDrift(
        n_compared=len(shares),
        n_new=len(new),
        new=new[:_N_LISTED],
        n_vanished=len(vanished),
        vanished=vanished[:_N_LISTED],
    )


def _is_new(share: float, n: int, floor: float) -> bool:
    if round(share * n, 6) < MIN_SAMPLES:
        return False
    error = math.sqrt(max(floor * (1 - floor), 0.25 / n) / n)
    return share > 2 * floor and share - floor > _Z * error


def descriptions_of(features: Iterable[BundleFeature]) -> dict[str, str]:
    """Return the descriptions of the codes that a bundle uses, as far as it has them."""
    return {
        feature.code: feature.description
        for feature in features
        if feature.description and feature.then is None
    }


def code_warnings(found: CodeDrift, descriptions: Mapping[str, str] | None = None) -> list[str]:
    """Return warnings about new and vanished codes that are, or were, common.

    Examples
    --------
    >>> code_warnings(CodeDrift(n_compared=9, n_new=1, new=[CodeShift(code="U07.1", training=0.001, now=0.2)]))
    ['Codes that were absent or rare in training: U07.1 (20.0 % of the samples). The model ignores them. Check whether they replace other codes; if so, map them to the codes of training, or retrain.']
    """
    known = descriptions or {}
    return [
        *_warning(
            [
                f"{_named(shift.code, known)} ({100 * shift.now:.1f} % of the samples)"
                for shift in found.new
                if shift.now >= COMMON
            ],
            "Codes that were absent or rare in training",
            "The model ignores them. Check whether they replace other codes; if so, map them to the codes of training, or retrain.",
        ),
        *_warning(
            [
                f"{_named(shift.code, known)} ({100 * shift.training:.1f} % of the training samples)"
                for shift in found.vanished
                if shift.training >= COMMON
            ],
            "Codes of training that are absent from all samples",
            "Check the source of the events and its code systems.",
        ),
    ]


def _named(code: str, descriptions: Mapping[str, str]) -> str:
    return cut(f"{code} {descriptions[code]}" if code in descriptions else code)


def _warning(named: list[str], said: str, remedy: str) -> Iterator[str]:
    if named:
        # Descriptions contain commas.
        yield f"{said}: {listed(named, _N_NAMED, '; ')}. {remedy}"
