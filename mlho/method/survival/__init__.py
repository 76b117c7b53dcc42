"""Time to event: curves under censoring, weights, concordance, figures at horizons, and the Cox model."""
