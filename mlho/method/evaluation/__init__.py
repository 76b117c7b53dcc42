"""How well predictions do: discrimination, calibration, thresholds, net benefit, with intervals."""
