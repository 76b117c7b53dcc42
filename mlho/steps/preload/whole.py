"""Preloading for the fork server of worker processes: both parts, for tables and for learning and scoring."""

import numpy as np

import mlho.steps.preload.tables
from mlho.steps.preload.server import imports_of_server, parts_hidden

# scipy imports all that numpy offers.
with imports_of_server(), parts_hidden(np, "f2py", "polynomial", "testing"):
    import mlho.model.testing.runner
    import mlho.scoring.code_drift
    import mlho.scoring.parts
    import mlho.scoring.skew
    import mlho.training.results.final
    import mlho.training.results.groups
    import mlho.training.results.publish
    import mlho.training.results.summary  # noqa: F401 - importing is the purpose
    from mlho.method.classifiers.xgboost import import_if_installed

    import_if_installed()
