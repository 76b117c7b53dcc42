"""A reference model of the claim scripts in plain Python. The test advances its time."""

from dataclasses import dataclass, field


@dataclass
class Model:
    """The state of one execution in Redis."""

    epoch: int = 0
    cancelled: bool = False
    committed: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)  # tasks with a lease that has not expired
    expired: set[str] = field(default_factory=set)  # tasks with an expired lease
    nonces: set[str] = field(default_factory=set)
    events: list[tuple[str, str]] = field(default_factory=list)

    def claim(self, task: str, owner: str, nonce: str, *, is_stale: bool) -> tuple[str, int]:
        if not self.epoch:
            return "unready", 0
        if self.cancelled:
            return "cancelled", 0
        if task in self.committed:
            return "committed", 0
        is_known = task in self.attempts
        attempts = self.attempts.get(task, 0)
        if self.owners.get(task) == owner:
            self.expired.discard(task)
            self.live.add(task)
            return "claimed", 0
        if is_stale:
            return "expired", attempts
        if nonce in self.nonces:
            return "replayed", attempts
        if task in self.live:
            return "leased", attempts
        self.attempts[task] = attempts + 1
        self.expired.discard(task)
        self.live.add(task)
        self.owners[task] = owner
        self.nonces.add(nonce)
        return "claimed", attempts + 1 if is_known or self.epoch == 1 else 0

    def heartbeat(self, leases: list[tuple[str, str, int]]) -> tuple[str, set[str]]:
        state = "cancelled" if self.cancelled else "go on" if self.epoch else "unready"
        if state == "unready":
            return state, set()
        lost = set()
        for task, owner, attempt in leases:
            holder = self.owners.get(task)
            is_over = task in self.committed
            if holder == owner or (holder is None and not is_over):
                self.expired.discard(task)
                self.live.add(task)
                self.owners[task] = owner
                if attempt > self.attempts.get(task, 0):
                    self.attempts[task] = attempt
            else:
                lost.add(owner)
        return state, lost

    def complete(self, task: str, owner: str) -> None:
        self.committed.add(task)
        self.attempts.pop(task, None)
        if self.owners.get(task) == owner:
            self._end(task)
        self.events.append(("committed", task))

    def release(self, task: str, owner: str, *, counts: bool) -> bool:
        if self.owners.get(task) != owner:
            return False
        self._end(task)
        if not counts and self.attempts.get(task, 0) > 0:
            self.attempts[task] -= 1
        self.events.append(("released", task))
        return True

    def reap(self) -> dict[str, int]:
        reaped = {task: self.attempts.get(task, 0) for task in self.expired}
        for task in reaped:
            self._end(task)
        return reaped

    def expire(self, task: str) -> None:
        if task in self.live:
            self.live.remove(task)
            self.expired.add(task)

    def flush(self) -> None:
        self.__init__()  # type: ignore[misc] - a model is emptied as a server is

    def _end(self, task: str) -> None:
        self.owners.pop(task, None)
        self.live.discard(task)
        self.expired.discard(task)
