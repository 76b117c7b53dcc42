"""Named arrays in one file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlho.arrays import (
    ALIGNMENT,
    arrays_from_bytes,
    pack_texts,
    read_arrays,
    release_pages,
    unpack_texts,
    write_arrays,
)
from mlho.errors import ArtifactDamaged

ARRAYS = {
    "int": np.arange(7, dtype=np.int64),
    "bool": np.array([[True, False], [False, True]]),
    "float": np.array([1.5, np.nan, np.inf, -0.0]),
    "time": np.array(["2020-01-31"], "M8[us]"),
    "empty": np.empty((0, 3), np.uint8),
    "scalar": np.array(3.0),
}


def test_arrays_come_back_as_they_were(tmp_path):
    """Arrays are read back with the same order, types, shapes and bits, including empty and zero-dimensional ones."""
    write_arrays(tmp_path / "x.arr", ARRAYS)
    read = read_arrays(tmp_path / "x.arr")

    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()


def test_a_released_array_is_read_again(tmp_path):
    """Releasing an array frees only this process's memory, so that its values can be read again. An unmapped array is not changed."""
    write_arrays(tmp_path / "x.arr", ARRAYS)
    mapped = read_arrays(tmp_path / "x.arr")["float"]

    for array in (mapped, ARRAYS["float"]):
        release_pages(array)

    assert mapped.tobytes() == ARRAYS["float"].tobytes()


def test_arrays_are_mapped_aligned_and_read_only(tmp_path):
    """Mapped arrays are read-only, so that no process changes another's data, and begin at an aligned byte of the file."""
    write_arrays(tmp_path / "x.arr", ARRAYS)
    read = read_arrays(tmp_path / "x.arr")

    assert not any(array.flags.writeable for array in read.values())
    assert {array.ctypes.data % ALIGNMENT for array in read.values() if array.size} == {0}


def test_equal_arrays_give_equal_bytes(tmp_path):
    """The bytes of the file do not depend on an array's memory layout."""
    square = np.arange(12).reshape(3, 4)
    for name, array in (
        ("c", square),
        ("f", np.asfortranarray(square)),
        ("view", np.repeat(square, 2, 0)[::2]),
    ):
        write_arrays(tmp_path / name, {"a": array})

    assert len({(tmp_path / name).read_bytes() for name in ("c", "f", "view")}) == 1


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.int32, np.float64]), hnp.array_shapes(min_side=0, max_dims=3))
)
def test_any_array_is_restored(tmp_path_factory, array):
    """An array of any type, shape and content is read back bit for bit."""
    path = tmp_path_factory.mktemp("any") / "x"
    write_arrays(path, {"a": array})

    assert read_arrays(path)["a"].tobytes() == array.tobytes()


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([{}], object), np.zeros(1, "V4")])
def test_only_numbers_and_times_are_stored(array, tmp_path):
    """Arrays of objects and of texts are rejected on writing."""
    with pytest.raises(TypeError, match="only numbers, booleans and times"):
        write_arrays(tmp_path / "x", {"a": array})


@pytest.mark.parametrize("dtype", ["|O", "|V4", "<U3", "nonsense"])
def test_only_numbers_and_times_are_read(dtype, tmp_path):
    """A header with an object type is reported as damage, and no code is executed."""
    write_arrays(tmp_path / "x", {"a": np.zeros(4, np.int64)})
    data = (tmp_path / "x").read_bytes()
    changed = data.replace(b'"<i8"', f'"{dtype}"'.encode())
    length = int.from_bytes(data[8:16], "little") + len(changed) - len(data)

    with pytest.raises(ArtifactDamaged, match="x: damaged"):
        arrays_from_bytes(changed[:8] + length.to_bytes(8, "little") + changed[16:], where="x")


@pytest.mark.parametrize("kept", [0, 4, 8, 12, 16, 40, 200, 264])
def test_a_cut_file_is_damaged(kept, tmp_path):
    """A file that is truncated at any place is reported as damaged."""
    write_arrays(tmp_path / "x", {"a": np.arange(20), "b": np.arange(5)})
    data = (tmp_path / "x").read_bytes()

    with pytest.raises(ArtifactDamaged, match="Run again"):
        arrays_from_bytes(data[:kept], where="x")


def test_an_empty_file_is_damaged(tmp_path):
    """An empty file is reported as damaged, also when it is mapped."""
    (tmp_path / "x.arr").touch()

    with pytest.raises(ArtifactDamaged, match=r"x\.arr"):
        read_arrays(tmp_path / "x.arr")


@given(st.lists(st.text()))
def test_texts_come_back(texts):
    """Any list of texts is restored, including empty texts and an empty list."""
    packed = pack_texts(texts)

    assert unpack_texts(packed["bytes"], packed["offsets"]) == texts
