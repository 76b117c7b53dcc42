"""Preloading for the fork server of ``mlho run``: the modules that read tables immediately, and the others on request.

The first tasks therefore do not wait for the imports of the learning modules. The templates of the report are compiled with the others, while
other processes inspect the tables; otherwise the report's task would compile them at the end, when no other task is left to run.
"""

import signal
from contextlib import suppress
from importlib import import_module

import mlho.steps.preload.tables  # noqa: F401 - importing is the purpose
from mlho.fork_server import REST_SIGNAL
from mlho.steps.preload.loops import load_loops
from mlho.steps.preload.models import build_models
from mlho.steps.preload.server import imports_of_server

# Those of every training run, and of glmboost.
_OF_LEARNING = (
    "mlho.encoding.events.matrix",
    "mlho.method.bias.cells",
    "mlho.method.classifiers.boosting",
    "mlho.method.classifiers.design_matrix",
    "mlho.method.classifiers.log_odds",
    "mlho.method.consensus.cholesky",
    "mlho.method.consensus.likelihood",
    "mlho.method.evaluation.calibration",
    "mlho.method.evaluation.calibration_curve",
    "mlho.method.evaluation.reliability",
    "mlho.method.evaluation.tally",
    "mlho.method.selection.bits",
    "mlho.method.selection.contingency",
    "mlho.training.checks.associations",
    "mlho.training.checks.twins",
)


def _import_rest(*_: object) -> None:
    with suppress(ImportError), imports_of_server():  # a step raises it, as it would without preloading
        import_module("mlho.steps.preload.whole")
        import_module("mlho.report.page.html").prepare_report()
        load_loops(*_OF_LEARNING)
        build_models()


# The handler runs in the main thread, between two forks. The command blocked the signal, so that it is not lost before this line.
signal.signal(REST_SIGNAL, _import_rest)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [REST_SIGNAL])
