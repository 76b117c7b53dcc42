"""The ``mlho`` command: its parser, its subcommands, and its terminal output."""
