"""Features whose two odds ratios have opposite directions."""

from mlho.report.result import Confidence, OddsRatio
from mlho.report.words import ratio


def contradiction(confidence: Confidence | None, odds_ratio: OddsRatio | None) -> str | None:
    """Explain that the odds ratios of the iterations and of the consensus model lie on different sides of 1; else None."""
    if confidence is None or odds_ratio is None:
        return None
    mean, consensus = confidence.mean_odds_ratio, odds_ratio.per_unit
    if mean is None or consensus is None or (mean - 1) * (consensus - 1) >= 0:
        return None
    return (
        f"The odds ratio over the iterations ({ratio(mean)}) and that of the consensus model ({ratio(consensus)}) lie on different sides of 1. "
        "The iterations shrink coefficients towards 1 and share an effect among features that occur together (collinearity); the consensus "
        "model does not shrink, and adjusts for other features. Read no direction from either."
    )
