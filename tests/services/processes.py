"""What the kernel knows of processes."""

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All that a process started, and what those started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, added = [], [pid]
    while added:
        added = [child for child, parent in parents.items() if parent in added]
        found += added
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there, and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
