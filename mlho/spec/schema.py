"""JSON Schemas of the specifications, for editors, which show names, types and descriptions while a file is written.

A schema is less strict than the program: only ``mlho validate`` checks rules that involve several fields.
"""

import json
from typing import Any, Final

from pydantic import BaseModel

from mlho.spec.reading import CLUSTER_ONLY
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import RunSpec

MODELS: Final[dict[str, type[BaseModel]]] = {"TrainingRun": RunSpec, "ScoringRun": ScoringRunSpec}
FILES: Final = {"TrainingRun": "training-run.schema.json", "ScoringRun": "scoring-run.schema.json"}
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_CLUSTER_WORDS: Final = "For a run in a cluster; does not affect results. See docs/kubernetes.md."


def schema_of(kind: str) -> str:
    """Return the JSON Schema of a specification of this kind, as JSON text."""
    schema = MODELS[kind].model_json_schema(by_alias=True)
    parts: dict[str, Any] = schema["$defs"]
    for name in ("Index", "ScoringIndex"):
        if name in parts:  # in a file, ``index: none`` is short for ``{none: true}``
            parts[name] = {
                "anyOf": [{"const": "none"}, parts[name]],
                "description": parts[name]["description"],
            }
    for name in ("TrainingSpec", "ScoringSpec"):
        if name in parts:
            parts[name]["properties"] |= {field: {"description": _CLUSTER_WORDS} for field in CLUSTER_ONLY}
    whole = {"$schema": _DIALECT, **_plain(schema), "title": kind}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _plain(node: Any) -> Any:
    """Return a schema with its descriptions as one line of Markdown."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(value) for name, value in node.items()}
    if isinstance(node.get("description"), str):
        plain["description"] = " ".join(node["description"].split()).replace("``", "`")
    return plain
