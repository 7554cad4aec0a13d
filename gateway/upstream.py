"""gRPC clients of the services behind the gateway: one channel each, kept alive, retrying what is safe to retry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc
import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import MethodOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway import limits
from gateway.routes import INGEST, RANKING, Binding
from runtime.rpc import MESSAGE_BYTES_MAX
from runtime.settings import Settings

RETRIES: Final = {
    "maxAttempts": limits.RETRY_ATTEMPTS_MAX,
    "initialBackoff": f"{limits.RETRY_WAIT_S}s",
    "maxBackoff": f"{limits.RETRY_WAIT_S_MAX}s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def targets(settings: Settings) -> dict[str, str]:
    """host:port of each upstream."""
    return {
        INGEST: settings.ingest_target or _address(settings.host, settings.ingest_port),
        RANKING: settings.ranking_target or _address(settings.host, settings.ranking_port),
    }


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Upstreams:
    """The channels. Closed with `close`."""

    def __init__(self, addresses: Mapping[str, str], bindings: Iterable[Binding]) -> None:
        options = _options(bindings)
        self.channels = {
            name: grpc.aio.insecure_channel(address, options=options) for name, address in addresses.items()
        }

    def call_of(self, binding: Binding) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """The callable of one RPC."""
        request = message_factory.GetMessageClass(binding.rpc.input_type)
        response = message_factory.GetMessageClass(binding.rpc.output_type)
        return self.channels[binding.upstream].unary_unary(
            binding.rpc_path,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def health(self) -> dict[str, str]:
        """What each upstream says of itself: "SERVING", another word of gRPC health, or "UNREACHABLE"."""
        states = await asyncio.gather(*(self._state(channel) for channel in self.channels.values()))
        return dict(zip(self.channels, states, strict=True))

    @staticmethod
    async def _state(channel: grpc.aio.Channel) -> str:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=limits.HEALTH_WAIT_S_MAX)
        except grpc.aio.AioRpcError:
            return "UNREACHABLE"
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels.values()))


def retried(binding: Binding) -> bool:
    """Whether the contract calls the RPC safe to repeat (`idempotency_level`)."""
    level = binding.rpc.GetOptions().idempotency_level
    return level != MethodOptions.IDEMPOTENCY_UNKNOWN


def _options(bindings: Iterable[Binding]) -> list[tuple[str, Any]]:
    return [
        ("grpc.service_config", orjson.dumps(_service_config(bindings)).decode()),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_WAIT_MS_MAX),
        ("grpc.max_reconnect_backoff_ms", limits.RECONNECT_WAIT_MS_MAX),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _service_config(bindings: Iterable[Binding]) -> dict[str, Any]:
    names = {(b.rpc.containing_service.full_name, b.rpc.name) for b in bindings if retried(b)}
    safe = [{"service": service, "method": method} for service, method in sorted(names)]
    return {"methodConfig": [{"name": safe, "retryPolicy": RETRIES}]}
