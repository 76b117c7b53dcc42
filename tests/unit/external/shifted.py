"""Tables of patients who differ from those of the training."""

from dataclasses import replace

import numpy as np
import pyarrow as pa


def rarer(tables, share=0.25):
    """Keep this share of the samples with the outcome, which shifts all log-odds by its logarithm."""
    label = tables.labels.column("label").to_numpy()
    kept = (label == 0) | (np.random.default_rng(2).random(label.size) < share)
    return replace(tables, labels=tables.labels.filter(pa.array(kept)))
