"""The start of the ``mlho`` command, before its modules are imported."""

import subprocess
import sys

_PROGRAM = """
import sys

class Interrupting:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "scheduler.cli.parser":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting)
sys.argv = ["mlho", "list"]
from scheduler.__main__ import main
sys.exit(main())
"""


def test_ctrl_c_during_the_imports_of_the_command_is_no_traceback():
    """The command takes some tenths of a second to import. Ctrl-C then ends it as it does later, with exit code 130."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nStopped before anything began.\n")
