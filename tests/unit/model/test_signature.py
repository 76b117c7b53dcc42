"""Signatures of bundles are valid only for the right key and exactly these files."""

import datetime as dt

import pytest

from mlho.errors import BundleError, SpecError
from mlho.model.files import digest_line
from mlho.model.signature import check_signatures, sign_files, verify_key

pytest.importorskip("model_signing")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.model.signing_keys import write_key

FILES = {
    "bundle.json": b'{"files":{}}',
    "bundle.sha256": digest_line(b'{"files":{}}'),
    "model/model.json": b"[1]",
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Return a private key, its public key, and another public key."""
    folder = tmp_path_factory.mktemp("keys")
    private, public, _ = write_key(folder, "own")
    return private, public, write_key(folder, "other")[1]


@pytest.fixture(scope="module")
def signature(keys):
    return sign_files(FILES, keys[0])


def test_a_signed_bundle_is_accepted(keys, signature):
    """A signed bundle is also accepted if it has an older signature by another key."""
    check_signatures(FILES, [signature], keys[1], where="b")
    check_signatures(FILES, [b"{}", signature], keys[1], where="b")


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(keys, signature, name):
    """One changed bit in any file is refused."""
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1

    with pytest.raises(BundleError, match="b: no valid signature"):
        check_signatures(FILES | {name: bytes(content)}, [signature], keys[1], where="b")


@pytest.mark.parametrize(
    "files",
    [
        FILES | {"extra.json": b"1"},
        {name: content for name, content in FILES.items() if name != "model/model.json"},
    ],
    ids=["extra", "missing"],
)
def test_another_set_of_files_is_refused(keys, signature, files):
    """The signature covers the whole bundle, so an additional or a missing file is refused."""
    with pytest.raises(BundleError, match="no valid signature"):
        check_signatures(files, [signature], keys[1], where="b")


def test_a_wrong_key_an_unsigned_bundle_and_foreign_text_are_refused(keys, signature):
    """A wrong key, an unsigned bundle and invalid signatures are refused, each with a remedy."""
    with pytest.raises(BundleError, match=r"no valid signature.*correct MLHO_VERIFY_KEY"):
        check_signatures(FILES, [signature], keys[2], where="b")
    with pytest.raises(BundleError, match=r"b: not signed.*--sign-key"):
        check_signatures(FILES, [], keys[1], where="b")
    for foreign in (b"", b"{}", b"\xff", signature[: len(signature) // 2], signature.replace(b"key", b"yek")):
        with pytest.raises(BundleError, match="no valid signature"):
            check_signatures(FILES, [foreign], keys[1], where="b")


def test_no_bit_of_a_signature_can_make_another_bundle_valid(keys, signature):
    """With changed files, no flipped bit of the signature gives a valid one."""
    changed = FILES | {"model/model.json": b"[2]"}
    flipped = []
    for place in range(0, len(signature), 97):
        data = bytearray(signature)
        data[place] ^= 1
        flipped.append(bytes(data))

    with pytest.raises(BundleError, match="no valid signature"):
        check_signatures(changed, flipped, keys[1], where="b")


def test_keys_that_cannot_be_used_are_named(keys, tmp_path, monkeypatch):
    """For an unusable key, the error names the option and says how to make a key."""
    bad = tmp_path / "bad.pem"
    bad.write_text("no key")
    for path in (bad, tmp_path / "absent"):
        with pytest.raises(SpecError, match=r"--sign-key .*openssl ecparam"):
            sign_files(FILES, path)
        with pytest.raises(SpecError, match=r"MLHO_VERIFY_KEY .*openssl ec "):
            check_signatures(FILES, [b"{}"], path, where="b")
    monkeypatch.delenv("MLHO_VERIFY_KEY", raising=False)
    assert verify_key() is None
    monkeypatch.setenv("MLHO_VERIFY_KEY", str(bad))
    assert verify_key() == bad


def certificate(subject: str, key, issuer=None, *, is_root: bool):
    """Return a certificate by an issuer (name, key), or a self-signed one."""
    named = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])  # noqa: E731
    by, by_key = issuer or (subject, key)
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_root,
        key_cert_sign=is_root,
        crl_sign=is_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if not is_root:
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return built.sign(by_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_of_a_trusted_root_signs(tmp_path):
    """The certificate is checked offline, and one of another root is refused."""
    private, _, key = write_key(tmp_path, "leaf")
    roots = {}
    for name in ("root", "other"):
        root_key = write_key(tmp_path, name)[2]
        roots[name] = root_key
        (tmp_path / f"{name}.crt").write_bytes(certificate(name, root_key, is_root=True))
    chain = tmp_path / "leaf.crt"
    chain.write_bytes(certificate("leaf", key, ("root", roots["root"]), is_root=False))
    signature = sign_files(FILES, private, chain)

    check_signatures(FILES, [signature], tmp_path / "root.crt", where="b")
    with pytest.raises(BundleError, match="no valid signature"):
        check_signatures(FILES, [signature], tmp_path / "other.crt", where="b")
    with pytest.raises(SpecError, match="--sign-certificate"):
        sign_files(FILES, write_key(tmp_path, "third")[0], chain)
