"""A code of up to 1,024 characters is shortened in sentences; the subject of a finding is the whole code."""

from types import SimpleNamespace

import pytest

from mlho.encoding.events.units import units_sentence
from mlho.report.checks import Check, Finding, Leakage, Quality
from mlho.report.monitoring import CodeDrift, CodeShift
from mlho.scoring.code_drift import code_warnings
from mlho.scoring.drift import Drift, MissingShift, drift_warnings
from mlho.spec.checks import Leakage as Bounds
from mlho.tables import MAX_CODE_CHARACTERS
from mlho.training.checks.evidence import Evidence
from mlho.training.checks.leakage import _finding, _Suspect, leakage_warnings
from mlho.training.checks.quality import quality_warnings

CODE = ("MEDICATION//" + "x" * MAX_CODE_CHARACTERS)[:MAX_CODE_CHARACTERS]
DESCRIPTION = "A long description " * 50
PROBLEM = SimpleNamespace(
    codes=[CODE],
    n_windows=1,
    window_of=lambda _: 0,
    concepts=SimpleNamespace(descriptions={CODE: DESCRIPTION}),
    spec=SimpleNamespace(features=SimpleNamespace(exclude=None)),
)
SHIFT = CodeShift(code=CODE, training=0.5, now=0.5)


def of_quality():
    evidence = Evidence(problem=PROBLEM, tally=None, ledger=None, plain_ledger={})
    measure = evidence.of_code("copy-forward", 0, 0.9, "its numbers are copies", "Check them.")
    assert measure.subject == CODE
    finding = Finding(
        check="copy-forward", verdict="warning", subject=CODE, words=measure.words, detail="d", remedy="r"
    )
    check = Check(check="copy-forward", title="t", verdict="warning", n_findings=1, note="")
    return quality_warnings(Quality(checks=[check], findings=[finding], series=[]))


def of_leakage():
    finding = _finding(PROBLEM, Bounds(action="warn"), _Suspect("name", 0, False, "it is named so", {}))
    assert finding.subject == CODE
    assert CODE in finding.remedy  # a line to copy
    finding = finding.model_copy(update={"remedy": "Check it."})
    return leakage_warnings(Leakage(checks=[], findings=[finding], never_enter=0))


def of_missing():
    shift = MissingShift(column="c", words=CODE, training=0.1, now=0.9, psi=1.0, is_shifted=True)
    return drift_warnings(Drift(missing=[shift]))


@pytest.mark.parametrize(
    "sentences",
    [
        of_quality,
        of_leakage,
        of_missing,
        lambda: drift_warnings(Drift(vanished=[CODE])),
        lambda: code_warnings(CodeDrift(n_compared=1, new=[SHIFT])),
        lambda: code_warnings(CodeDrift(n_compared=1, vanished=[SHIFT])),
        lambda: [units_sentence({"codes": 1, "rows": 9, "others": 2, "unknown": 0, "first": [CODE]})],
    ],
    ids=["quality", "leakage", "missing", "vanished-feature", "new", "vanished", "units"],
)
def test_a_long_code_is_shortened_in_a_sentence(sentences):
    """The start of the code is shown, and an ellipsis for the rest."""
    (sentence,) = sentences()

    assert CODE[:99] + "…" in sentence
    assert CODE[:100] not in sentence
    assert DESCRIPTION[:100] not in sentence


def test_a_small_share_of_missing_values_is_not_shown_as_none():
    """Training had 0.5 % missing, which the warning shows as the other sentences about drift do."""
    shift = MissingShift(column="c", words="Iron", training=0.005, now=0.2, psi=1.0, is_shifted=True)

    [warning] = drift_warnings(Drift(missing=[shift]))

    assert "Iron (20.0 % of the samples; 0.5 % in training)" in warning
