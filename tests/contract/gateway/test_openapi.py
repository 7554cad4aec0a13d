"""The OpenAPI document is valid, says what the gateway does, and every path in it answers; the page needs no other host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import protovalidate
import pytest
from google.protobuf import message_factory
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.comments import read_comments
from gateway.examples import Examples
from gateway.openapi import openapi_document
from gateway.routes import bindings_of
from gateway.transcode import RequestReader
from tests.contract.gateway.fakes import Script

DOCUMENT = openapi_document(bindings_of(), read_comments())
OPERATIONS = [(p, m, o) for p, methods in DOCUMENT["paths"].items() for m, o in methods.items()]


def schema_of(schema: dict[str, Any]) -> Draft202012Validator:
    """A validator of one schema of the document, its references included."""
    return Draft202012Validator(schema | {"components": DOCUMENT["components"]})


async def test_document_when_served_is_valid_openapi_3_1(client: httpx.AsyncClient) -> None:
    served = (await client.get("/openapi.json")).json()
    validate(served)
    assert served["openapi"].startswith("3.1")
    assert served == DOCUMENT


def test_document_when_an_rpc_is_annotated_has_it() -> None:
    assert {(b.template, b.method.lower()) for b in bindings_of()} == {(p, m) for p, m, _ in OPERATIONS}


@pytest.mark.parametrize(
    ("path", "method", "operation"), OPERATIONS, ids=[o["operationId"] for *_, o in OPERATIONS]
)
async def test_operation_when_called_with_its_example_answers_within_its_schema(
    client: httpx.AsyncClient, script: Script, path: str, method: str, operation: dict[str, Any]
) -> None:
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        schema_of(body["schema"]).validate(body["example"])
    answer = await client.request(method, path, json=body["example"] if body else None)
    assert answer.status_code == 200, answer.text
    assert len(script.requests) == 1
    content = operation["responses"]["200"]["content"]["application/json"]
    schema_of(content["schema"]).validate(answer.json())
    schema_of(content["schema"]).validate(content["example"])


async def test_problem_when_served_fits_its_schema(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events:write", json={"events": []})
    schema_of({"$ref": "#/components/schemas/Problem"}).validate(answer.json())


@pytest.mark.parametrize("binding", bindings_of(), ids=lambda b: f"{b.method} {b.template}")
def test_example_when_made_from_the_contract_holds_its_rules(binding: Any) -> None:
    example = Examples(read_comments()).request(binding.rpc.input_type)
    message = message_factory.GetMessageClass(binding.rpc.input_type)()
    RequestReader(binding.rpc.input_type, "*").read_body(
        message, httpx.Request("POST", "http://a", json=example).content
    )
    protovalidate.validate(message)


def test_schema_when_rules_are_in_the_contract_has_them() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    event, item = schemas["Event"], schemas["Item"]
    assert event["required"] == ["id", "itemId", "type"]
    assert event["additionalProperties"] is False
    assert event["properties"]["id"] | {"description": ""} == {
        "type": "string", "minLength": 1, "maxLength": 64, "description": "",
    }  # fmt: skip
    assert schemas["WriteEventsRequest"]["properties"]["events"]["maxItems"] == 1000
    assert item["properties"]["categories"]["items"] == {"type": "string", "minLength": 1, "maxLength": 64}
    assert item["properties"]["numericAttributes"]["propertyNames"] == {"pattern": "^[a-z][a-z0-9_]{0,63}$"}
    diversity = schemas["RecommendRequest"]["properties"]["diversity"]
    assert (diversity["minimum"], diversity["maximum"]) == (0, 1)
    assert schemas["AttributeValue"]["oneOf"][0] == {"required": ["stringValue"]}
    assert schemas["Recommendation"]["required"] == ["itemId", "score", "source", "propensity"]
    assert schemas["Model"]["properties"]["itemCount"]["type"] == "string"
    assert "give user_id, or session_id" in event["description"]


def test_document_when_read_by_people_describes_everything() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for field, property_ in schema.get("properties", {}).items():
            assert property_.get("description") or name == "Problem", f"{name}.{field}"


def test_comment_when_it_names_fields_writes_them_as_json_does_but_not_a_filters_attributes() -> None:
    comments = read_comments()
    assert "`userId`" in comments["reco.ranking.v1.RecommendRequest.session_id"]
    assert "`create_time`" in comments["reco.ranking.v1.RecommendRequest.filter"]


class Links(HTMLParser):
    """What a page loads or points to, its ids, and the labels and inputs of its forms."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.inputs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("src", "href", "action") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        self.labelled += [found["for"]] if tag == "label" else []
        self.inputs += [found["id"]] if tag in ("input", "textarea") else []


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_page_when_opened_loads_only_from_here_and_labels_every_input(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    page = Links()
    page.feed(answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert len(page.ids) == len(set(page.ids))
    assert sorted(page.labelled) == sorted(page.inputs)
    for link in set(page.links):
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert link.startswith("/"), link
            assert (await client.get(link)).status_code == 200, link


async def test_page_when_painted_uses_no_blue(client: httpx.AsyncClient) -> None:
    style = (await client.get("/docs/page.css")).text
    colors = re.findall(r"#([0-9a-f]{6})\b", style)
    assert len(colors) > 20
    for color in colors:
        red, _, blue = (int(color[i : i + 2], 16) for i in (0, 2, 4))
        assert blue <= red or blue <= int(color[2:4], 16), f"#{color}"
    assert "http" not in style
