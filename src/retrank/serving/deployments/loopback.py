"""Keep a replica's inner gRPC server on this machine.

Ray Serve 2.60 lets each replica listen on every interface for calls from other deployments, and has no setting for it.
One fused deployment makes no such calls, so a service meant for this machine alone listens on the loopback address.
"""

import logging

from ray.serve._private import replica

from retrank.serving.ingress import LOOPBACK

_HOOK = "add_port_to_grpc_server"
_log = logging.getLogger(__name__)


def narrow_inner_server() -> None:
    """Make the inner server of this replica process listen on the loopback address; call it in the constructor."""
    add_port = getattr(replica, _HOOK, None)
    if add_port is None:
        _log.warning("this version of Ray starts the inner server of a replica elsewhere; check `ss -ltn`")
        return

    def add_local_port(server: object, address: str) -> int:
        port: int = add_port(server, f"{LOOPBACK}:{address.rpartition(':')[2]}")
        return port

    setattr(replica, _HOOK, add_local_port)
