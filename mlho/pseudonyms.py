"""Pseudonyms of patients, and the encryption of their ids in artifacts, both with one key from the environment.

Splits and joins need the ids. Artifacts therefore hold them encrypted, and a process with the key restores them in memory. In
such an artifact a patient is identified by a number, its position. AES-SIV (RFC 5297) has no nonce, so equal ids and an equal
key give equal bytes, as required of every artifact.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlho.errors import ArtifactDamaged, SpecError, plural
from mlho.settings import MIN_KEY_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV
    from numpy.typing import NDArray

PSEUDONYM_KEY: Final = "MLHO_PSEUDONYM_KEY"
EARLIER_KEYS: Final = "MLHO_PSEUDONYM_KEYS_EARLIER"
_HOW: Final = (
    f"Create one: export {PSEUDONYM_KEY}=$(python -c 'import secrets; print(secrets.token_hex(32))')"
)
_IDS: Final = ("id_bytes", "id_offsets")  # suffixes of the names of arrays with ids
_ENCRYPTED: Final = ".encrypted"  # suffix of the name of an encrypted array
_KEY: Final = "ids_key"  # name of the array with the fingerprint


def pseudonym_key(environment: Mapping[str, str] | None = None) -> bytes | None:
    """Return the key in the environment; ``None`` without one.

    Raises
    ------
    SpecError
        It is too short.
    """
    values = os.environ if environment is None else environment
    key = values.get(PSEUDONYM_KEY, "").encode()
    return _long_enough(PSEUDONYM_KEY, key) if key else None


def _long_enough(name: str, key: bytes) -> bytes:
    if len(key) < MIN_KEY_BYTES:
        raise SpecError(
            f"{name}: a key has {plural(len(key), 'byte')}. Expected at least {MIN_KEY_BYTES}. {_HOW}"
        )
    return key


def required_key(why: str) -> bytes:
    """Return the key in the environment.

    Raises
    ------
    SpecError
        There is none, or it is too short.
    """
    key = pseudonym_key()
    if key is None:
        raise SpecError(f"{PSEUDONYM_KEY}: not set. {why} {_HOW}")
    return key


def pseudonym(patient: str, key: bytes) -> str:
    """Return the pseudonym of a patient: HMAC-SHA256 of the id, in hexadecimal."""
    return hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()


def fingerprint(key: bytes) -> str:
    """Return 16 hexadecimal digits that distinguish keys. The key cannot be computed from them."""
    return hmac.new(key, b"fingerprint", hashlib.sha512).hexdigest()[:16]


def fingerprint_here() -> str | None:
    """Return the fingerprint of the key in the environment; ``None`` without one."""
    key = pseudonym_key()
    return None if key is None else fingerprint(key)


def known_keys() -> dict[str, bytes]:
    """Return the key in the environment and the earlier ones, by fingerprint.

    Raises
    ------
    SpecError
        One is too short.
    """
    current = pseudonym_key()
    keys = [_long_enough(EARLIER_KEYS, key.encode()) for key in os.environ.get(EARLIER_KEYS, "").split()]
    if current is not None:
        keys.append(current)
    return {fingerprint(key): key for key in keys}


def key_with(wanted: str, *, where: str) -> bytes:
    """Return the key with a fingerprint.

    Raises
    ------
    SpecError
        It is not in the environment.
    """
    keys = known_keys()
    if wanted not in keys:
        got = f"fingerprint {' and '.join(keys)}" if keys else "no key"
        raise SpecError(
            f"{where}: ids of patients are encrypted with a key that this process does not have. Expected the key with fingerprint "
            f"{wanted} in {PSEUDONYM_KEY}; got {got}. Give this process the same {PSEUDONYM_KEY} as the process that started the run, and name "
            f"replaced keys in {EARLIER_KEYS}."
        )
    return keys[wanted]


def encrypt_ids(path: Path, key: bytes) -> None:
    """Encrypt the ids in a file of arrays. Other arrays are unchanged."""
    import numpy as np

    from mlho.arrays import read_arrays, write_arrays

    cipher, arrays = _cipher(key), dict[str, "NDArray[Any]"]()
    for name, array in read_arrays(path).items():
        if name.endswith(_IDS):
            content = cipher.encrypt(array.tobytes(), [name.encode()])
            arrays[name + _ENCRYPTED] = np.frombuffer(content, np.uint8)
        else:
            arrays[name] = array
    arrays[_KEY] = np.frombuffer(fingerprint(key).encode(), np.uint8)
    new = path.with_name(f"{path.name}.new")
    write_arrays(new, arrays)
    new.replace(path)


def read_id_arrays(path: Path) -> "dict[str, NDArray[Any]]":
    """Read a file of arrays with ids, and decrypt the ids if they are encrypted; the others are mapped into memory.

    Raises
    ------
    SpecError
        The key of the ids is not in the environment.
    ArtifactDamaged
        The ids cannot be decrypted.
    """
    from mlho.arrays import read_arrays

    arrays = read_arrays(path)
    if _KEY not in arrays:
        return arrays
    key = key_with(arrays.pop(_KEY).tobytes().decode(), where=f"artifact {path.name[:12]}")
    return {
        name.removesuffix(_ENCRYPTED): _decrypted(key, name, array, path)
        if name.endswith(_ENCRYPTED)
        else array
        for name, array in arrays.items()
    }


def _decrypted(key: bytes, name: str, array: "NDArray[Any]", path: Path) -> "NDArray[Any]":
    import numpy as np
    from cryptography.exceptions import InvalidTag

    plain = name.removesuffix(_ENCRYPTED)
    try:
        content = _cipher(key).decrypt(array.tobytes(), [plain.encode()])
    except InvalidTag:
        raise ArtifactDamaged(
            f"artifact {path.name[:12]}: array {plain!r} cannot be decrypted. Run again to recreate it."
        ) from None
    return np.frombuffer(content, np.int64 if plain.endswith("id_offsets") else np.uint8)


def _cipher(key: bytes) -> "AESSIV":
    """Return AES-256-SIV with a key that is derived from the pseudonyms' key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(hmac.new(key, b"AES-256-SIV", hashlib.sha512).digest())
