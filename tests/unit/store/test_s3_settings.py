"""Settings of object storage, and the meaning of its error responses."""

import pickle
import re
from pathlib import Path

import pytest

from mlho.errors import SpecError, StoreAccessDenied, StoreOutage
from mlho.store.s3_faults import Fault, as_error
from mlho.store.s3_settings import S3Settings, split_address


def test_without_variables_it_is_aws():
    """The default is AWS with its own region and addressing, and checksums only where they are required."""
    assert S3Settings.from_environment({"MLHO_S3_ENDPOINT": ""}) == S3Settings()


def test_every_variable_is_read(tmp_path):
    """Each variable sets one field."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("x")
    env = {
        "MLHO_S3_ENDPOINT": "https://s3.example",
        "MLHO_S3_REGION": "eu-north-1",
        "MLHO_S3_ADDRESSING": "path",
        "MLHO_S3_CA_BUNDLE": str(bundle),
        "MLHO_S3_CHECKSUMS": "when_supported",
        "MLHO_S3_CONDITIONAL": "compat",
        "MLHO_S3_SSE_KMS_KEY": "key-1",
        "MLHO_S3_CONNECT_TIMEOUT": "1.5",
        "MLHO_S3_READ_TIMEOUT": "20",
        "MLHO_S3_DEADLINE": "60",
    }

    assert S3Settings.from_environment(env) == S3Settings(
        endpoint="https://s3.example",
        region="eu-north-1",
        addressing="path",
        ca_bundle=str(bundle),
        checksums="when_supported",
        conditional="compat",
        sse_kms_key="key-1",
        connect_timeout_seconds=1.5,
        read_timeout_seconds=20.0,
        deadline_seconds=60.0,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLHO_S3_ENDPOINT", "minio:9000"),
        ("MLHO_S3_ADDRESSING", "dns"),
        ("MLHO_S3_CHECKSUMS", "always"),
        ("MLHO_S3_CONDITIONAL", "maybe"),
        ("MLHO_S3_CA_BUNDLE", "/no/such/file"),
        ("MLHO_S3_READ_TIMEOUT", "-1"),
        ("MLHO_S3_DEADLINE", "soon"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(name, value):
    """The error for an invalid value names the variable."""
    with pytest.raises(SpecError, match=name):
        S3Settings.from_environment({name: value})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a", ("bucket", "a/")),
        ("s3://bucket/a/b/", ("bucket", "a/b/")),
    ],
)
def test_an_address_is_bucket_and_prefix(address, expected):
    """The prefix of an address is empty or ends with a slash."""
    assert split_address(address) == expected


def test_an_address_without_a_bucket_is_refused():
    with pytest.raises(SpecError, match="give the bucket"):
        split_address("s3:///prefix")


@pytest.mark.parametrize(
    ("fault", "passes"),
    [
        (Fault("SlowDown", 503), True),
        (Fault("InternalError", 500), True),
        (Fault("ConditionalRequestConflict", 409), True),
        (Fault("TooManyRequests", 429), True),
        (Fault("ReadTimeoutError", 0), True),
        (Fault("NotImplemented", 501), False),
        (Fault("QuotaExceeded", 507), False),
        (Fault("AccessDenied", 403), False),
        (Fault("NoSuchKey", 404), False),
        (Fault("PreconditionFailed", 412), False),
    ],
    ids=lambda case: case.code if isinstance(case, Fault) else "",
)
def test_only_temporary_faults_are_retried(fault, passes):
    """Overload, conflicts and missing responses are temporary; a refusal is permanent."""
    assert fault.is_passing is passes


@pytest.mark.parametrize(
    ("fault", "kind", "remedy"),
    [
        (Fault("SlowDown", 503), StoreOutage, "run the same command again"),
        (Fault("RequestTimeTooSkewed", 403), StoreOutage, "Set the clock"),
        (Fault("InvalidObjectState", 403), StoreAccessDenied, "Restore it"),
        (Fault("KMS.NotFoundException", 400), StoreAccessDenied, "MLHO_S3_SSE_KMS_KEY"),
        (Fault("QuotaExceeded", 507), StoreOutage, "Free some space"),
        (Fault("NoSuchBucket", 404), StoreAccessDenied, "Correct the address"),
        (Fault("ExpiredToken", 400), StoreAccessDenied, "AWS_ACCESS_KEY_ID"),
        (Fault("400", 400), StoreAccessDenied, "AWS_ACCESS_KEY_ID"),
        (Fault("InvalidTokenId", 403), StoreAccessDenied, "AWS_ACCESS_KEY_ID"),
        (Fault("InvalidAccessKeyId", 403), StoreAccessDenied, "AWS_ACCESS_KEY_ID"),
        (Fault("PermanentRedirect", 301), StoreAccessDenied, "MLHO_S3_REGION (chart: store.region)"),
        (Fault("AccessDenied", 403), StoreAccessDenied, "grant s3:ListBucket"),
        (Fault("Unauthorized", 401), StoreAccessDenied, "grant s3:ListBucket"),
        (Fault("InvalidRequest", 400), SpecError, "MLHO_S3_CHECKSUMS"),
        (Fault("NotImplemented", 501), SpecError, "MLHO_S3_CONDITIONAL=compat"),
    ],
    ids=lambda case: case.code if isinstance(case, Fault) else "",
)
def test_every_refusal_has_a_remedy(fault, kind, remedy):
    """Each error states the remedy and is unchanged after pickling."""
    error = as_error(fault, where="s3://b/p/", endpoint="http://server", action="write")

    assert type(error) is kind
    assert remedy in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("action", ["read", "write", "list", "delete"])
def test_a_refusal_does_not_reveal_whether_a_bucket_exists(action):
    """A missing bucket, one in another region and one of another account give the same message, so that it does not reveal
    which buckets exist.
    """
    faults = [
        Fault("NoSuchBucket", 404),
        Fault("AccessDenied", 403),
        Fault("AllAccessDisabled", 403),
        Fault("403", 403),
        Fault("301", 301),
        Fault("PermanentRedirect", 301),
    ]
    errors = [as_error(fault, where="s3://b/p/", endpoint="http://server", action=action) for fault in faults]

    assert {type(error) for error in errors} == {StoreAccessDenied}
    assert len({str(error) for error in errors}) == 1


def test_every_variable_is_in_the_documentation():
    """``docs/object-storage.md`` has exactly the variables that the code reads."""
    root = Path(__file__).parents[3]
    code = "".join((root / "mlho" / "store" / name).read_text() for name in ("s3_settings.py", "cache.py"))
    words = (root / "docs" / "object-storage.md").read_text()
    names = re.compile(r"MLHO_(?:S3|CACHE)_[A-Z_]+[A-Z]")

    assert set(names.findall(words)) == set(names.findall(code))
