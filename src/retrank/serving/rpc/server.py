"""The gRPC server of one replica: methods, health and reflection, on the event loop that its HTTP routes run on.

It shares that loop because it shares the gate, whose lanes belong to one loop. Every replica of a host binds the same
port (SO_REUSEPORT); the kernel gives each connection, not each call, to one of them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from retrank.contract.errors import ConfigError
from retrank.serving.guard.drain import Drain
from retrank.serving.rpc.front import Around, Front
from retrank.serving.rpc.methods import methods_of
from retrank.serving.rpc_settings import RpcSettings
from retrank.serving.service import Service

_LOOK_S = 0.2
_log = logging.getLogger(__name__)


@asynccontextmanager
async def answering(
    service: Service, around: Around, settings: RpcSettings, port: int | None = None
) -> AsyncIterator[int]:
    """Answer over gRPC for as long as the block runs, then finish what is in flight.

    Args:
        service: answers.
        around: gate, telemetry, tracer.
        settings: where, and bounds.
        port: instead of the one in the settings; 0 is a free one.

    Yields:
        The port.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=settings.max_concurrent)
    names = [*_add_methods(server, service, around), health.SERVICE_NAME]
    probes = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    bound = _bind(server, settings, settings.port if port is None else port)
    await server.start()
    drain = None if around.gate is None else around.gate.drain
    looking = asyncio.create_task(_keep_health(probes, ["", *names], drain))
    try:
        yield bound
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await probes.enter_graceful_shutdown()
        await server.stop(settings.finish_s)


def _add_methods(server: Any, service: Service, around: Around) -> list[str]:
    """Add every method as one of bytes: decoding waits for a slot, see `front`."""
    found = methods_of(service, around.telemetry)
    for name, methods in found.items():
        fronts = {
            method: grpc.unary_unary_rpc_method_handler(Front(f"/{name}/{method}", how, around).__call__)
            for method, how in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, fronts),))
    return list(found)


def _options(settings: RpcSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1_000)),
        ("grpc.max_connection_age_grace_ms", int(settings.finish_s * 1_000)),
    ]


def _bind(server: Any, settings: RpcSettings, port: int) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        bound = int(server.add_insecure_port(f"{host}:{port}"))
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {host}:{port} for gRPC; choose another serving.rpc.port") from error
    return bound


async def _keep_health(probes: Any, names: list[str], drain: Drain | None) -> None:
    """Say that the service is ready until it is leaving. A server only exists once a proven bundle is open."""
    said: bool | None = None
    while True:
        ready = drain is None or not drain.draining
        if ready != said:
            said = ready
            states = health_pb2.HealthCheckResponse.ServingStatus
            for name in names:
                await probes.set(name, states.SERVING if ready else states.NOT_SERVING)
        await asyncio.sleep(_LOOK_S)
