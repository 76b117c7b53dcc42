"""The learning part of a run on the packed matrix: select, cross-validate, fit, evaluate, summarize. No store, no queue."""
