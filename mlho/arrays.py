"""Named arrays in one file, written deterministically and memory-mapped on reading.

A file is a magic number, the length of a JSON header, the header (name, dtype, shape and offset of each array, in the
order given) and the raw bytes of each array, aligned to 64 bytes. It contains no object arrays, no executable content and
no timestamp: equal arrays give equal bytes, and processes on one machine share the mapped memory.
"""

import itertools
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.errors import ArtifactDamaged

MAGIC = b"MLHOARR1"
ALIGNMENT = 64
_LENGTH_BYTES = 8
_ALLOWED_KINDS = "biufmM"  # booleans, integers, floats, times; never objects or text


def n_distinct(values: NDArray[np.integer[Any]]) -> int:
    """Return the number of distinct integers.

    Sorting is about twenty times faster than ``np.unique``, which has hashed integers since numpy 2.3, especially if the
    values are already sorted.

    Examples
    --------
    >>> n_distinct(np.array([3, 1, 3]))
    2
    """
    ordered = np.sort(values, axis=None)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + (ordered.size > 0)


def is_new(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which rows differ from the previous row in any column; the first row always counts as different.

    Examples
    --------
    >>> is_new(np.array([1, 1, 2]), np.array([5, 6, 6])).tolist()
    [True, True, True]
    """
    differs = np.ones(len(columns[0]), np.bool_)
    if len(differs):
        differs[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return differs


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays to one file. Equal arrays in equal order give equal bytes."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = _header(contiguous)
    with path.open("wb") as file:
        file.write(MAGIC + len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        for array in contiguous.values():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Map a file of named arrays into memory, read-only and without copying."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        return arrays_from_bytes(b"", where=path.name)
    with path.open("rb") as file:
        buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return arrays_from_bytes(buffer, where=path.name)


def release_pages(array: NDArray[Any]) -> None:
    """Release this process's pages of the array's mapped file. They stay in the page cache and are mapped again when read.

    Do nothing if the array is not mapped.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    mapped = getattr(owner, "obj", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def arrays_from_bytes(buffer: bytes | memoryview, *, where: str) -> dict[str, NDArray[Any]]:
    """Return named arrays as read-only views of a buffer in the format of :func:`write_arrays`.

    Raises
    ------
    ArtifactDamaged
        The buffer has a different format or is truncated.
    """
    start = len(MAGIC) + _LENGTH_BYTES
    if bytes(buffer[: len(MAGIC)]) != MAGIC:
        raise ArtifactDamaged(f"{where}: not an array file. Run again to recreate it.")
    length = int.from_bytes(buffer[len(MAGIC) : start], "little")
    try:
        entries = json.loads(bytes(buffer[start : start + length]))
        return {entry["name"]: _view(buffer, start + length, entry) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactDamaged(f"{where}: damaged array file. Run again to recreate it.") from error


def text_arrays(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return texts as the arrays ``<name>_bytes`` and ``<name>_offsets``; see :func:`texts_of`."""
    return {f"{name}_{part}": array for part, array in pack_texts(texts).items()}


def texts_of(name: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """Restore texts from the arrays of :func:`text_arrays`."""
    return tuple(unpack_texts(arrays[f"{name}_bytes"], arrays[f"{name}_offsets"]))


def pack_texts(texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Convert texts to UTF-8 bytes and offsets, for storage as arrays; see :func:`unpack_texts`."""
    joined = "".join(texts)
    data = joined.encode()
    is_ascii = len(data) == len(joined)
    lengths = map(len, texts) if is_ascii else (len(text.encode()) for text in texts)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, len(texts)), out=offsets[1:])
    return {"bytes": np.frombuffer(data, np.uint8), "offsets": offsets}


def unpack_texts(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str]:
    """Restore texts from the bytes and offsets of :func:`pack_texts`."""
    raw, ends = data.tobytes(), offsets.tolist()
    return [raw[start:stop].decode() for start, stop in itertools.pairwise(ends)]


def _header(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Describe the arrays; offsets are relative to the first aligned byte after the header."""
    offset, entries = 0, []
    for name, array in arrays.items():
        if array.dtype.kind not in _ALLOWED_KINDS:
            raise TypeError(
                f"array {name!r} has dtype {array.dtype}; only numbers, booleans and times are stored"
            )
        offset += -offset % ALIGNMENT
        entries.append({"dtype": array.dtype.str, "name": name, "offset": offset, "shape": list(array.shape)})
        offset += array.nbytes
    header = json.dumps(entries, separators=(",", ":"), sort_keys=True).encode()
    padding = -(len(MAGIC) + _LENGTH_BYTES + len(header)) % ALIGNMENT
    return header + b" " * padding


def _view(buffer: bytes | memoryview, base: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    if dtype.kind not in _ALLOWED_KINDS:
        raise TypeError(entry["dtype"])
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(buffer, dtype, count=count, offset=base + entry["offset"]).reshape(shape)
