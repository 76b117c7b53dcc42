"""A bundle as MLflow loads it: the loader of its flavor ``python_function``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlho.errors import DataError
from mlho.model.bundle import Bundle, load_bundle

if TYPE_CHECKING:
    import pandas as pd

_TABLES = frozenset({"events", "index", "demographics"})


class BundleModel:
    """A bundle with the method that MLflow calls.

    Attributes
    ----------
    bundle : Bundle
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """Score events, or a matrix of features.

        Parameters
        ----------
        model_input : dict or DataFrame
            A dict holds the arguments of :meth:`mlho.model.bundle.Bundle.predict_events`: ``events`` and, where the bundle needs them,
            ``index`` and ``demographics``. A DataFrame has the columns of the bundle, one row per sample.
        params : mapping, optional
            Ignored.

        Returns
        -------
        DataFrame
            For events, the output of :meth:`~mlho.model.bundle.Bundle.predict_events`. For a matrix, the column
            ``probability``, in [0, 1], with the index of the matrix.

        Raises
        ------
        DataError
            A table or a column is missing or unknown, or ``params`` are given.
        """
        import pandas as pd

        if params:
            raise DataError(
                "params",
                "the model takes none",
                expected="no params",
                got=f"{len(params)}",
                remedy="Remove them.",
            )
        if isinstance(model_input, Mapping):
            return self.bundle.predict_events(**_checked(model_input))
        probability = self.bundle.predict_proba(model_input)
        return pd.DataFrame({"probability": probability}, index=getattr(model_input, "index", None))


def _checked(tables: Mapping[str, Any]) -> dict[str, Any]:
    if "events" not in tables or not set(tables) <= _TABLES:
        raise DataError(
            "model input",
            "not the tables of a bundle",
            expected="a dict with events and, where the bundle needs them, index and demographics",
            got=f"{len(tables)} keys" + ("" if "events" in tables else " without events"),
            remedy='Pass {"events": DataFrame, "index": DataFrame or date, "demographics": DataFrame}.',
        )
    return dict(tables)


def _load_pyfunc(path: str) -> BundleModel:
    """Return the model of a bundle's folder. MLflow calls it by this name."""
    return BundleModel(load_bundle(path))
