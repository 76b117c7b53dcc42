"""What the environment says, and how a command line and it come together."""

import pytest

from mlho.errors import SpecError
from mlho.settings import Settings, without_password

KNOWN = "redis://:secret@queue:6379/0"


@pytest.mark.parametrize(
    ("address", "chosen"),
    [
        (None, KNOWN),
        ("redis://queue:6379/0", KNOWN),
        ("redis://elsewhere:6379/0", "redis://elsewhere:6379/0"),
        ("redis://:other@queue:6379/0", "redis://:other@queue:6379/0"),
        ("embedded", "embedded"),
    ],
)
def test_a_broker_without_its_password_is_that_of_the_environment(address: str | None, chosen: str):
    """So that no password has to stand on a command line, which others can read; another broker is another one."""
    assert Settings(broker=KNOWN).broker_at(address) == chosen


def test_without_a_broker_in_the_environment_the_command_line_decides():
    """Or nothing does."""
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
    """Whatever its form."""
    assert without_password(address) == shown


def test_limits_of_time_come_from_the_environment():
    """In seconds; an empty variable, as templates leave it, says nothing."""
    read = Settings.from_environment({"MLHO_SOFT_LIMIT": "90", "MLHO_HARD_LIMIT": ""})

    assert (read.soft_limit, read.hard_limit) == (90.0, None)


@pytest.mark.parametrize("name", ["MLHO_SOFT_LIMIT", "MLHO_HARD_LIMIT"])
@pytest.mark.parametrize("text", ["0", "-1", "6h", "nan", "inf"])
def test_a_limit_that_is_no_positive_number_is_refused(name: str, text: str):
    """By the name of the variable."""
    with pytest.raises(SpecError, match=f"{name}: '{text}' is no positive number of seconds"):
        Settings.from_environment({name: text})
