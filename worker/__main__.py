"""``python -m worker --run RUN --store STORE --broker BROKER``: a cheap start, then the command."""

import gc
import os
import sys

from mlho.field_texts import omit


def main() -> int:
    """Run the command. Return its exit code.

    Child processes import this module again, so it imports nothing of the command before it is called.
    """
    # pydantic would look for plugins in the metadata of all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    omit()
    # structlog would import it for tracebacks, which are never logged.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    gc.disable()  # collections take a tenth of the imports and find nothing
    from worker.command import main as command

    gc.freeze()
    gc.enable()
    return command()


if __name__ == "__main__":
    sys.exit(main())
