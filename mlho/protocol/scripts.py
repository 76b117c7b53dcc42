"""What happens in Redis in one step, as Lua. Time is the server's, so that no worker's clock can matter.

Each script is small enough to be checked against a model of itself in Python (``tests/unit/protocol``). Keys come first, in the
order of the ``KEYS`` tuples of names; arguments are described above each script. ``now`` is in milliseconds.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mlho.protocol.names import KEEP_SECONDS, LASTING, TYPES, Names

LEASE_MS: Final = 5_000
HEARTBEAT_SECONDS: Final = 1.25  # a quarter of the lease: three heartbeats may be lost
MAX_ATTEMPTS: Final = 3
MESSAGE_MS: Final = 3_600_000
"""How long a message may wait in the queue."""
WRONG_TYPE: Final = "WRONGTYPE"
"""First word of what Redis answers where a key has another type."""


class Verdict(StrEnum):
    """What a claim says."""

    CLAIMED = "claimed"  # the lease is ours: run
    COMMITTED = "committed"  # done already
    LEASED = "leased"  # somebody else is at it
    CANCELLED = "cancelled"
    UNREADY = "unready"  # Redis was emptied and the scheduler has not yet come by
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
        """What Redis runs: nothing where a key has the wrong type; then the body; then no key lasts too long without a sign of life."""
        types = ", ".join(f"'{TYPES[key]}'" for key in self.keys)
        return f"local types = {{{types}}}\n{_CHECK_TYPES}local function act()\n{self.body}\nend\nlocal answer = act()\n{_KEEP}return answer\n"

    def keys_of(self, names: Names) -> list[str]:
        """The keys for one execution."""
        return [getattr(names, key) for key in self.keys]


_ANY_SIZE: Final = 2**53
_LONG: Final = ("committed", "nonces")  # as many as tasks done, and as messages of an hour
_CHECK_TYPES: Final = f"""
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= types[i] then return redis.error_reply('{WRONG_TYPE} a key has another type') end
end
"""
_KEEP: Final = f"for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, {KEEP_SECONDS * 1000}) end -- 0 if it is not there\n"
_NOW: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_COUNTED: Final = """
local function counted(text) -- a hint that anybody may have written
  local number = tonumber(text or '0')
  if number and number >= 0 and number <= 1000 then return math.floor(number), true end
  return 0, false
end
"""

# task, owner, lease in ms, nonce, when the message expires. Answers which start of the task this is, as far as Redis knows;
# 0: Redis was emptied, or what it has is no count. The start is counted before anything runs: whatever kills a whole container leaves nobody to count afterwards.
CLAIM: Final = Script(
    ("epoch", "cancelled", "committed", "attempts", "owners", "nonces", "leases"),
    _NOW
    + _COUNTED
    + f"""
local task, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local nonce, expires = ARGV[4], tonumber(ARGV[5])
local epoch = redis.call('GET', KEYS[1])
if not epoch then return {{'unready', 0}} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {{'cancelled', 0}} end
if redis.call('SISMEMBER', KEYS[3], task) == 1 then return {{'committed', 0}} end
local known = redis.call('HGET', KEYS[4], task)
local attempts, is_count = counted(known)
if redis.call('HGET', KEYS[5], task) == owner then return {{'claimed', attempts}} end -- the first reply was lost
if now > expires then return {{'expired', attempts}} end
if redis.call('ZSCORE', KEYS[6], nonce) then return {{'replayed', attempts}} end
local held = redis.call('ZSCORE', KEYS[7], task)
if held and tonumber(held) > now then return {{'leased', attempts}} end
redis.call('HSET', KEYS[4], task, attempts + 1)
redis.call('ZADD', KEYS[7], now + lease, task)
redis.call('HSET', KEYS[5], task, owner)
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[6], now + {2 * MESSAGE_MS}, '+inf') -- no message of ours lives so long
redis.call('ZADD', KEYS[6], expires, nonce)
if not is_count or (epoch ~= '1' and not known) then return {{'claimed', 0}} end
return {{'claimed', attempts + 1}}
""",
)

_BEATEN: Final = ("epoch", "cancelled", "done", "workers", "committed", "attempts", "owners", "leases")
# lease in ms, "worker/slots", then task, owner, attempt for each lease held. Answers the execution's state and the leases lost.
# A lease that nobody holds is taken up again: Redis was emptied, or restarted from an older file, and the work is under way.
# It is the sign of life of its worker, for which all keys are kept.
HEARTBEAT: Final = Script(
    (*_BEATEN, *(name for name in LASTING if name not in _BEATEN)),
    _NOW
    + _COUNTED
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
  local is_over = redis.call('SISMEMBER', KEYS[5], task) == 1
  if holder == owner or (not holder and not is_over) then
    redis.call('ZADD', KEYS[8], now + lease, task)
    redis.call('HSET', KEYS[7], task, owner)
    if attempt > counted(redis.call('HGET', KEYS[6], task)) then redis.call('HSET', KEYS[6], task, attempt) end
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
    _COUNTED
    + """
local task = ARGV[1]
if redis.call('HGET', KEYS[2], task) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], task)
redis.call('ZREM', KEYS[3], task)
local attempts = counted(redis.call('HGET', KEYS[1], task))
if ARGV[3] == '0' and attempts > 0 then redis.call('HSET', KEYS[1], task, attempts - 1) end
redis.call('RPUSH', KEYS[4], ARGV[4])
return 1
""",
)

# most tasks to take, longest lease in ms. Ends the leases that have expired; answers how many were too long, then task, attempts, task, attempts …
# A lease that is too long is shortened: nobody can have given it, or the clock of Redis was set back.
REAP: Final = Script(
    ("attempts", "owners", "leases"),
    _NOW
    + _COUNTED
    + """
local most, last = tonumber(ARGV[1]), now + tonumber(ARGV[2])
local long = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. last, '+inf', 'LIMIT', 0, most)
for _, task in ipairs(long) do redis.call('ZADD', KEYS[3], last, task) end
local answer = {#long}
for _, task in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', KEYS[3], task)
  redis.call('HDEL', KEYS[2], task)
  answer[#answer + 1] = task
  answer[#answer + 1] = (counted(redis.call('HGET', KEYS[1], task)))
end
return answer
""",
)

# for each key, the type that it must have and how many items at most. Deletes the keys of which that is not so, and answers how many: what they
# held is derived again from the store.
MEND_LUA: Final = """
local size = {list = 'LLEN', hash = 'HLEN', set = 'SCARD', zset = 'ZCARD'}
local n_deleted = 0
for i, key in ipairs(KEYS) do
  local kind, expected, most = redis.call('TYPE', key).ok, ARGV[2 * i - 1], tonumber(ARGV[2 * i])
  if kind ~= 'none' and (kind ~= expected or (size[kind] and redis.call(size[kind], key) > most)) then
    redis.call('UNLINK', key)
    n_deleted = n_deleted + 1
  end
end
return n_deleted
"""


def mend_arguments(most: int | None = None) -> list[str | int]:
    """Arguments of the script that mends the lasting keys.

    Parameters
    ----------
    most : int, optional
        Items that a key may have, of those that hold no more than the tasks under way.
    """
    pairs = (
        (kind, most if most is not None and name not in _LONG else _ANY_SIZE) for name, kind in TYPES.items()
    )
    return [argument for pair in pairs for argument in pair]


# Only where the execution is declared: a scheduler that was stopped, and is woken when its keys are gone, leaves none behind.
TELL: Final = Script(
    ("epoch", "progress"),
    """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('SET', KEYS[2], ARGV[1])
end
""",
)
