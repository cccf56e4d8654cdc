"""What stands between Ray Serve and the application in a replica, without the warnings that importing Ray gives."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ray._private import worker as ray_worker
    from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE as HAPROXY_TEMPLATE
    from ray.serve._private.http_util import _apply_middlewares as apply_middlewares
    from ray.serve._private.http_util import convert_object_to_asgi_messages, start_asgi_http_server
    from ray.serve._private.replica import ReplicaMetricsManager
    from ray.serve.config import HTTPOptions

    from retrank.serving.deployments import express, listener

__all__ = [
    "HAPROXY_TEMPLATE",
    "HTTPOptions",
    "ReplicaMetricsManager",
    "apply_middlewares",
    "convert_object_to_asgi_messages",
    "express",
    "listener",
    "ray_worker",
    "start_asgi_http_server",
]
