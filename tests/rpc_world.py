"""A service on real sockets of this machine: REST on uvicorn and gRPC beside it, on one event loop as in a replica."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from retrank.serving.ingress import free_port
from retrank.serving.rpc_settings import RpcSettings
from retrank.serving.service import Service
from retrank.serving.web.protection import OPEN, Protection
from retrank.serving.web.routes import create_app
from retrank.serving.web.rpc_beside import rpc_lifespan

_READY_S = 30.0


@dataclass(frozen=True)
class Served:
    """Where a service answers."""

    url: str
    rpc: str


@contextmanager
def served(service: Service, protection: Protection = OPEN) -> Iterator[Served]:
    """Answer over REST and gRPC until the block ends."""
    settings = RpcSettings(enabled=True, port=free_port())
    app = create_app(service, protection=protection, lifespan=rpc_lifespan(service, protection, settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="on"))
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(server, started)))
    thread.start()
    try:
        assert started.wait(_READY_S)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", f"127.0.0.1:{settings.port}")
    finally:
        server.should_exit = True
        thread.join(_READY_S)
    assert not thread.is_alive()


async def _serve(server: uvicorn.Server, started: threading.Event) -> None:
    async def watch() -> None:
        while not (server.started or server.should_exit):
            await asyncio.sleep(0.01)
        started.set()

    watching = asyncio.create_task(watch())
    try:
        await server.serve()
    finally:
        started.set()
        watching.cancel()
