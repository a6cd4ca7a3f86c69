"""Types and unknown keys: tables of plain values become a configuration, or one line why not."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.suggest import broken_rule, did_you_mean, quoted

Model = TypeVar("Model", bound=BaseModel)


def validated(
    model: type[Model], values: dict[str, Any], where: str = "the configuration"
) -> Model:
    """The values as this model.

    Args:
        model: with other models as its fields, or lists of them.
        values: nested tables.
        where: they stand, for errors.

    Raises:
        InvalidValueError: one line on the first thing that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidValueError(_one_line(model, error, where)) from None


def _one_line(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """The first problem in a validation error, in this project's words."""
    problems = error.errors()
    # A misspelt key is also a missing one: name what was written.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    # Unions add their branch to the location ("beta", "float"): keep the keys.
    path: list[str] = []
    known: dict[str, Any] = {}
    for part in first["loc"]:
        known = known if isinstance(part, int) else dict(model.model_fields)
        path.append(str(part))
        if isinstance(part, int):  # the place of a table in a list of them
            continue
        annotation = known[path[-1]].annotation if path[-1] in known else None
        if get_origin(annotation) is list:
            (annotation,) = get_args(annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        table = ".".join(path[:-1]) or where
        near = did_you_mean(path[-1], known)
        if len(path) == 1 and (inside := _tables_with(path[0], known)):
            near = f"; did you mean {inside[0]!r}?"
        return f"{table} has no key {path[-1]!r}{near}"
    if first["type"] == "missing" and len(path) == len(first["loc"]):
        return f"{key} is missing; add it to {where}"
    annotation = known[path[-1]].annotation if path[-1] in known else None
    if list[float] in get_args(annotation) and first["type"] != "finite_number":
        return (
            f"{key} must be a number, a list of numbers or a table of numbers by kind of layer, "
            f"but got {quoted(first['input'])}"
        )
    return broken_rule(key, first)


def _tables_with(leaf: str, fields: dict[str, Any]) -> list[str]:
    """Dotted keys of the tables among a model's fields that end like this."""
    return [
        f"{table}.{leaf}"
        for table, field in fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and leaf in field.annotation.model_fields
    ]
