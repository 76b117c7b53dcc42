"""Validators of models for processes that a fork server starts later: built once, and not by each process."""

from collections.abc import Iterator

from pydantic import BaseModel


def build_models() -> None:
    """Build the validators of all models that are defined; otherwise their first use would, most often in the last tasks, which follow one another."""
    for model in _models_below(BaseModel):
        if model.__module__.startswith("mlho.") and not model.__pydantic_complete__:
            model.model_rebuild()


def _models_below(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models_below(model)
