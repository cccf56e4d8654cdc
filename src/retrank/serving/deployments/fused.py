"""Topology `fused`: routes, model, index and arrays in one process per replica, so a request makes a single hop."""

import logging
import os
import socket

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from retrank.serving.bundles.opening import open_service_replica
from retrank.serving.deployments.loopback import narrow_inner_server
from retrank.serving.ingress import is_alone
from retrank.serving.settings import Settings
from retrank.serving.web.routes import create_app

DEPLOYMENT = "retrank"


class FusedReplica:
    """One process that answers; it is not ready before its bundle is verified, proven and warm."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle."""
        if is_alone(os.environ):
            narrow_inner_server()
        logging.getLogger("retrank").handlers = logging.getLogger("ray.serve").handlers  # the log of this replica
        self._replica = open_service_replica(settings, f"{socket.gethostname()}-{os.getpid()}")
        self._replica.run()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the routes over the open bundle (called by Ray Serve after the constructor)."""
        return create_app(self._replica.front, echo_request_id=False)  # Ray Serve does that itself


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
