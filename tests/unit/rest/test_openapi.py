"""The description is OpenAPI 3.1 whose references lead somewhere."""

from __future__ import annotations

import json
import re

import jsonschema

from services.rest.openapi import build_openapi


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    document = build_openapi()
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(schemas)
    assert '"#/$defs/' not in text
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operations_are_named_once_and_say_what_can_go_wrong() -> None:
    paths = build_openapi()["paths"]
    operations = [operation for item in paths.values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    chat = paths["/v1/chat/completions"]["post"]
    assert {"200", "400", "404", "413", "429", "503"} <= set(chat["responses"])
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    assert not [name for name in paths if "lora" in name or "sleep" in name]
