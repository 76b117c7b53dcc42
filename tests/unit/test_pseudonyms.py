"""The key of pseudonyms, and the encryption of ids in files of arrays."""

import numpy as np
import pytest

from mlho.arrays import pack_texts, read_arrays, unpack_texts, write_arrays
from mlho.errors import ArtifactDamaged, SpecError
from mlho.pseudonyms import (
    EARLIER_KEYS,
    PSEUDONYM_KEY,
    encrypt_ids,
    fingerprint,
    fingerprint_here,
    key_with,
    pseudonym,
    pseudonym_key,
    read_id_arrays,
)

A, B = b"the first key of these tests", b"the second key of these tests"
IDS = ["17", "017", "Zebulon Müller", "p00007"]


@pytest.fixture
def file(tmp_path):
    """A file of arrays with the ids of patients and of persons, and with other arrays."""
    ids, persons = pack_texts(IDS), pack_texts(["Zebulon"])
    arrays = {"patient_id_bytes": ids["bytes"], "patient_id_offsets": ids["offsets"], "outcome": np.arange(4)}
    arrays |= {"group_id_bytes": persons["bytes"], "group_id_offsets": persons["offsets"]}
    write_arrays(tmp_path / "cohort.arr", arrays)
    return tmp_path / "cohort.arr"


def ids_in(path) -> list[str]:
    arrays = read_id_arrays(path)
    return unpack_texts(arrays["patient_id_bytes"], arrays["patient_id_offsets"])


def test_encrypted_ids_are_read_with_the_key_and_are_not_in_the_file(file, monkeypatch):
    plain = read_arrays(file)
    encrypt_ids(file, A)
    monkeypatch.setenv(PSEUDONYM_KEY, A.decode())
    found = read_id_arrays(file)

    assert not any(text.encode() in file.read_bytes() for text in (*IDS[2:], "Zebulon"))
    assert ids_in(file) == IDS
    assert found.keys() == plain.keys()
    assert all(np.array_equal(found[name], plain[name]) for name in plain)
    assert [array.dtype for array in found.values()] == [plain[name].dtype for name in found]


def test_equal_ids_and_an_equal_key_give_equal_bytes(file):
    """An artifact is the same wherever it is computed; another key gives other bytes."""
    content, contents = file.read_bytes(), []
    for key in (A, A, B):
        file.write_bytes(content)
        encrypt_ids(file, key)
        contents.append(file.read_bytes())

    assert contents[0] == contents[1] != contents[2]


def test_no_id_at_all_is_encrypted_and_read(tmp_path, monkeypatch):
    """A partition may have no patient that a rule mentions."""
    packed = pack_texts([])
    write_arrays(tmp_path / "own", {"id_bytes": packed["bytes"], "id_offsets": packed["offsets"]})
    encrypt_ids(tmp_path / "own", A)
    monkeypatch.setenv(PSEUDONYM_KEY, A.decode())
    found = read_id_arrays(tmp_path / "own")

    assert unpack_texts(found["id_bytes"], found["id_offsets"]) == []


@pytest.mark.parametrize("key", [None, B.decode()])
def test_without_the_key_encrypted_ids_are_refused(file, monkeypatch, key):
    """The error names the variable and the fingerprint, and no key."""
    encrypt_ids(file, A)
    monkeypatch.delenv(PSEUDONYM_KEY, raising=False)
    if key is not None:
        monkeypatch.setenv(PSEUDONYM_KEY, key)

    with pytest.raises(SpecError, match=rf"{fingerprint(A)}.*{PSEUDONYM_KEY}") as caught:
        read_id_arrays(file)
    assert A.decode() not in str(caught.value)
    assert B.decode() not in str(caught.value)


def test_a_replaced_key_still_reads(file, monkeypatch):
    encrypt_ids(file, A)
    monkeypatch.setenv(PSEUDONYM_KEY, B.decode())
    monkeypatch.setenv(EARLIER_KEYS, A.decode().replace(" ", "-") + "\n")
    with pytest.raises(SpecError):  # a key of several words is not one of them
        read_id_arrays(file)
    other = A.decode().replace(" ", "-").encode()
    assert key_with(fingerprint(other), where="here") == other
    assert key_with(fingerprint(B), where="here") == B


def test_altered_ids_are_damage(file, monkeypatch):
    encrypt_ids(file, A)
    monkeypatch.setenv(PSEUDONYM_KEY, A.decode())
    arrays = dict(read_arrays(file))
    name = next(key for key in arrays if key.startswith("patient_id_bytes"))
    arrays[name] = arrays[name] ^ np.uint8(1)
    write_arrays(file.with_name("altered"), arrays)

    with pytest.raises(ArtifactDamaged):
        read_id_arrays(file.with_name("altered"))


def test_a_short_key_is_refused_and_not_quoted():
    with pytest.raises(SpecError, match=rf"{PSEUDONYM_KEY}.*at least 16") as caught:
        pseudonym_key({PSEUDONYM_KEY: "short"})
    assert "short" not in str(caught.value)


def test_a_fingerprint_tells_keys_apart_and_is_no_pseudonym(monkeypatch):
    monkeypatch.delenv(PSEUDONYM_KEY, raising=False)
    assert fingerprint_here() is None
    monkeypatch.setenv(PSEUDONYM_KEY, A.decode())
    assert fingerprint_here() == fingerprint(A) != fingerprint(B)
    assert not pseudonym("fingerprint", A).startswith(fingerprint(A))
