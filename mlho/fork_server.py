"""Facts about the fork server of worker processes, for the command and for the server itself. It imports no other module of the project."""

import signal
import sys
from typing import Final

IS_SERVER: Final = any("multiprocessing.forkserver" in word for word in sys.orig_argv)
"""Whether this process is a fork server or a child of one."""
REST_SIGNAL: Final = signal.SIGUSR1
"""Asks the fork server of ``mlho run`` to import the modules that only learning needs."""
