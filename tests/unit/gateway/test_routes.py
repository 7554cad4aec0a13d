"""Paths are found as the annotations say."""

from __future__ import annotations

import pytest

from gateway.problems import json_path
from gateway.routes import bindings_of, decoded, route_table

TABLE = route_table(bindings_of())


@pytest.mark.parametrize(
    ("method", "path", "rpc", "variables"),
    [
        ("POST", "/v1/events:write", "WriteEvents", {}),
        ("GET", "/v1/users/u%201/recommendations", "Recommend", {"user_id": "u 1"}),
        ("POST", "/v1/recommendations:recommend", "Recommend", {}),
        ("GET", "/v1/models/a:b", "GetModel", {"version": "a:b"}),
        ("POST", "/v1/models/a:activate", "ActivateModel", {"version": "a"}),
        ("POST", "/v1/models:rollBack", "RollBackModel", {}),
        ("GET", "/v1/items/%E2%9C%93/similar", "SimilarItems", {"item_id": "✓"}),
    ],
)
def test_find_when_path_is_annotated_gives_its_rpc(
    method: str, path: str, rpc: str, variables: dict[str, str]
) -> None:
    bindings, raw = TABLE.find(path)
    assert bindings[method].rpc.name == rpc
    assert dict(decoded(raw)) == variables


@pytest.mark.parametrize(
    "path", ["", "/", "/v1/models/a/b", "/v1/events:write/", "/V1/models", "/v1/users/a/b/recommendations"]
)
def test_find_when_path_is_not_annotated_gives_nothing(path: str) -> None:
    assert TABLE.find(path) == ({}, {})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("events[3].item_id", "events[3].itemId"),
        ("items[0].numeric_attributes['a_b'].x_y", "items[0].numericAttributes['a_b'].xY"),
        ("filter", "filter"),
    ],
)
def test_json_path_when_fields_are_snake_case_is_camel_case_but_for_keys(path: str, expected: str) -> None:
    assert json_path(path) == expected
