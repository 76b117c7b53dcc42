"""The ``mlho`` command: its parser, its sub-commands, and what it shows on a terminal."""
