"""Redis errors: temporary ones are outages, and permanent ones are not."""

import pytest
import redis
from redis._parsers import BaseParser

from mlho.protocol.failures import QueueError
from mlho.protocol.redis_client import answering, outage_of

PASSING = {
    "OOM command not allowed when used memory > 'maxmemory'.": "its memory is full",
    "MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.": "cannot write its file",
    "READONLY You can't write against a read only replica.": "is a replica, which accepts no writes",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": "has become a replica",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "lost its primary",
    "CLUSTERDOWN The cluster is down": "its cluster is down",
    "NOREPLICAS Not enough good replicas to write.": "min-replicas-to-write",
}
LASTING = (
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR unknown command 'BLPOP'",
    "NOSCRIPT No matching script.",
    "NOPERM User mlho has no permissions to access one of the keys",
    "WRONGPASS invalid username-password pair or user is disabled.",
)


def raised(answer: str) -> Exception:
    """Return the client's exception for a server's error response."""
    error = BaseParser.parse_error(answer)
    assert isinstance(error, redis.RedisError)
    return error


@pytest.mark.parametrize(("answer", "words"), PASSING.items(), ids=[answer.split()[0] for answer in PASSING])
def test_an_answer_that_may_change_is_an_outage_with_its_remedy(answer, words):
    """A temporary error response is an outage with its remedy, for every exception class that the client uses for it."""
    error = outage_of(raised(answer))

    assert error is not None
    assert words in error


@pytest.mark.parametrize("answer", PASSING, ids=[answer.split()[0] for answer in PASSING])
def test_a_temporary_error_in_a_script_is_an_outage(answer):
    """A temporary error inside a script is an outage, although the server adds the position in the script."""
    assert outage_of(raised(f"{answer} script: 1f2e, on @user_script:3.")) is not None


@pytest.mark.parametrize("answer", LASTING, ids=[answer.split()[0] for answer in LASTING])
def test_a_permanent_error_is_no_outage(answer):
    """A defect or a wrong setting is not an outage, so that it is reported at once instead of retried."""
    assert outage_of(raised(answer)) is None


def test_a_database_that_the_server_does_not_have_is_named():
    """A number at the end of the address that is too high is a wrong setting, and the message says what to change."""
    with pytest.raises(QueueError, match="no database with this number"), answering():
        raise raised("ERR DB index is out of range")
