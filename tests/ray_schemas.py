"""Ray's own descriptions of what it reads, imported without the deprecation warnings that its import gives."""

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ray.scripts.scripts import drain_node
    from ray.serve._private.application_state import override_deployment_info
    from ray.serve._private.deployment_info import DeploymentInfo
    from ray.serve.config import AutoscalingConfig, BackpressureConfig
    from ray.serve.schema import (
        DeploymentSchema,
        HTTPOptionsSchema,
        LoggingConfig,
        RayActorOptionsSchema,
        ServeApplicationSchema,
        ServeDeploySchema,
    )

__all__ = [
    "AutoscalingConfig",
    "BackpressureConfig",
    "DeploymentSchema",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "RayActorOptionsSchema",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "deployed",
    "drain_node",
]


def deployed(application: Any, config: dict[str, Any]) -> Any:
    """Return what Ray Serve's controller makes of an application with one deployment and a configuration file.

    Returns:
        Ray's DeploymentInfo, with `deployment_config` and `replica_config`.
    """
    made = application._bound_deployment
    info = DeploymentInfo(
        deployment_config=made._deployment_config,
        replica_config=made._replica_config,
        start_time_ms=0,
        deployer_job_id="",
    )
    [described] = ServeDeploySchema.model_validate(config).applications
    return override_deployment_info({made.name: info}, described)[made.name]
