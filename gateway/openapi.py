"""The OpenAPI 3.1 document, made from the same bindings that answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from reco.errors.v1.error_reason_pb2 import ErrorReason

from gateway.api import PRIORITY_HEADER, TIMEOUT_HEADER
from gateway.edge import REQUEST_ID_TEXT
from gateway.examples import Examples
from gateway.limits import BODY_BYTES_MAX, QUERY_DEPTH_MAX, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX
from gateway.problems import MEDIA_TYPE, TYPE_PREFIX
from gateway.routes import VARIABLE, Binding
from gateway.rules import Schema, required
from gateway.schemas import Schemas, reference
from gateway.transcode import find_field, fits_text
from runtime.errors import reason_name
from runtime.limiter import NORMAL, SHEDDABLE
from runtime.version import __version__

OPENAPI_VERSION: Final = "3.1.0"
SENTENCE = re.compile(r"^(.*?[.:?])(\s|$)", re.DOTALL)
DESCRIPTION: Final = f"""Events and the catalogue go in, recommendations come out.

- Names are lowerCamelCase in answers; both lowerCamelCase and snake_case are taken in requests. 64-bit integers are strings.
- Fields are always there, also when empty; times, `optional` fields and nested messages are there when they are set.
- An unknown field or parameter is refused. A body has at most {BODY_BYTES_MAX:,} bytes.
- Every error is `{MEDIA_TYPE}` (RFC 9457) with a `reason` for programs and a `detail` for people.
"""
PROBLEMS: Final = {
    "400": "The request breaks a rule; `metadata.field` names where.",
    "404": "What was named is not there.",
    "413": f"The body is larger than {BODY_BYTES_MAX} bytes.",
    "415": "The body's Content-Type is not application/json.",
    "429": "A limit was met; `Retry-After` says when to come back.",
    "500": "Our fault; the log has it under `request_id`.",
    "503": "A service or store does not answer; `Retry-After` says when to come back.",
    "504": "The answer did not come in time; a write may have happened: retry it with the same ids.",
}
BODY_PROBLEMS: Final = ("413", "415")


def openapi_document(bindings: list[Binding], comments: Mapping[str, str]) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    document = Document(bindings, comments)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Recommendation engine",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": document.tags(),
        "paths": document.paths(),
        "components": document.components(),
    }


class Document:
    """What the parts of the document share."""

    def __init__(self, bindings: list[Binding], comments: Mapping[str, str]) -> None:
        self._bindings = bindings
        self._comments = comments
        self._examples = Examples(comments)
        requests = [b.rpc.input_type for b in bindings]
        responses = [b.rpc.output_type for b in bindings]
        self._schemas = Schemas(requests, responses, comments)

    def tags(self) -> list[Schema]:
        services = dict.fromkeys(b.rpc.containing_service for b in self._bindings)
        return [{"name": s.name, "description": self._comments.get(s.full_name, "")} for s in services]

    def components(self) -> Schema:
        schemas = self._schemas.components() | {"Problem": _problem_schema()}
        responses = {f"Problem{status}": _problem_response(text) for status, text in PROBLEMS.items()}
        parameters = {
            "RequestId": _request_id(),
            "RequestTimeout": _request_timeout(),
            "Priority": _priority(),
        }
        return {"schemas": schemas, "responses": responses, "parameters": parameters}

    def paths(self) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for binding in self._bindings:
            path = VARIABLE.sub(lambda found: f"{{{found[1]}}}", binding.template)
            paths.setdefault(path, {})[binding.method.lower()] = self._operation(binding)
        return paths

    def _operation(self, binding: Binding) -> Schema:
        rpc = binding.rpc
        text = self._comments.get(rpc.full_name, rpc.name)
        operation: Schema = {
            "operationId": self._operation_id(binding),
            "tags": [rpc.containing_service.name],
            "summary": summary_of(text),
            "description": text,
            "parameters": [*self._path_parameters(binding), *self._query_parameters(binding), *_COMMON],
            "responses": self._responses(binding),
        }
        if binding.body:
            operation["requestBody"] = self._body(binding)
        return operation

    def _operation_id(self, binding: Binding) -> str:
        """The RPC's name; a further binding of it adds its method."""
        first = next(b for b in self._bindings if b.rpc is binding.rpc)
        return binding.rpc.name if binding is first else f"{binding.rpc.name}By{binding.method.title()}"

    def _body(self, binding: Binding) -> Schema:
        message = binding.rpc.input_type
        field = None if binding.body == "*" else message.fields_by_name[binding.body]
        target = field.message_type if field and field.message_type else message
        example = self._examples.request(target)
        for name in binding.variables:
            known = find_field(message, name)
            example.pop(known.json_name if known else name, None)
        schema = self._body_schema(binding, target)
        must = bool(example)
        return {"required": must, "content": {"application/json": {"schema": schema, "example": example}}}

    def _body_schema(self, binding: Binding, target: Descriptor) -> Schema:
        """The message; without what the path says already, where that is required."""
        if not any(required(f) for f in target.fields if f.name in binding.variables):
            return reference(target.name)
        rest = [field for field in target.fields if field.name not in binding.variables]
        return {
            "type": "object",
            "properties": {field.json_name: self._schemas.field(field) for field in rest},
            "additionalProperties": False,
        }

    def _path_parameters(self, binding: Binding) -> Iterator[Schema]:
        example = self._examples.response(binding.rpc.input_type)
        for name in binding.variables:
            field = find_field(binding.rpc.input_type, name)
            assert field, f"{binding.template}: nested variables are not described yet"
            schema = self._schemas.field(field)
            description = schema.pop("description", "")
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": description,
                "schema": {"minLength": 1} | schema,
                "example": example[field.json_name],
            }

    def _query_parameters(self, binding: Binding) -> Iterator[Schema]:
        if binding.body == "*":
            return
        for name, field in query_fields(binding.rpc.input_type):
            if field.name not in (*binding.variables, binding.body):
                schema = self._schemas.field(field)
                description = schema.pop("description", "")
                parameter = {"name": name, "in": "query", "description": description, "schema": schema}
                yield parameter | ({"style": "form", "explode": True} if field.is_repeated else {})

    def _responses(self, binding: Binding) -> Schema:
        example = self._examples.response(binding.rpc.output_type)
        content = {"schema": reference(binding.rpc.output_type.name), "example": example}
        text = self._comments.get(binding.rpc.output_type.full_name, "The answer.")
        answer = {"description": text, "content": {"application/json": content}}
        statuses = [status for status in PROBLEMS if binding.body or status not in BODY_PROBLEMS]
        return {"200": answer} | {s: {"$ref": f"#/components/responses/Problem{s}"} for s in statuses}


