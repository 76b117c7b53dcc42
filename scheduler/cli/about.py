"""The commands about the program itself: ``mlho version``, ``crd`` and ``schema``."""

import sys

from mlho.spec.schema import FILES, schema_of
from scheduler.cli import terminal
from scheduler.cli.help import SCHEMA_ABOUT
from scheduler.cli.options import Commands, SchemaOptions, VersionOptions


def add_about(commands: Commands) -> None:
    """Add the commands."""
    version = commands.add("version", _version, "print the versions of this program and its libraries")
    version.add_argument("--json", action="store_true", help="as a JSON object")
    commands.add("crd", _crd, "print the CustomResourceDefinitions of this version, for kubectl apply")
    schema = commands.add(
        "schema", _schema, "print the JSON Schema of a specification, for editors", SCHEMA_ABOUT
    )
    schema.add_argument("kind", choices=tuple(FILES), help="kind of the specification")


def _crd(_options: object) -> int:
    from scheduler.api.crd import render_crds

    terminal.print_document(render_crds())
    return 0


def _schema(options: SchemaOptions) -> int:
    terminal.print_document(schema_of(options.kind))
    return 0


def _version(options: VersionOptions) -> int:
    from mlho.steps.publish.write_report import versions

    all_versions = {**versions(), "python": sys.version.split()[0]}
    if options.json:
        terminal.print_json(all_versions)
        return 0
    for name, version in all_versions.items():
        terminal.print_line(f"{name:<16}{version}")
    return 0
