"""The OpenAPI document, made of the table that the server is made of."""

from __future__ import annotations

from typing import Any

from bridges.queues import http_fields, http_messages
from bridges.queues.backend import CODES
from bridges.queues.http_fields import Kind, QueueName, Whole
from bridges.queues.http_messages import MESSAGE, PAYLOAD, STATS
from bridges.queues.http_routes import BASE, BYTES, JSON, ROUTES, Route

IN_PATH: dict[str, Kind] = {"queue": QueueName(), "id": Whole(1, http_fields.LARGEST_NUMBER)}


def document(version: str) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Heliograph queues", "version": version},
        "servers": [{"url": BASE}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Message": http_messages.schema_of((*MESSAGE, *PAYLOAD)),
                "Queue": http_messages.schema_of(STATS),
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
                },
            },
        },
    }


def operation(route: Route) -> dict[str, Any]:
    """One route."""
    described: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.about,
        "description": f'Needs a token with the right "{route.right}".',
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {str(route.status): _good(route), **_more(route), **_errors()},
    }
    if route.body is not None:
        described["requestBody"] = _body(route)
    return described


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": kind.schema()}
        for name, kind in IN_PATH.items()
        if f"{{{name}}}" in route.path
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "in": "query",
            "required": each.needed,
            "description": each.about,
            "schema": each.kind.schema(),
        }
        for each in route.query
    ]


def _body(route: Route) -> dict[str, Any]:
    fields = route.body or ()
    content: dict[str, Any] = {JSON: {"schema": http_fields.schema_of(fields)}}
    if route.takes_bytes:
        content["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    return {"required": any(each.needed for each in fields), "content": content}


def _good(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": route.answers}}
    described: dict[str, Any] = {"description": "Done.", "content": content}
    if route.gives_bytes:
        content[BYTES] = {"schema": {"type": "string", "format": "binary"}}
        described["headers"] = {
            http_messages.header_name(each.name): {
                "description": f"With {BYTES}, percent-encoded: {each.about}",
                "schema": {"type": "string"},
            }
            for each in MESSAGE
        }
    return described


def _more(route: Route) -> dict[str, Any]:
    return {"204": {"description": f"With {BYTES}: no message."}} if route.gives_bytes else {}


def _errors() -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code, status in CODES.items():
        by_status.setdefault(status, []).append(code)
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        str(status): {"description": ", ".join(codes), "content": {JSON: {"schema": schema}}}
        for status, codes in sorted(by_status.items())
    }
