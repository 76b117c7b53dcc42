"""What happens in Redis in one step, as Lua. Time is the server's, so that no worker's clock can matter.

Each script is small enough to be checked against a model of itself in Python (``tests/unit/protocol``). Keys come first, in the
order of the ``KEYS`` tuples of names; arguments are described above each script. ``now`` is in milliseconds.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mlho.protocol.names import KEEP_SECONDS, LASTING, Names

LEASE_MS: Final = 5_000
HEARTBEAT_SECONDS: Final = 1.25  # a quarter of the lease: three heartbeats may be lost
MAX_ATTEMPTS: Final = 3


class Verdict(StrEnum):
    """What a claim says."""

    CLAIMED = "claimed"  # the lease is ours: run
    COMMITTED = "committed"  # done already
    LEASED = "leased"  # somebody else is at it
    EXHAUSTED = "exhausted"  # its budget of starts is used up: quarantined
    CANCELLED = "cancelled"
    UNREADY = "unready"  # Redis was emptied and the scheduler has not yet come by
    CONSULT = "consult"  # Redis was emptied: ask the store how often this task was started, and claim again
    EXPIRED = "expired"
    REPLAYED = "replayed"


class Beat(StrEnum):
    """What a heartbeat says about the execution."""

    GO_ON = "go on"
    CANCELLED = "cancelled"
    DONE = "done"
    UNREADY = "unready"


@dataclass(frozen=True)
class Script:
    """One Lua script and the names of its keys (attributes of :class:`Names`)."""

    keys: tuple[str, ...]
    body: str

    @property
    def lua(self) -> str:
        """What Redis runs: the body, and after it no key that the script knows lasts longer than it should without a sign of life."""
        return f"local function act()\n{self.body}\nend\nlocal answer = act()\n{_KEEP}return answer\n"

    def keys_of(self, names: Names) -> list[str]:
        """The keys for one execution."""
        return [getattr(names, key) for key in self.keys]


_KEEP: Final = f"for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, {KEEP_SECONDS * 1000}) end -- 0 if it is not there\n"
_NOW: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# task, owner, lease in ms, budget, nonce, when the message expires, starts that the store knows of (-1: not asked).
# The attempt is counted before anything runs: whatever kills a whole container leaves nobody to count afterwards.
CLAIM: Final = Script(
    ("epoch", "cancelled", "committed", "attempts", "owners", "nonces", "quarantine", "leases", "events"),
    _NOW
    + """
local task, owner, lease, budget = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local nonce, expires, stored = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {'unready', 0} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'cancelled', 0} end
if redis.call('SISMEMBER', KEYS[3], task) == 1 then -- the scheduler asked again: it may have missed the first event
  redis.call('RPUSH', KEYS[9], cjson.encode({event = 'committed', task = task, new = false}))
  return {'committed', 0}
end
local counted = redis.call('HGET', KEYS[4], task)
local attempts = tonumber(counted or '0')
if redis.call('HGET', KEYS[5], task) == owner then return {'claimed', attempts} end -- the first reply was lost
if now > expires then
  redis.call('RPUSH', KEYS[9], cjson.encode({event = 'expired', task = task}))
  return {'expired', attempts}
end
if redis.call('ZSCORE', KEYS[6], nonce) then return {'replayed', attempts} end
local spent = redis.call('HGET', KEYS[7], task)
if spent then -- as above: a scheduler that was killed or stopped may have taken the first event with it
  redis.call('RPUSH', KEYS[9], cjson.encode({event = 'exhausted', task = task, attempt = tonumber(spent)}))
  return {'exhausted', attempts}
end
local held = redis.call('ZSCORE', KEYS[8], task)
if held and tonumber(held) > now then return {'leased', attempts} end
if epoch ~= '1' and not counted and stored < 0 then return {'consult', 0} end
attempts = math.max(attempts, stored)
if attempts >= budget then
  redis.call('HSET', KEYS[7], task, attempts)
  redis.call('RPUSH', KEYS[9], cjson.encode({event = 'exhausted', task = task, attempt = attempts}))
  return {'exhausted', attempts}
