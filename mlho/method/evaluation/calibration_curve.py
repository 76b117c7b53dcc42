"""The smooth calibration curve and its distances from the diagonal: ICI, E50, E90, Emax.

The smoother differs from R's: local-linear regression of y on p, tricube weights, the nearest 75 % of the samples,
fitted at up to 50 grid points, linearly interpolated, and clipped to [0, 1]. R's ``loess`` is local-quadratic by
default and ``lowess`` has span 2/3, so that figures differ in the second or third decimal. Above 500
distinct predictions neighbours are merged into 500 cells for the local fits; distances are taken at every sample.

References
----------
Austin & Steyerberg (2019), Statistics in Medicine 38.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.method.evaluation.tally import FloatArray, IntArray, Tally

N_GRID_POINTS = 50
# Share of samples in a local fit: R's loess default, which Austin & Steyerberg use.
SPAN = 0.75
# More distinct predictions than this are merged with their neighbours before smoothing (not for the distances).
MAX_CELLS = 500


@dataclass(frozen=True, eq=False)
class Smoother:
    """The parts of the smoother that are independent of sample weights: cells, grid, and positions on it."""

    cell_of_p: IntArray
    """Smoothing cell of each distinct prediction. Shape (n_distinct,)."""
    x: FloatArray
    """Mean prediction of each cell. Shape (n_cells,)."""
    grid: FloatArray
    """Ascending, from the smallest to the largest prediction. Half of the points are quantiles of the predictions, half are evenly spaced,
    without repetitions; at most 50. Shape (n_grid,)."""
    left: IntArray
    fraction: FloatArray
    """Each prediction lies at ``grid[left] + fraction · (grid[left + 1] − grid[left])``. Shape (n_distinct,)."""

    def curve(self, t: Tally) -> FloatArray:
        """Return the smoothed observed risk on the grid, float64 in [0, 1], shape (n_grid,)."""
        k = self.x.size
        n = np.bincount(self.cell_of_p, t.n, k)
        positive = np.bincount(self.cell_of_p, t.n_positive, k)
        out = np.empty(self.grid.size)
        _local_linear(self.x, n, positive, self.grid, SPAN, out)
        return out

    def distance(self, t: Tally, curve: FloatArray) -> FloatArray:
        """Return |smoothed observed risk − prediction| of each distinct prediction."""
        right = np.minimum(self.left + 1, self.grid.size - 1)
        smoothed = curve[self.left] * (1.0 - self.fraction) + curve[right] * self.fraction
        distance: FloatArray = np.abs(smoothed - t.p)
        return distance


def smoother_of(t: Tally, *, grid: FloatArray | None = None) -> Smoother:
    """Prepare the smoother for tallied predictions, on a given grid or on that of these predictions."""
    first = np.cumsum(t.n) - t.n
    raw = np.arange(t.p.size) if t.p.size <= MAX_CELLS else (first * MAX_CELLS // t.n.sum()).astype(np.int64)
    cell_of_p = np.unique(raw, return_inverse=True)[1].astype(np.int64, copy=False)
    n_cells = int(cell_of_p[-1]) + 1
    x = np.bincount(cell_of_p, t.n * t.p, n_cells) / np.bincount(cell_of_p, t.n, n_cells)
    if n_cells == t.p.size:
        x = t.p
    grid = _grid(t) if grid is None else grid
    left = np.clip(np.searchsorted(grid, t.p, side="right") - 1, 0, max(grid.size - 2, 0)).astype(np.int64)
    width = np.append(np.diff(grid), 1.0)[left]
    return Smoother(cell_of_p=cell_of_p, x=x, grid=grid, left=left, fraction=(t.p - grid[left]) / width)


def _grid(t: Tally) -> FloatArray:
    half = N_GRID_POINTS // 2
    # Quantiles that are themselves predictions: the values at evenly spaced ranks.
    rank = np.linspace(0, t.n_total - 1, half)
    by_rank = t.p[np.searchsorted(np.cumsum(t.n), rank, side="right")]
    even = np.linspace(t.p[0], t.p[-1], half)
    grid: FloatArray = np.unique(np.concatenate([by_rank, even]))
    return grid


@njit(cache=True, nogil=True)
def _local_linear(
    x: FloatArray, n: FloatArray, positive: FloatArray, grid: FloatArray, span: float, out: FloatArray
) -> None:
    k = x.size
    before = np.zeros(k + 1)
    for i in range(k):
        before[i + 1] = before[i] + n[i]
    needed = span * before[k]
    # Cells start … stop − 1 are the nearest ones with the required share of samples; both ends only increase along the grid.
    start = 0
    stop = 0
    for g in range(grid.size):
        at = grid[g]
        while before[stop] - before[start] < needed:
            stop += 1
        while True:
            # Shift the window to the right as long as its next cell on the right is nearer than its first cell on the left.
            further = stop
            while further < k and before[further] - before[start + 1] < needed:
                further += 1
            if before[further] - before[start + 1] < needed or x[further - 1] - at >= at - x[start]:
                break
            start += 1
            stop = further
        bandwidth = max(at - x[start], x[stop - 1] - at)
        low = start
        while low > 0 and at - x[low - 1] <= bandwidth:
            low -= 1
        high = stop
        while high < k and x[high] - at <= bandwidth:
            high += 1
        # Slightly wider, so that the outermost neighbours keep a weight if they are the only ones.
        bandwidth *= 1.0 + 1e-6
        per_bandwidth = 1.0 / bandwidth if bandwidth > 0.0 else 0.0
        s0 = 0.0
        s1 = 0.0
        s2 = 0.0
        t0 = 0.0
        t1 = 0.0
        for i in range(low, high):
            # Cells without samples add zero; a branch here would cost more than it saves.
            d = x[i] - at
            u = abs(d) * per_bandwidth
            v = 1.0 - u * u * u
            kernel = v * v * v
            w = kernel * n[i]
            s0 += w
            s1 += w * d
            s2 += w * d * d
            t0 += kernel * positive[i]
            t1 += kernel * positive[i] * d
        determinant = s0 * s2 - s1 * s1
        # A single distinct prediction has no slope: use its mean.
        value = (s2 * t0 - s1 * t1) / determinant if determinant > 1e-10 * s0 * s2 else t0 / s0
        out[g] = min(max(value, 0.0), 1.0)


def distances_of(t: Tally, distance: FloatArray) -> tuple[float, float, float, float]:
    """Return (ICI, E50, E90, Emax): mean, median, 90 % quantile and maximum of the distances over samples; 0 is perfect."""
    ici = float((distance * t.n).sum() / t.n_total)
    order = np.argsort(distance)
    # Samples up to each distance: the quantiles of distances that are repeated by sample, without repeating them.
    ascending, n_up_to = distance[order], np.cumsum(t.n[order])
    e50, e90, emax = (_quantile(ascending, n_up_to, q) for q in (0.5, 0.9, 1.0))
    return ici, e50, e90, emax


def _quantile(ascending: FloatArray, n_up_to: NDArray[Any], q: float) -> float:
    """Return the result of ``np.quantile`` for values that occur several times each."""
    n = int(n_up_to[-1])
    at = q * (n - 1)
    low = int(at)
    ranks = (low, min(low + 1, n - 1))
    below, above = ascending[np.searchsorted(n_up_to, ranks, side="right")]
    return float(below + (at - low) * (above - below))
