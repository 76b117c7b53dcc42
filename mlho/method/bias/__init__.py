"""Performance of a model by group of patients and by period, with intervals and comparisons."""
