"""The API's description as a page: written here from its OpenAPI, so that it needs no script and no other host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "maxLength": "at most {} characters",
    "enum": "one of {}",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter, or one field of a schema."""

    name: str
    where: str
    kind: str
    facts: str
    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    summary: str
    fields: tuple[Field, ...]
    answers: tuple[tuple[str, str, str], ...]


def api_page(openapi: dict[str, Any]) -> str:
    """Return the page."""
    template = resources.files("vtr.serving").joinpath("api_page.html").read_text(encoding="utf-8")
    schemas = openapi.get("components", {}).get("schemas", {})
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(
        info=openapi["info"],
        routes=list(_routes(openapi)),
        schemas={name: (schema.get("description", ""), _fields(schema, "")) for name, schema in schemas.items()},
    )


def _routes(openapi: dict[str, Any]) -> Iterator[Route]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {})
            fields = [_field(one["name"], one["in"], one["schema"], one) for one in operation.get("parameters", [])]
            for kind, content in body.items():
                fields += _fields(content["schema"], kind)
            answers = [
                (status, answer.get("description", ""), ", ".join(map(_content, answer.get("content", {}).items())))
                for status, answer in sorted(operation["responses"].items())
            ]
            summary = operation.get("description") or operation.get("summary", "")
            yield Route(method.upper(), path, summary, tuple(fields), tuple(answers))


def _content(entry: tuple[str, dict[str, Any]]) -> str:
    media_type, content = entry
    kind = _kind(content.get("schema", {}))
    return kind if media_type == "application/json" else media_type


def _fields(schema: dict[str, Any], where: str) -> list[Field]:
    needed = schema.get("required", [])
    properties = schema.get("properties", {})
    return [_field(name, where, one, {"required": name in needed}) for name, one in properties.items()]


def _field(name: str, where: str, schema: dict[str, Any], said: dict[str, Any]) -> Field:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    facts = [words.format(_value(one[key])) for one in options for key, words in BOUNDS.items() if key in one]
    if said.get("required"):
        facts.insert(0, "required")
    elif schema.get("default") is not None:
        facts.insert(0, f"default {schema['default']}")
    return Field(name, where, _kind(schema), ", ".join(facts), said.get("description") or schema.get("description", ""))


def _value(value: Any) -> str:
    """Return a bound in words: numbers short, choices with commas."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(kind for one in schema["anyOf"] if (kind := _kind(one)) != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_kind(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type") or schema.get("const", ""))
