"""The API as a page for people: rendered here from the OpenAPI document, with nothing from any other host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.rules import Schema

WEB: Final = Path(__file__).parent / "web"
CODE = re.compile(r"`([^`]+)`")
BOUNDS: Final = (
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} entries"),
    ("maxItems", "at most {} entries"),
    ("minimum", "from {}"),
    ("maximum", "to {}"),
    ("pattern", "pattern {}"),
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(document: dict[str, Any]) -> list[Route]:
    """/, /docs, what they load, and /openapi.json."""
    page = render(document).encode()
    return [
        Route("/", _fixed("/", page, "text/html; charset=utf-8")),
        Route("/docs", _fixed("/docs", page, "text/html; charset=utf-8")),
        Route("/docs/page.css", _file("page.css", "text/css; charset=utf-8")),
        Route("/docs/page.js", _file("page.js", "text/javascript; charset=utf-8")),
        Route("/docs/leaf.svg", _file("leaf.svg", "image/svg+xml")),
        Route("/openapi.json", _fixed("/openapi.json", orjson.dumps(document), "application/json")),
    ]


def _file(name: str, kind: str) -> Callable[[Request], Any]:
    return _fixed("/docs/...", (WEB / name).read_bytes(), kind)


def _fixed(label: str, content: bytes, kind: str) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        request.scope["route_template"] = label
        return Response(content, headers=PAGE_HEADERS | {"Content-Type": kind})

    return answer


def render(document: dict[str, Any]) -> str:
    """The page."""
    template = Template((WEB / "page.html").read_text())
    return template.substitute(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        description=_intro(document["info"]["description"]),
        navigation="".join(_navigation(document, tag["name"]) for tag in document["tags"]),
        services="".join(_service(document, tag) for tag in document["tags"]),
        schemas="".join(_message(n, s) for n, s in document["components"]["schemas"].items()),
    )


def text(words: str) -> str:
    """A comment as HTML: `code` in backticks, nothing else."""
    return CODE.sub(r"<code>\1</code>", escape(words, quote=False))


def _intro(description: str) -> str:
    first, _, points = description.partition("\n\n")
    items = "".join(f"<li>{text(line[2:])}</li>" for line in points.strip().splitlines())
    return f"<p>{text(first)}</p><ul>{items}</ul>"


def _calls(document: dict[str, Any], tag: str) -> list[tuple[str, str, Schema]]:
    return [
        (path, method, call)
        for path, methods in document["paths"].items()
        for method, call in methods.items()
        if tag in call["tags"]
    ]


def _navigation(document: dict[str, Any], tag: str) -> str:
    entries = "".join(
        f'<li><a href="#{call["operationId"]}">{_badge(method)} {call["operationId"]}</a></li>'
        for _, method, call in _calls(document, tag)
    )
    return f"<h2>{escape(tag)}</h2><ul>{entries}</ul>"


def _badge(method: str) -> str:
    kind = method if method in ("get", "post") else "other"
    return f'<span class="method {kind}">{method.upper()}</span>'


def _service(document: dict[str, Any], tag: Schema) -> str:
    calls = "".join(_call(document, *call) for call in _calls(document, tag["name"]))
    head = f'<h2>{escape(tag["name"])}</h2><p class="lead">{text(tag["description"])}</p>'
    return f"<section>{head}{calls}</section>"


def _call(document: dict[str, Any], path: str, method: str, call: Schema) -> str:
    parts = [
        f'<details id="{call["operationId"]}"><summary>{_badge(method)}<code>{escape(path)}</code>',
        f'<span class="about">{text(call["summary"])}</span></summary><div class="inside">',
        f"<p>{text(call['description'])}</p>",
        _form(document, path, method, call),
        _answers(call),
        "</div></details>",
    ]
    return "".join(parts)


def _form(document: dict[str, Any], path: str, method: str, call: Schema) -> str:
    fields = [_field(call["operationId"], _resolve(document, p)) for p in call["parameters"]]
    body = _body_field(call) if "requestBody" in call else ""
    output = (
        '<div class="output" hidden aria-live="polite"><p class="status"></p>'
        '<pre class="answer"></pre><h3>The same with curl</h3><pre class="curl"></pre></div>'
    )
    head = f'<form data-path="{escape(path)}" data-method="{method.upper()}"><h3>Try it</h3>'
    return f'{head}{body}{"".join(fields)}<button type="submit">Send</button>{output}</form>'


def _resolve(document: dict[str, Any], parameter: Schema) -> Schema:
    if "$ref" not in parameter:
        return parameter
    found: Schema = document["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
    return found


def _field(call_id: str, parameter: Schema) -> str:
    name, place = escape(parameter["name"]), parameter["in"]
    schema = parameter["schema"]
    listed = ' data-list="1"' if schema.get("type") == "array" else ""
    needed = " required" if parameter.get("required") else ""
    value = escape(str(parameter.get("example", "")))
    key = f"{call_id}-{name}"
    hint = f"{place}, {_kind(schema)}{', several with commas' if listed else ''}"
    return (
        f'<div class="field"><label for="{key}">{name}<small>{hint}</small></label><div>'
        f'<input id="{key}" name="{name}" data-in="{place}" value="{value}"{listed}{needed} autocomplete="off">'
        f"<p>{text(parameter['description'])}</p></div></div>"
    )


def _body_field(call: Schema) -> str:
    content = call["requestBody"]["content"]["application/json"]
    key = f"{call['operationId']}-body"
    example = escape(json.dumps(content["example"], indent=2), quote=False)
    about = _link(content["schema"])
    return (
        f'<div class="field body"><label for="{key}">Body<small>{about}</small></label>'
        f'<textarea id="{key}" rows="{min(example.count(chr(10)) + 2, 24)}" spellcheck="false">{example}</textarea></div>'
    )


def _answers(call: Schema) -> str:
    content = call["responses"]["200"]["content"]["application/json"]
    example = escape(json.dumps(content["example"], indent=2), quote=False)
    return f"<h3>Answer: {_link(content['schema'])}</h3><pre>{example}</pre>"


def _link(schema: Schema) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>' if name else _kind(schema)


def _kind(schema: Schema) -> str:
    if "$ref" in schema:
        return _link(schema)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if "additionalProperties" in schema and "properties" not in schema:
        return f"map to {_kind(schema['additionalProperties'])}"
    return escape(schema.get("format") or schema.get("type", "any"))


def _message(name: str, schema: Schema) -> str:
    about = f'<details id="{name}"><summary><code>{name}</code></summary><div class="inside">'
    words = "".join(f"<p>{text(line)}</p>" for line in schema["description"].splitlines() if line)
    rows = "".join(
        _row(n, s, n in schema.get("required", ())) for n, s in schema.get("properties", {}).items()
    )
    table = (
        f"<table><thead><tr><th>Field<th>Type<th>Meaning</thead><tbody>{rows}</tbody></table>" if rows else ""
    )
    return f"{about}{words}{table}</div></details>"


def _row(name: str, schema: Schema, needed: bool) -> str:
    mark = ' <span class="needed">required</span>' if needed else ""
    bounds = "; ".join(words.format(schema[key]) for key, words in BOUNDS if key in schema)
    kind = _kind(schema) + (f"<br><small>{escape(bounds)}</small>" if bounds else "")
    return f"<tr><td><code>{name}</code>{mark}</td><td>{kind}</td><td>{text(schema.get('description', ''))}</td></tr>"
