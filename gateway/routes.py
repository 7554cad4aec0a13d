"""Which RPC answers which method and path: read from the google.api.http annotations, nowhere else.

A new annotated RPC of a service listed here needs no line of code; a new service needs its line in UPSTREAM_SERVICES.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from reco.ingest.v1 import ingest_service_pb2
from reco.ranking.v1 import model_service_pb2, ranking_service_pb2

from gateway.scalars import DecodeError
from gateway.transcode import find_field, fits_text

INGEST: Final = "ingest"
RANKING: Final = "ranking"
VARIABLE = re.compile(r"\{([a-zA-Z0-9_.]+)(?:=([^}]*))?\}")
WILDCARDS: Final = {"*": "[^/]+", "**": ".+"}


def _service(file: FileDescriptor, name: str) -> ServiceDescriptor:
    return file.services_by_name[name]


UPSTREAM_SERVICES: Final = (
    (INGEST, _service(ingest_service_pb2.DESCRIPTOR, "IngestService")),
    (RANKING, _service(ranking_service_pb2.DESCRIPTOR, "RankingService")),
    (RANKING, _service(model_service_pb2.DESCRIPTOR, "ModelService")),
)


@dataclass(frozen=True)
class Binding:
    """One way to reach one RPC over HTTP."""

    upstream: str
    rpc: MethodDescriptor
    method: str  # "GET", ...
    template: str  # "/v1/users/{user_id}/recommendations"
    body: str  # "*", a field's name, or ""
    variables: tuple[str, ...]
    pattern: re.Pattern[str]

    @property
    def rpc_path(self) -> str:
        """As gRPC calls it: "/reco.ingest.v1.IngestService/WriteEvents"."""
        return f"/{self.rpc.containing_service.full_name}/{self.rpc.name}"


@dataclass
class RouteTable:
    """Finds the binding of a request: by a dictionary where the path is fixed, by patterns where it has variables."""

    fixed: dict[str, dict[str, Binding]] = field(default_factory=dict)
    patterns: dict[re.Pattern[str], dict[str, Binding]] = field(default_factory=dict)

    def find(self, path: str) -> tuple[dict[str, Binding], dict[str, str]]:
        """The bindings of a raw (still percent-encoded) path by method, and the variables; both empty when there are none."""
        fixed = self.fixed.get(path)
        if fixed:
            return fixed, {}
        for pattern, bindings in self.patterns.items():
            found = pattern.fullmatch(path)
            if found:
                variables = next(iter(bindings.values())).variables
                return bindings, dict(zip(variables, found.groups(), strict=True))
        return {}, {}


def route_table(bindings: list[Binding]) -> RouteTable:
    """The table. Patterns with more fixed text come first: `/v1/models/{version}:activate` before `/v1/models/{version}`."""
    table = RouteTable()
    by_text = sorted(bindings, key=lambda binding: -len(VARIABLE.sub("", binding.template)))
    for binding in by_text:
        methods = (
            table.patterns.setdefault(binding.pattern, {})
            if binding.variables
            else table.fixed.setdefault(binding.template, {})
        )
        assert binding.method not in methods, f"two RPCs are bound to {binding.method} {binding.template}"
        methods[binding.method] = binding
    return table


def bindings_of(services: tuple[tuple[str, ServiceDescriptor], ...] = UPSTREAM_SERVICES) -> list[Binding]:
    """Every binding of every annotated RPC, in the contract's order."""
    return [
        _binding(upstream, rpc, rule)
        for upstream, service in services
        for rpc in service.methods
        for rule in _rules(rpc)
    ]


def _rules(rpc: MethodDescriptor) -> Iterator[Any]:
    options = rpc.GetOptions()
    if options.HasExtension(annotations_pb2.http):
        rule = options.Extensions[annotations_pb2.http]
        yield rule
        yield from rule.additional_bindings


def _binding(upstream: str, rpc: MethodDescriptor, rule: Any) -> Binding:
    kind = rule.WhichOneof("pattern")
    method, template = (
        (rule.custom.kind, rule.custom.path) if kind == "custom" else (kind.upper(), getattr(rule, kind))
    )
    assert not rule.response_body, f"{rpc.full_name}: response_body is not supported"
    streams = rpc.client_streaming or rpc.server_streaming
    assert not streams, f"{rpc.full_name}: streams are not carried over REST"
    variables = tuple(name for name, _ in VARIABLE.findall(template))
    for name in variables:
        target = find_field(rpc.input_type, name.split(".")[0])
        known = target is not None and ("." in name or fits_text(target))
        assert known, f"{rpc.full_name}: {{{name}}} names no field that fits a path"
    return Binding(upstream, rpc, method, template, rule.body, variables, _pattern(template))


def _pattern(template: str) -> re.Pattern[str]:
    text = ""
    end = 0
    for found in VARIABLE.finditer(template):
        text += re.escape(template[end : found.start()]) + f"({_segments(found[2] or '*')})"
        end = found.end()
    return re.compile(text + re.escape(template[end:]))


def _segments(pattern: str) -> str:
    return "/".join(WILDCARDS.get(part, re.escape(part)) for part in pattern.split("/"))


def decoded(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables with their percent-encoding undone; raises DecodeError when that is not UTF-8."""
    return [(name, _decoded(name, text)) for name, text in variables.items()]


def _decoded(name: str, text: str) -> str:
    try:
        return unquote(text, errors="strict") if "%" in text else text
    except UnicodeDecodeError:
        raise DecodeError("is not percent-encoded UTF-8").under(name) from None
