"""Settings from the environment, and their combination with the command line."""

import pytest

from mlho.errors import SpecError
from mlho.settings import Settings, without_password

KNOWN = "redis://:secret@queue:6379/0"


@pytest.mark.parametrize(
    ("address", "chosen"),
    [
        (None, KNOWN),
        ("redis://queue:6379/0", KNOWN),
        ("redis://:other@queue:6379/0", "redis://:other@queue:6379/0"),
        ("embedded", "embedded"),
    ],
)
def test_a_broker_without_its_password_is_that_of_the_environment(address: str | None, chosen: str):
    """A broker address without password gets that of the environment if the rest is equal, so that the password need not be
    on a command line, which other users can read.
    """
    assert Settings(broker=KNOWN).broker_at(address) == chosen


def test_the_address_that_a_scheduler_prints_for_workers_gets_the_password():
    """With TLS, it names the certificates of MLHO_REDIS_CA."""
    settings = Settings(broker="rediss://:secret@queue:6379/0", redis_ca="/ca.crt")
    printed = without_password(settings.broker_at(None))

    assert printed.endswith("ssl_ca_certs=/ca.crt")
    assert settings.broker_at(printed) == settings.broker_at(None)


def test_a_password_is_not_dropped_silently():
    """Another address without a password is refused if that of the environment has one. The error does not contain the password."""
    with pytest.raises(
        SpecError, match=r"another address, redis://queue:6379/0.*unset MLHO_BROKER"
    ) as refused:
        Settings(broker=KNOWN).broker_at("redis://queue.example:6379/0")

    assert "secret" not in str(refused.value)
    without = Settings(broker="redis://queue:6379/0")
    assert without.broker_at("redis://elsewhere:6379/0") == "redis://elsewhere:6379/0"


def test_without_a_broker_in_the_environment_the_command_line_decides():
    """Without a broker in the environment, the command line's address is used."""
    assert Settings().broker_at("redis://queue:6379/0") == "redis://queue:6379/0"
    assert Settings().broker_at(None) is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (KNOWN, "redis://queue:6379/0"),
        ("rediss://user:p%40ss@10.0.0.1/3?ssl_cert_reqs=none", "rediss://10.0.0.1/3?ssl_cert_reqs=none"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("embedded", "embedded"),
    ],
)
def test_an_address_is_shown_without_user_and_password(address: str, shown: str):
    """User and password are removed from an address of any form."""
    assert without_password(address) == shown


def test_limits_of_time_come_from_the_environment():
    """Time limits are in seconds; an empty variable, as templates may leave it, is ignored."""
    read = Settings.from_environment({"MLHO_SOFT_LIMIT": "90", "MLHO_HARD_LIMIT": ""})

    assert (read.soft_limit, read.hard_limit) == (90.0, None)


@pytest.mark.parametrize("name", ["MLHO_SOFT_LIMIT", "MLHO_HARD_LIMIT"])
@pytest.mark.parametrize("text", ["0", "-1", "6h", "nan", "inf"])
def test_a_limit_that_is_no_positive_number_is_refused(name: str, text: str):
    """The error for a time limit that is not a positive number names the variable."""
    with pytest.raises(SpecError, match=f"{name}: '{text}' is not a positive number of seconds"):
        Settings.from_environment({name: text})