def query_fields(
    message: Descriptor, prefix: str = "", depth: int = 1
) -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field that can stand in a query, with its dotted JSON name."""
    for field in message.fields:
        if fits_text(field):
            yield prefix + field.json_name, field
        elif field.message_type and not field.is_repeated and depth < QUERY_DEPTH_MAX:
            yield from query_fields(field.message_type, f"{prefix}{field.json_name}.", depth + 1)


def summary_of(text: str) -> str:
    """The first sentence, without its full stop."""
    found = SENTENCE.match(text)
    return (found[1] if found else text).rstrip(".:")


def _problem_schema() -> Schema:
    reasons = [reason_name(number) for number in ErrorReason.values() if number]
    properties = {
        "type": {"type": "string", "description": f"`{TYPE_PREFIX}` and the reason."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "For people: whose fault it is and what to do."},
        "reason": {"type": "string", "description": f"For programs; now one of: {', '.join(reasons)}."},
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What a program needs about it, such as `field` or `retry_delay_ms`.",
        },
        "request_id": {"type": "string", "description": "Ours or yours (X-Request-Id); the logs have it."},
    }
    text = "What went wrong (RFC 9457)."
    return {"type": "object", "description": text, "required": list(properties), "properties": properties}


def _problem_response(text: str) -> Schema:
    return {"description": text, "content": {MEDIA_TYPE: {"schema": reference("Problem")}}}


def _request_id() -> Schema:
    return {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Your name for this request, for finding it in logs; else one is made. It comes back in the answer.",
        "schema": {"type": "string", "pattern": f"^{REQUEST_ID_TEXT.pattern}$"},
    }


def _request_timeout() -> Schema:
    return {
        "name": TIMEOUT_HEADER.title(),
        "in": "header",
        "description": f"How long the call may take, in milliseconds. Default: {TIMEOUT_MS_DEFAULT}.",
        "schema": {"type": "integer", "minimum": 1, "maximum": TIMEOUT_MS_MAX},
    }


def _priority() -> Schema:
    return {
        "name": PRIORITY_HEADER.title(),
        "in": "header",
        "description": "Under overload, sheddable calls are refused first. Mark what nobody waits for, such as prefetching.",
        "schema": {"type": "string", "enum": [NORMAL, SHEDDABLE], "default": NORMAL},
    }


_COMMON: Final = tuple(
    {"$ref": f"#/components/parameters/{name}"} for name in ("RequestId", "RequestTimeout", "Priority")
)
