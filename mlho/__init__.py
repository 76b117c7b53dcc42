"""Machine Learning for Health Outcomes: the method, the tables, the specification, the store and the steps."""

from typing import TYPE_CHECKING, Any

from mlho.loop_cache import choose_folder

if TYPE_CHECKING:
    from mlho.model.bundle import load_bundle
    from mlho.results import open_run

__version__ = "0.1.0"
__all__ = ["__version__", "load_bundle", "open_run"]

choose_folder()  # before any module imports numba


def __getattr__(name: str) -> Any:
    """Import the functions for notebooks lazily: they need numpy, which planning does not."""
    if name == "load_bundle":
        from mlho.model.bundle import load_bundle

        return load_bundle
    if name == "open_run":
        from mlho.results import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
