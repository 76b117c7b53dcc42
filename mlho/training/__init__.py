"""The learning part of a run on the packed matrix: select, cross-validate, fit, judge, sum up. No store, no queue."""
