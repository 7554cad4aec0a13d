"""The RPC edge of ModelService: which models there are, and which one answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from reco.ranking.v1 import model_service_pb2_grpc
from reco.ranking.v1.model_service_pb2 import (
    ActivateModelRequest,
    ActivateModelResponse,
    GetModelRequest,
    GetModelResponse,
    ListModelsRequest,
    ListModelsResponse,
    Model,
    ModelState,
    RollBackModelRequest,
    RollBackModelResponse,
)

from bundle import registry
from runtime.postgres import Pool
from serving.model_store import ModelStore

PAGE_SIZE_DEFAULT = 50
_STATES = {
    registry.PUBLISHED: ModelState.MODEL_STATE_PUBLISHED,
    registry.ACTIVE: ModelState.MODEL_STATE_ACTIVE,
    registry.HELD: ModelState.MODEL_STATE_HELD,
}
Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Reads and writes the registry. Serving processes follow it by themselves, this one included."""

    def __init__(self, store: ModelStore, pool: Pool) -> None:
        self._store = store
        self._pool = pool

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:  # noqa: N802 - the contract's name
        count = request.page_size or PAGE_SIZE_DEFAULT
        rows = await registry.list_models(self._pool, count + 1, request.page_token)
        more = len(rows) > count
        models = [self._model(row) for row in rows[:count]]
        return ListModelsResponse(models=models, next_page_token=models[-1].version if more else "")

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:  # noqa: N802 - as above
        return GetModelResponse(model=self._model(await registry.get_model(self._pool, request.version)))

    async def ActivateModel(self, request: ActivateModelRequest, context: Context) -> ActivateModelResponse:  # noqa: N802 - as above
        await registry.get_model(self._pool, request.version)
        await self._verify(request.version)
        row = await registry.activate(self._pool, request.version, "activated by hand")
        return ActivateModelResponse(model=self._model(row))

    async def RollBackModel(self, request: RollBackModelRequest, context: Context) -> RollBackModelResponse:  # noqa: N802 - as above
        version = await registry.earlier_version(self._pool)
        if version is not None:
            await self._verify(version)
        return RollBackModelResponse(model=self._model(await registry.roll_back(self._pool)))

    async def _verify(self, version: str) -> None:
        """BundleError MODEL_REFUSED before anything changes, rather than a model that no process will load."""
        await self._store.verify(version)

    def _model(self, row: registry.ModelRow) -> Model:
        current = self._store.current
        return Model(
            version=row.version,
            state=_STATES[row.state],
            create_time=_timestamp(row.create_time),
            activate_time=_timestamp(row.activate_time) if row.activate_time else None,
            metrics=row.metrics,
            item_count=row.item_count,
            event_count=row.event_count,
            size_bytes=row.size_bytes,
            has_ranker=row.has_ranker,
            note=row.note,
            loaded=current is not None and current.version == row.version,
        )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
