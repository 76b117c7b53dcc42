"""Steps of a scoring run."""
