"""Evaluation of predictions: discrimination, calibration, thresholds, net benefit, with intervals."""