end
redis.call('HSET', KEYS[4], task, attempts + 1)
redis.call('ZADD', KEYS[8], now + lease, task)
redis.call('HSET', KEYS[5], task, owner)
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
redis.call('ZADD', KEYS[6], expires, nonce)
return {'claimed', attempts + 1}
""",
)

_BEATEN: Final = (
    "epoch",
    "cancelled",
    "done",
    "workers",
    "committed",
    "attempts",
    "owners",
    "quarantine",
    "leases",
)
# lease in ms, "worker/slots", then task, owner, attempt for each lease held. Answers the execution's state and the leases lost.
# A lease that nobody holds is taken up again: Redis was emptied, or restarted from an older file, and the work is under way.
# It is the sign of life of its worker, for which all keys are kept.
HEARTBEAT: Final = Script(
    (*_BEATEN, *(name for name in LASTING if name not in _BEATEN)),
    _NOW
    + """
local lease = tonumber(ARGV[1])
local state = 'go on'
if redis.call('EXISTS', KEYS[2]) == 1 then state = 'cancelled'
elseif redis.call('EXISTS', KEYS[3]) == 1 then state = 'done'
elseif redis.call('EXISTS', KEYS[1]) == 0 then state = 'unready' end
local answer = {state}
if state == 'unready' then return answer end
redis.call('ZADD', KEYS[4], now + 2 * lease, ARGV[2])
for i = 3, #ARGV, 3 do
  local task, owner, attempt = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local holder = redis.call('HGET', KEYS[7], task)
  local is_over = redis.call('SISMEMBER', KEYS[5], task) == 1 or redis.call('HEXISTS', KEYS[8], task) == 1
  if holder == owner or (not holder and not is_over) then
    redis.call('ZADD', KEYS[9], now + lease, task)
    redis.call('HSET', KEYS[7], task, owner)
    if attempt > tonumber(redis.call('HGET', KEYS[6], task) or '0') then redis.call('HSET', KEYS[6], task, attempt) end
  else
    answer[#answer + 1] = owner
  end
end
return answer
""",
)

# task, owner, event. Unconditional: the commit record is in the store, whoever holds the lease.
COMPLETE: Final = Script(
    ("committed", "attempts", "owners", "leases", "events"),
    """
local task = ARGV[1]
redis.call('SADD', KEYS[1], task)
redis.call('HDEL', KEYS[2], task)
if redis.call('HGET', KEYS[3], task) == ARGV[2] then
  redis.call('HDEL', KEYS[3], task)
  redis.call('ZREM', KEYS[4], task)
end
redis.call('RPUSH', KEYS[5], ARGV[3])
return 1
""",
)

# task, owner, 1 if the attempt counts and 0 if not, event. Nothing happens unless the lease is the owner's.
RELEASE: Final = Script(
    ("attempts", "owners", "leases", "events"),
    """
local task = ARGV[1]
if redis.call('HGET', KEYS[2], task) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], task)
redis.call('ZREM', KEYS[3], task)
if ARGV[3] == '0' and tonumber(redis.call('HGET', KEYS[1], task) or '0') > 0 then
  redis.call('HINCRBY', KEYS[1], task, -1)
end
redis.call('RPUSH', KEYS[4], ARGV[4])
return 1
""",
)

# most tasks to take. Ends the leases that have expired; answers task, attempts, task, attempts …
REAP: Final = Script(
    ("attempts", "owners", "leases"),
    _NOW
    + """
local answer = {}
for _, task in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  redis.call('ZREM', KEYS[3], task)
  redis.call('HDEL', KEYS[2], task)
  answer[#answer + 1] = task
  answer[#answer + 1] = tonumber(redis.call('HGET', KEYS[1], task) or '0')
end
return answer
""",
)

# Only where the execution is declared: a scheduler that was stopped, and is woken when its keys are gone, leaves none behind.
TELL: Final = Script(
    ("epoch", "progress"),
    """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('SET', KEYS[2], ARGV[1])
end
""",
)
