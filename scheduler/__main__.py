"""``python -m scheduler``, which is also the ``mlho`` command: a start that costs little, then the command."""

import sys

from scheduler.engine.forkserver import begin_server


def main() -> int:
    """Run the command; return its exit code.

    Worker processes import the module that started the program, so that this one imports nothing of the command before
    it is called. Their server imports what they need while the command itself still does.
    """
    if sys.argv[1:2] == ["run"] and not any(word.startswith("--broker") for word in sys.argv):
        begin_server()
    from scheduler.cli.parser import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
