"""A worker whose fork server imports only what reads tables, for runs that fail there."""

import sys

if __name__ == "__main__":
    import worker.child_processes
    from worker.command import main

    worker.child_processes.PRELOAD = ("mlho.steps.preload.tables", "worker.child")  # type: ignore[misc] - it is Final

    sys.exit(main())
