"""The OpenAPI 3.1 description, from the very schemas that check requests.

What must not live here: schemas (schema.py), routes.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from cluster.core import wire
from cluster.core.request import Route
from services.api.schema import BODIES

VERSION = "1"
"""The version of this surface; the path prefix /v1 is OpenAI's."""
SUMMARIES = {
    Route.CHAT: "Chat completion (OpenAI)",
    Route.COMPLETIONS: "Text completion (OpenAI)",
    Route.RESPONSES: "Response (OpenAI)",
    Route.MESSAGES: "Message (Anthropic)",
    Route.EMBEDDINGS: "Embeddings (OpenAI)",
    Route.RERANK: "Rerank documents for a query",
    Route.TOKENIZE: "Token ids of a prompt",
    Route.DETOKENIZE: "Text of token ids",
}
ERRORS = {
    "400": "The request is wrong; the field is named in error.param. code context_length_exceeded: too long",
    "404": "No such model",
    "408": "The body stopped arriving",
    "413": "The body is over the gateway's limit",
    "415": "The body is encoded",
    "422": "The idempotency-key belongs to another request",
    "429": "Busy: see Retry-After",
    "502": "The replica broke off before its answer began",
    "503": "No replica can take it now: see Retry-After",
    "504": "The replica gave no answer in time",
}
READS = {
    "/v1/models": ("listModels", "Every model name, with its largest context", "application/json"),
    "/health": ("health", "This process answers", "application/json"),
    "/ready": ("ready", "200 while some model has a healthy endpoint, else 503", "application/json"),
    "/openapi.json": ("openapi", "This document", "application/json"),
}
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
        }
    },
}


def build_openapi() -> dict[str, Any]:
    """The whole document."""
    _, schemas = models_json_schema(
        [(body, "validation") for body in BODIES.values()], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {f"/v1/{route.value}": {"post": _operation(route)} for route in Route}
    for path, (name, summary, media) in READS.items():
        paths[path] = {"get": _read(name, summary, media)}
    paths["/ready"]["get"]["responses"]["503"] = {"description": "Draining, or nobody to serve"}
    paths["/v1/models/{name}"] = {
        "get": {
            **_read("getModel", "One model", "application/json"),
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        }
    }
    paths["/v1/models/{name}"]["get"]["responses"]["404"] = _error("No such model")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Longreach gateway",
            "version": VERSION,
            "description": "OpenAI-compatible models, routed by context length. Fields not described here pass to "
            "the engine as they come.",
        },
        "paths": paths,
        "components": {"schemas": {**schemas.get("$defs", {}), "Error": ERROR_SCHEMA}},
    }


def _operation(route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if route.generates:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in (
            (wire.HEADER_REQUEST_ID, "Names this request in logs; the client's own where it gave one"),
            (wire.HEADER_POOL, "The pool that served it"),
            (wire.HEADER_REPLICA, "The replica that served it"),
            (wire.HEADER_REASON, "Why it went there"),
            (wire.HEADER_REVISION, "What that replica calls itself, where it has a name"),
            (wire.HEADER_REPLAYED, "true where the answer was made for an earlier request with the idempotency-key"),
        )
    }
    return {
        "operationId": route.name.lower(),
        "summary": SUMMARIES[route],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{BODIES[route].__name__}"}}},
        },
        "responses": {
            "200": {"description": "The engine's answer", "headers": headers, "content": answer},
            **{status: _error(text) for status, text in ERRORS.items()},
        },
    }


def _read(name: str, summary: str, media: str) -> dict[str, Any]:
    schema = {"type": "string"} if media == "text/plain" else {"type": "object"}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {media: {"schema": schema}}}},
    }


def _error(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
