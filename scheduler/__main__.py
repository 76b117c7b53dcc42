"""``python -m scheduler``, which is also the ``mlho`` command: a cheap start, then the command."""

import gc
import os
import signal
import sys
from importlib import import_module

_WITH_TEXTS = ("crd", "dossier", "init", "schema")  # they print the texts under the fields of specifications
_INTERRUPTED = 130  # as in scheduler.cli.parser, which is imported later
_EXIT_SECONDS = 2.0


def main() -> int:
    """Run the command. Return its exit code.

    Worker processes import the module that started the program, so this module imports the command only when it is
    called. The fork server is forked after the imports that it shares with the command. Both then do their other
    imports in parallel.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, _stop)
    from mlho.field_texts import omit
    from scheduler.engine.forkserver import IN_PARTS, WHOLE, begin_server

    # pydantic would look for plugins in the metadata of all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Programs that this one starts would otherwise import a random.py, or another copy of mlho, from the working directory.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    name = "".join(sys.argv[1:2])
    if name.isalpha() and name not in _WITH_TEXTS:
        omit()
    preload = {"run": IN_PARTS, "score": WHOLE, "recalibrate": WHOLE}.get(name)
    gc.disable()  # collections take a tenth of the imports and find nothing
    if preload is not None and not any(word.startswith("--broker") for word in sys.argv):
        import_module("scheduler.engine.process_pool")  # shared by the fork server and the command
        begin_server(preload, is_forked=True)
    from scheduler.cli.parser import main as command

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, on_interrupt)  # the command handles it
    code = command()
    if code == _INTERRUPTED:
        from mlho.processes import exit_later

        # Threads may wait for a server that does not answer. The interpreter would wait for them, until the next Ctrl-C.
        exit_later(_EXIT_SECONDS, code, sys.stdout.flush)
    return code


def _stop(*_: object) -> None:
    """Exit during the imports. They would drop a KeyboardInterrupt in one of their callbacks, and the run would go on."""
    os.write(sys.stderr.fileno(), b"\nStopped before anything began.\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
