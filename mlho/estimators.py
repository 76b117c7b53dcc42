"""The method as scikit-learn estimators, for notebooks and pipelines: a thin layer over ``mlho.method``.

Runs do not use this module, so it imports scikit-learn eagerly.
"""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import ClassifierTags, Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from mlho.errors import DataError
from mlho.method.classifiers import boosting
from mlho.method.selection import jmi
from mlho.method.selection.matrix import Mode
from mlho.method.selection.screen import ScreenRule, screen_by_prevalence


class MSMRSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Select the columns that are frequent enough and jointly most informative about a binary outcome.

    MSMR: "minimise sparsity, maximise relevance", the selection of R MLHO. Columns present in too few samples are
    screened out; the others are selected one by one by joint mutual information.

    Parameters
    ----------
    n_features : int, default=200
        Number of columns to keep; all that pass the screen, if there are fewer.
    min_prevalence : float in [0, 1], default=0.005
        Share of the samples in which a column must be non-zero. Each sample
        counts as a separate patient.
    mode : {"presence", "levels", "counts"}, default="presence"
        Input of the ranking: whether a value is non-zero; counts truncated to 0, 1, 2, 3+; or every
        distinct count, which favours columns with many levels as R does. The last two require non-negative
        integers.
    ranking : {"jmi", "mlho-r", "mim", "mrmr", "cmim", "jmim"}, default="jmi"
        See :func:`mlho.method.selection.jmi.rank`.
    screen : {"at-least", "mlho-r"}, default="at-least"
        See :func:`mlho.method.selection.screen.min_patients`.

    Attributes
    ----------
    order_ : int64 array, shape (n_kept,)
        Selected columns of X, in the order of selection. ``transform`` keeps the order
        of X.
    scores_ : float64 array, shape (n_kept,)
        Ranking score of each selection, in nats.
    n_features_in_ : int
        Number of columns in ``fit``.
    feature_names_in_ : array of str, shape (n_features_in_,)
        Column names, if X has names.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"I10": [1, 1, 0, 0], "Z99": [0, 0, 0, 0], "E11": [1, 0, 1, 0]})
    >>> selector = MSMRSelector(n_features=1).fit(X, [1, 1, 0, 0])
    >>> selector.get_feature_names_out().tolist()
    ['I10']
    """

    def __init__(
        self,
        n_features: int = 200,
        *,
        min_prevalence: float = 0.005,
        mode: Mode = "presence",
        ranking: Literal["jmi", "mlho-r", "mim", "mrmr", "cmim", "jmim"] = "jmi",
        screen: ScreenRule = "at-least",
    ) -> None:
        self.n_features = n_features
        self.min_prevalence = min_prevalence
        self.mode = mode
        self.ranking = ranking
        self.screen = screen

    def fit(self, X: Any, y: Any) -> Self:
        """Screen and rank the columns.

        Parameters
        ----------
        X : array-like, DataFrame or sparse, shape (n_samples, n_features)
            Numbers; zero means absent.
        y : array-like, shape (n_samples,)
            Two classes with arbitrary names.

        Raises
        ------
        ValueError
            Missing values, more or fewer than two classes, a parameter out of range, or (as a DataError) no column
            that passes the screen.
        """
        X, y = validate_data(self, X, y, accept_sparse=["csc", "csr"])
        labels, _ = _two_classes(y)
        is_present = X != 0
        n_having = np.asarray(is_present.sum(axis=0)).ravel().astype(np.int64)
        kept = screen_by_prevalence(n_having, X.shape[0], self.min_prevalence, rule=self.screen)
        if kept.size == 0:
            raise DataError(
                "MSMRSelector",
                "no column passes the screen",
                expected="at least one",
                got=f"0 of {X.shape[1]}",
                remedy="Lower min_prevalence.",
            )
        ranked = jmi.rank(
            (is_present if self.mode == "presence" else X)[:, kept],
            labels,
            self.n_features,
            mode=self.mode,
            ranking=self.ranking,
            n_patients_by_column=n_having[kept],
        )
        self.order_ = kept[ranked.order]
        self.scores_ = ranked.scores
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.order_] = True
        return mask

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


class GLMBoostClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Logistic regression by component-wise boosting: few steps select few features.

    Columns are standardised internally and stay sparse; coefficients are in the units of X. Two classes.

    Parameters
    ----------
    n_steps : int, default=100
        Boosting steps; R's ``mstop``.
    learning_rate : float in (0, 1], default=0.1
        Fraction of each fitted step that is applied; R's ``nu``.

    Attributes
    ----------
    classes_ : array, shape (2,)
        The classes, sorted; probabilities and coefficients refer to the second one.
    coef_ : float64 array, shape (1, n_features_in_)
        Log odds ratio per unit of X.
    intercept_ : float64 array, shape (1,)
        Log-odds of a row of zeros.
    result_ : mlho.method.classifiers.boosting.GLMBoostResult
        The whole model, with the path, the scale, and the constant columns.
    n_features_in_ : int
        Number of columns in ``fit``.
    feature_names_in_ : array of str, shape (n_features_in_,)
        Column names, if X has names.

    Examples
    --------
    >>> model = GLMBoostClassifier(n_steps=20).fit([[0.0], [0.0], [1.0], [1.0]], ["well", "well", "ill", "well"])
    >>> model.classes_.tolist(), model.predict([[1.0]]).tolist(), bool(model.coef_[0, 0] < 0)
    (['ill', 'well'], ['well'], True)
    """

    def __init__(self, n_steps: int = 100, *, learning_rate: float = 0.1) -> None:
        self.n_steps = n_steps
        self.learning_rate = learning_rate

    def fit(self, X: Any, y: Any) -> Self:
        """Boost the model.

        Parameters
        ----------
        X : array-like, DataFrame or sparse, shape (n_samples, n_features)
            Finite numbers.
        y : array-like, shape (n_samples,)
            Two classes with arbitrary names.

        Raises
        ------
        ValueError
            Missing values, more or fewer than two classes, or a parameter out of range.
        """
        X, y = validate_data(self, X, y, accept_sparse=["csc", "csr"], dtype=np.float64)
        labels, self.classes_ = _two_classes(y)
        self.result_ = boosting.fit(X, labels, self.n_steps, learning_rate=self.learning_rate)
        self.coef_ = self.result_.coefficients[np.newaxis]
        self.intercept_ = np.array([self.result_.intercept])
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return the log-odds of the second class, shape (n_samples,)."""
        X = self._validated(X)
        return self.result_.log_odds(X)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape (n_samples, 2)."""
        X = self._validated(X)
        p = self.result_.predict_proba(X)
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the more probable class of each row, shape (n_samples,)."""
        is_second = (self.decision_function(X) > 0.0).astype(np.intp)
        classes: NDArray[Any] = self.classes_[is_second]
        return classes

    def _validated(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csc", "csr"], dtype=np.float64, reset=False)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_class = False
        return tags


def _two_classes(y: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Encode y as 0 and 1, and return the two classes. Refuse any other number of classes."""
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    classes, codes = np.unique(y, return_inverse=True)
    if classes.size != 2:
        raise DataError(
            "labels",
            "one class only",
            expected="samples of two classes",
            got=f"{classes.size} class",
            remedy="Use fewer folds or a stratified split, or widen the cohort.",
        )
    return codes.astype(np.int8), classes
