"""Comparison of the consensus of a run (``result.json``) with the planted effects. Needs neither numpy nor pyarrow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlho.synthetic.truth import CausalCode, Truth

# An effect this strong must be found in 10,000 patients, a tenth of them with the outcome.
STRONG_ODDS_RATIO: Final = 2.2


@dataclass(frozen=True)
class Verdict:
    """The planted effects that a run found and missed."""

    expected: tuple[str, ...]
    """Causal codes that must be found: see :func:`is_expected`."""
    missed: tuple[str, ...]
    """Expected codes that are not in the consensus."""
    others: tuple[str, ...]
    """Other codes of the consensus with a planted role: weaker causes, proxies, clusters, ordered pairs, recoded."""
    leaks: tuple[str, ...]
    """The leak code and the outcome code, if in the consensus. Both are recorded after the index date, so neither may be there."""
    noise: tuple[str, ...]
    """Codes of the consensus with the role ``noise``."""

    @property
    def words(self) -> str:
        """Return the verdict in one line."""
        n_back = len(self.expected) - len(self.missed)
        return (
            f"planted effects of {STRONG_ODDS_RATIO:g} or more that were found: {n_back} of {len(self.expected)}; "
            f"noise codes in the consensus: {len(self.noise)}"
        )


def is_expected(causal: CausalCode) -> bool:
    """Return whether a run must find a causal code: a strong, harmful effect that does not vanish."""
    return causal.odds_ratio >= STRONG_ODDS_RATIO and causal.vanishes_from is None


def judge(truth: Truth, result: Mapping[str, Any]) -> Verdict:
    """Compare the consensus of a run with the planted effects."""
    consensus = {
        feature["code"]
        for feature in result["features"]
        if feature["kind"] == "feature" and feature["in_consensus"]
    }
    roles = {code: truth.role_of(code) for code in sorted(consensus)}
    expected = tuple(causal.code for causal in truth.causal if is_expected(causal))
    return Verdict(
        expected=expected,
        missed=tuple(code for code in expected if code not in consensus),
        others=tuple(
            code
            for code, role in roles.items()
            if role not in ("noise", "leak", "outcome") and code not in expected
        ),
        leaks=tuple(code for code, role in roles.items() if role in ("leak", "outcome")),
        noise=tuple(code for code, role in roles.items() if role == "noise"),
    )
