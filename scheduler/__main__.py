"""``python -m scheduler``: the ``mlho`` command under the program's name, for containers."""

import sys

from scheduler.cli import main

if __name__ == "__main__":
    sys.exit(main())
