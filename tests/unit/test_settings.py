"""What the environment says, and how a command line and it come together."""

import pytest

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
