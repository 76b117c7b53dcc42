"""Zero-copy conversion between Arrow and numpy arrays.

Arrow's own ``to_numpy``, ``pa.array`` and ``pa.scalar`` import pandas if it is installed, which takes one second at the first
call of a process. Streaming code does not need pandas.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.arrays import pack_texts


def as_numpy(array: Any) -> NDArray[Any]:
    """Return the values of a fixed-width Arrow array without copying; values at null positions are undefined.

    Parameters
    ----------
    array : Arrow array or chunked array
        Integers, floats or times (as int64), or booleans (copied).

    Returns
    -------
    ndarray, shape (len(array),)
        Read-only.
    """
    array = one_array(array)
    if pa.types.is_boolean(array.type):
        return as_numpy(array.cast(pa.uint8())).view(np.bool_)
    dtype = np.dtype(np.int64) if pa.types.is_temporal(array.type) else np.dtype(array.type.to_pandas_dtype())
    if not len(array):
        return np.empty(0, dtype)
    values = np.frombuffer(array.buffers()[1], dtype, count=array.offset + len(array))
    return values[array.offset :]


def is_given(array: Any) -> NDArray[np.bool_]:
    """Return which rows are not null, shape (len(array),)."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    is_known: NDArray[np.bool_] = as_numpy(pc.is_valid(array))
    return is_known


def positions_in(values: Any, known: Any) -> NDArray[np.int64]:
    """Return the position of each value among the known ones, −1 for an unknown value; shape (len(values),)."""
    positions = pc.index_in(values, value_set=known)
    return np.where(is_given(positions), as_numpy(positions).astype(np.int64), -1)


def truths(array: Any) -> NDArray[np.bool_]:
    """Convert a boolean Arrow array, with null as false."""
    return as_numpy(array) & is_given(array)


def bool_array(mask: NDArray[np.bool_]) -> Any:
    """Convert a mask to an Arrow boolean array without nulls."""
    bits = np.packbits(mask, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(bits)])


def int64_array(values: NDArray[np.int64]) -> Any:
    """Wrap the memory of a numpy array as an Arrow int64 array without nulls."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def text_array(texts: Sequence[str]) -> Any:
    """Convert texts to an Arrow array without nulls."""
    packed = pack_texts(texts)
    buffers = [None, pa.py_buffer(packed["offsets"]), pa.py_buffer(packed["bytes"])]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def null_where(mask: NDArray[np.bool_], array: Any) -> Any:
    """Replace values with null where the mask is true."""
    return pc.if_else(bool_array(mask), pa.nulls(1, array.type)[0], array)


def plain_array(array: Any) -> Any:
    """Return a dictionary-encoded array as its values; return another array unchanged."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def texts_in(arrays: Iterable[Any]) -> set[str]:
    """Return the distinct values of arrays as text, without nulls."""
    distinct = (plain_array(array.unique()).drop_null().cast(pa.string()) for array in arrays)
    return {text for values in distinct for text in values.to_pylist()}


def one_array(array: Any) -> Any:
    """Return a chunked array as one array; return an array unchanged."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # some versions of Arrow return an empty one as a chunked array
        return pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    return array


def blank_texts(texts: Any) -> NDArray[np.bool_]:
    """Return which texts are null, empty or white space only."""
    lengths = as_numpy(pc.utf8_length(pc.utf8_trim_whitespace(texts)))
    blank: NDArray[np.bool_] = (lengths == 0) | ~is_given(texts)
    return blank
