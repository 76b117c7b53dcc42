"""Results over all iterations: performance, summary, final model, published files."""
