"""Topology `fused`: routes, model, index and arrays in one process per replica, so a request makes a single hop."""

import logging
import os

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from retrank.serving.backing import open_backing
from retrank.serving.deployments.loopback import narrow_inner_server
from retrank.serving.ingress import is_alone
from retrank.serving.recommender import Recommender
from retrank.serving.service import Picked, Service
from retrank.serving.settings import Settings
from retrank.serving.telemetry.logs import set_up, unbuffered
from retrank.serving.web.protection import open_protection
from retrank.serving.web.routes import create_app

DEPLOYMENT = "retrank"


class FusedReplica:
    """One process that answers; it is not ready before its bundle is verified, proven and warm."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle."""
        if is_alone(os.environ):
            narrow_inner_server()
        handlers = unbuffered(logging.getLogger("ray.serve").handlers)  # the log of this replica
        set_up(handlers, as_json=settings.telemetry.log_format == "json")
        logging.getLogger("retrank").handlers = handlers
        self._protection = open_protection(settings.guard, settings.telemetry, os.environ)
        recommender = Recommender.open(settings.bundle, settings.pipeline)
        recommender.tally.telemetry = self._protection.telemetry
        self._protection.telemetry.bundle(recommender.bundle.id, recommender.bundle.created_at)
        picked = Picked(recommender)
        self._service = Service(lambda _: picked, open_backing(settings), settings.service)
        self._service.warm_up()

    def __del__(self) -> None:
        """Make everything queued durable (called by Ray Serve when the replica stops)."""
        if hasattr(self, "_service"):
            self._service.close()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the routes over the open bundle (called by Ray Serve after the constructor)."""
        return create_app(  # Ray Serve echoes the request id itself
            self._service, echo_request_id=False, protection=self._protection
        )


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
