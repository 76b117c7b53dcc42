"""One CEL validation rule of a custom resource, and several of one node."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CelRule:
    """One validation rule."""

    at: str
    """Path of the schema node to which the rule belongs, such as ``spec.cohort``; empty for the resource."""
    rule: str
    """CEL expression, true for a valid resource."""
    message: str
    """Error message for an invalid resource."""
    field: str = ""
    """Path of the field to report, relative to ``at``; empty for the node itself."""

    def plain(self) -> dict[str, str]:
        """Return the rule as an entry of ``x-kubernetes-validations``."""
        validation = {"rule": self.rule, "message": self.message}
        return validation | ({"fieldPath": f".{self.field}"} if self.field else {})


def rules_at(node: str, *rules: tuple[str, str]) -> list[CelRule]:
    """Return the rules of one schema node, given as expression and message."""
    return [CelRule(node, rule, message) for rule, message in rules]
