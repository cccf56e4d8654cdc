"""Topology `fused`: routes, model, index and arrays in one process per replica, so a request makes a single hop."""

import logging
import os
import socket

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from retrank.serving.backing import open_backing
from retrank.serving.bundles.opening import open_service_replica
from retrank.serving.bundles.pace import Pace, always
from retrank.serving.deployments import express
from retrank.serving.deployments.listener import send_at_once
from retrank.serving.deployments.loopback import narrow_inner_server
from retrank.serving.ingress import is_alone
from retrank.serving.rare_collection import collect_rarely
from retrank.serving.service import Service
from retrank.serving.settings import Settings
from retrank.serving.telemetry.logs import adopt, set_up, unbuffered
from retrank.serving.web.protection import open_protection
from retrank.serving.web.routes import create_app
from retrank.serving.web.rpc_beside import rpc_lifespan

DEPLOYMENT = "retrank"


class FusedReplica:
    """One process that answers; it is not ready before its bundle is verified, proven and warm."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle that the fleet should serve, and everything around it."""
        if is_alone(os.environ):
            narrow_inner_server()
        send_at_once()
        handlers = unbuffered(logging.getLogger("ray.serve").handlers)  # the log of this replica
        set_up(handlers, as_json=settings.telemetry.log_format == "json")
        adopt(handlers)
        self._protection = open_protection(settings.guard, settings.telemetry, os.environ)
        telemetry = self._protection.telemetry
        backing = open_backing(settings, telemetry)
        name = f"{socket.gethostname()}-{os.getpid()}"
        gate = self._protection.gate
        calm = always if gate is None else gate.calm
        self._replica = open_service_replica(
            settings,
            name,
            control=backing.store,
            telemetry=telemetry,
            calm=calm,
        )
        front = self._replica.front
        service = self._service = Service(front.pick, backing, settings.service, watch=front)
        pace = Pace(calm=calm)
        self._replica.reconciler.prepare = lambda ready, look: service.ready(ready, pace.begin(look))
        self._service.warm_up()
        self._rpc = settings.rpc
        self._replica.run()
        collect_rarely()

    def __del__(self) -> None:
        """Make everything queued durable (called by Ray Serve when the replica stops)."""
        if hasattr(self, "_service"):
            self._replica.close()
            self._service.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the routes over the open bundle (called by Ray Serve after the constructor)."""
        app = create_app(  # Ray Serve echoes the request id itself, and runs the lifespan on the loop of the routes
            self._service,
            echo_request_id=False,
            protection=self._protection,
            lifespan=rpc_lifespan(self._service, self._protection, self._rpc),
        )
        express.offer(app)
        return app


def build(settings: Settings) -> Application:
    """Return the application with as many replicas as the settings say."""
    replicas = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=settings.replicas,
        max_ongoing_requests=settings.max_ongoing_requests,
        ray_actor_options={"num_cpus": 1},
    )
    application: Application = replicas(serve.ingress()(FusedReplica)).bind(settings)
    return application
