"""The gRPC server beside the routes: on their event loop and behind their gate, for as long as they answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Lifespan

from retrank.serving.rpc_settings import RpcSettings
from retrank.serving.service import Service
from retrank.serving.web.protection import Protection


def rpc_lifespan(service: Service, protection: Protection, settings: RpcSettings) -> Lifespan[FastAPI] | None:
    """Return the lifespan of an application that also answers over gRPC; None, and nothing imported, when it is off."""
    if not settings.enabled:
        return None
    from retrank.serving.rpc.front import Around  # noqa: PLC0415  (gRPC is loaded only where it is used)
    from retrank.serving.rpc.server import answering  # noqa: PLC0415

    @asynccontextmanager
    async def beside(app: FastAPI) -> AsyncIterator[None]:
        del app
        around = Around(protection.gate, protection.telemetry, protection.tracer)
        async with answering(service, around, settings):
            yield

    return beside
