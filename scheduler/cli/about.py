"""The commands about the program itself: ``mlho version``, ``crd`` and ``schema``."""

import argparse
import sys
from typing import Any

from mlho.printable import printable_json
from mlho.spec.schema import FILES, schema_of
from scheduler.cli import terminal
from scheduler.cli.help import SCHEMA_ABOUT
from scheduler.cli.options import SchemaOptions, VersionOptions


def add_about(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands."""
    version = commands.add_parser(
        "version",
        parents=[common],
        help="print the versions of this program and its libraries",
    )
    version.add_argument("--json", action="store_true", help="as a JSON object")
    version.set_defaults(command=_version)
    crd = commands.add_parser(
        "crd",
        parents=[common],
        help="print the CustomResourceDefinitions of this version, for kubectl apply",
    )
    crd.set_defaults(command=_crd)
    schema = commands.add_parser(
        "schema",
        parents=[common],
        help="print the JSON Schema of a specification, for editors",
        description=SCHEMA_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    schema.add_argument("kind", choices=tuple(FILES), help="kind of the specification")
    schema.set_defaults(command=_schema)


def _crd(_options: object) -> int:
    from scheduler.api.crd import render_crds

    print(render_crds(), end="")  # noqa: T201 - the command's output
    return 0


def _schema(options: SchemaOptions) -> int:
    print(schema_of(options.kind), end="")  # noqa: T201 - the command's output
    return 0


def _version(options: VersionOptions) -> int:
    from mlho.steps.publish.write_report import versions

    all_versions = {**versions(), "python": sys.version.split()[0]}
    if options.json:
        print(printable_json(all_versions))  # noqa: T201 - the command's output
        return 0
    for name, version in all_versions.items():
        terminal.out.print(f"{name:<16}{version}", markup=False)
    return 0
