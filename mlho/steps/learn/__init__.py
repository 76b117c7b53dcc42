"""Steps that select, fit and evaluate, per iteration and fold."""
