"""Is it alive, is it ready, how is it doing: for orchestrators and Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.problems import unavailable
from gateway.upstream import Upstreams
from runtime.metrics import REGISTRY

SERVING = "SERVING"


def probe_routes(upstreams: Upstreams) -> list[Route]:
    """/healthz, /readyz and /metrics."""

    async def ready(request: Request) -> Response:
        request.scope["route_template"] = "/readyz"
        states = await upstreams.health()
        away = [name for name, state in states.items() if state != SERVING]
        if away:
            problem = unavailable(" and ".join(away))
            problem.metadata |= states
            raise problem
        return JSONResponse({"status": "ready", "services": states})

    return [Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", metrics)]


async def alive(request: Request) -> Response:
    """Says only that the process answers: a dependency that is away is no reason to be restarted."""
    request.scope["route_template"] = "/healthz"
    return JSONResponse({"status": "alive"})


async def metrics(request: Request) -> Response:
    request.scope["route_template"] = "/metrics"
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
