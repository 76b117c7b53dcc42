"""Atomic operations in Redis, as Lua scripts.

They use the server's time, so the clocks of workers do not matter. Each script is small enough to be checked against a model
in Python (``tests/unit/protocol``). Keys come first, in the order of the tuple of names next to the script. Arguments are
described above each script. ``now`` is in milliseconds.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mlho.protocol.names import KEEP_SECONDS, LASTING, TYPES, Names

LEASE_MS: Final = 5_000
HEARTBEAT_SECONDS: Final = 1.25  # a quarter of the lease, so that three heartbeats may be lost
MAX_ATTEMPTS: Final = 3
MESSAGE_MS: Final = 3_600_000
"""Longest time for which a message stays valid in the queue."""
WRONG_TYPE: Final = "WRONGTYPE"
"""First word of Redis's error for a key of a different type."""


class ClaimVerdict(StrEnum):
    """Result of a claim."""

    CLAIMED = "claimed"  # the lease is ours: run the task
    COMMITTED = "committed"  # already committed
    LEASED = "leased"  # another worker holds the lease
    CANCELLED = "cancelled"
    UNREADY = "unready"  # Redis was emptied, and the scheduler has not yet declared the execution again
    EXPIRED = "expired"
    REPLAYED = "replayed"


class HeartbeatState(StrEnum):
    """State of the execution that a heartbeat returns."""

    GO_ON = "go on"
    CANCELLED = "cancelled"
    DONE = "done"
    UNREADY = "unready"


@dataclass(frozen=True)
class Script:
    """A Lua script and the names of its keys (attributes of :class:`Names`)."""

    keys: tuple[str, ...]
    body: str

    @property
    def lua(self) -> str:
        """Return the script to execute: an error if a key has the wrong type; then the body; then the
        TTL of all keys.
        """
        types = ", ".join(f"'{TYPES[key]}'" for key in self.keys)
        return f"local types = {{{types}}}\n{_CHECK_TYPES}local function act()\n{self.body}\nend\nlocal answer = act()\n{_KEEP}return answer\n"

    def keys_of(self, names: Names) -> list[str]:
        """Return the keys of one execution."""
        return [getattr(names, key) for key in self.keys]


_ANY_SIZE: Final = 2**53
# One grows with the completed tasks, the other with the messages of an hour.
_LONG: Final = ("committed", "nonces")
_CHECK_TYPES: Final = f"""
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= types[i] then return redis.error_reply('{WRONG_TYPE} a key has a different type') end
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

# task, owner, lease in ms, nonce, expiry of the message. Returns the number of this attempt as far as Redis
# knows, or 0 if Redis was emptied, holds no valid count, or is asked again. The attempt is counted before anything runs,
# because a failure that kills a whole container leaves no process to count it.
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
if redis.call('HGET', KEYS[5], task) == owner then -- the first reply was lost
  redis.call('ZADD', KEYS[7], now + lease, task)
  return {{'claimed', 0}}
end
if now > expires then return {{'expired', attempts}} end
if redis.call('ZSCORE', KEYS[6], nonce) then return {{'replayed', attempts}} end
local held = redis.call('ZSCORE', KEYS[7], task)
if held and tonumber(held) > now then return {{'leased', attempts}} end
redis.call('HSET', KEYS[4], task, attempts + 1)
redis.call('ZADD', KEYS[7], now + lease, task)
redis.call('HSET', KEYS[5], task, owner)
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[6], now + {2 * MESSAGE_MS}, '+inf') -- no message lives so long
redis.call('ZADD', KEYS[6], expires, nonce)
if not is_count or (epoch ~= '1' and not known) then return {{'claimed', 0}} end
return {{'claimed', attempts + 1}}
""",
)

_BEATEN: Final = ("epoch", "cancelled", "done", "workers", "committed", "attempts", "owners", "leases")
# lease in ms, "worker/slots", then task, owner, attempt for each lease held. Returns the execution's state
# and the lost leases. A lease without a holder is taken again: Redis was emptied or restored from an older
# file while the task was running. The heartbeat is the worker's sign of life, which extends the TTL of all
# keys.
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

# task, owner, event. Unconditional: the commit record is in the store, regardless of the current holder of
# the lease.
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

# task, owner, 1 if the attempt counts and 0 if not, event. Does nothing unless this owner holds the lease.
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

# maximum number of tasks, longest lease in ms. Removes the expired leases. Returns the number of leases that
# were too long, then task, attempts, task, attempts … A lease that is too long is shortened: it was forged,
# or the clock of Redis was set back.
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

# for each key, the required type and the maximum number of items. Deletes the keys that violate these and
# returns their number. Their content is rebuilt from the store.
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
    """Return the arguments of the script that deletes invalid keys.

    Parameters
    ----------
    most : int, optional
        Maximum number of items of the keys whose size is bounded by the tasks in flight.
    """
    pairs = (
        (kind, most if most is not None and name not in _LONG else _ANY_SIZE) for name, kind in TYPES.items()
    )
    return [argument for pair in pairs for argument in pair]


# Writes only if the execution is declared: a scheduler that resumes after its keys were deleted must not
# leave a new key behind.
TELL: Final = Script(
    ("epoch", "progress"),
    """
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('SET', KEYS[2], ARGV[1])
end
""",
)
