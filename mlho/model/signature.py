"""Signatures of bundles, by the library ``model-signing`` (OpenSSF Model Signing 1.0) with a key or a certificate, offline.

A signature covers every file of a bundle. It is a separate file, which the command ``model_signing verify`` also accepts.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mlho.errors import BundleError, MlhoError, SpecError
from mlho.model.files import write_files
from mlho.scratch import scratch_folder

VERIFY_KEY: Final = "MLHO_VERIFY_KEY"
SUFFIX: Final = ".sig"
"""Of the file beside a bundle's folder that holds its signature."""
_FOLDER: Final = "bundle"  # its name is part of the signed content
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def verify_key() -> Path | None:
    """Return the file with the key or the certificates that signatures must match; ``None`` if none is set."""
    named = os.environ.get(VERIFY_KEY)
    return Path(named) if named else None


def sign_files(files: Mapping[str, bytes], key: Path, certificate: Path | None = None) -> bytes:
    """Return the signature of a bundle.

    Parameters
    ----------
    files : mapping of name to bytes
    key : Path
        Private key on an elliptic curve (P-256, P-384 or P-521), PEM, without a password.
    certificate : Path, optional
        Certificate of the key and those that lead to a root, PEM, the key's first. The signature then carries them.

    Raises
    ------
    SpecError
        Key or certificate cannot be used.
    """
    config = _library("signing").Config()
    try:
        if certificate is None:
            config.use_elliptic_key_signer(private_key=key)
        else:
            config.use_certificate_signer(
                private_key=key, signing_certificate=certificate, certificate_chain=[certificate]
            )
    except Exception as error:  # the errors of the library's parsers have no common class
        raise SpecError(
            f"--sign-key {key}: cannot sign ({type(error).__name__}). Expected a private key on an elliptic curve, PEM, without a "
            "password, and with --sign-certificate its certificate. Make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        ) from error
    with _folder_of(files) as folder:
        signature = folder.with_name(_FOLDER + SUFFIX)
        config.sign(folder, signature)
        return signature.read_bytes()


def check_signatures(
    files: Mapping[str, bytes], signatures: Sequence[bytes], key: Path, *, where: str
) -> None:
    """Return normally if one of the signatures is valid for the bundle and was made with the right key.

    Parameters
    ----------
    files : mapping of name to bytes
    key : Path
        Public key, or certificates of trusted roots; PEM.

    Raises
    ------
    BundleError
        The bundle is not signed, or not with this key.
    SpecError
        The key cannot be read.
    """
    if not signatures:
        raise BundleError(
            f"{where}: not signed, and {VERIFY_KEY} requires a signature. Promote its run with a key (mlho promote --sign-key FILE), or "
            "use a signed bundle."
        )
    _verifier(key)  # before a signature is read: an unreadable key is another error
    with _folder_of(files) as folder:
        if not any(_is_valid(_verifier(key), folder, signature) for signature in signatures):
            raise BundleError(
                f"{where}: no valid signature. Expected one by the key of {key} for exactly these files; got {len(signatures)} that do not "
                f"match. Use a bundle that was signed with this key, or correct {VERIFY_KEY}."
            )


def _verifier(key: Path) -> Any:
    config = _library("verifying").Config()
    try:
        if _CERTIFICATE in key.read_bytes():
            return config.use_certificate_verifier(certificate_chain=[key])
        return config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # the errors of the library's parsers have no common class
        raise SpecError(
            f"{VERIFY_KEY} {key}: cannot be read ({type(error).__name__}). Expected the file of a public key on an elliptic curve or of "
            "certificates, PEM. Make one: openssl ec -in key.pem -pubout -out public.pem"
        ) from error


def _is_valid(verifier: Any, folder: Path, signature: bytes) -> bool:
    file = folder.with_name(_FOLDER + SUFFIX)
    file.write_bytes(signature)
    try:
        verifier.verify(folder, file)
    except (OSError, MemoryError):  # not evidence about the signature
        raise
    except Exception:  # the library reports an invalid signature by errors without a common class
        return False
    return True


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Write a bundle's files to a temporary folder: the library reads paths."""
    with scratch_folder("mlho-signed") as scratch:
        folder = scratch / _FOLDER
        write_files(folder, files)
        yield folder


def _library(module: str) -> Any:
    try:
        import OpenSSL  # noqa: F401 - model-signing imports it and does not declare it
        from model_signing import signing, verifying
    except ImportError as error:
        raise MlhoError(
            f"signatures need {error.name}, which is not installed here: pip install 'mlho-batch[signing]'. Without signatures, unset "
            f"{VERIFY_KEY} and leave out --sign-key."
        ) from error
    return signing if module == "signing" else verifying
