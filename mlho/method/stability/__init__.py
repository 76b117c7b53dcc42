"""Agreement of iterations: confidence scores, stability of selected sets, spread of a metric."""
