"""The Ray Serve application: `serve run serving/config.yaml` and `retrank serve` both end here."""

from ray.serve import Application

from retrank.contract.bundle import verify
from retrank.serving.bundles.opening import try_begin
from retrank.serving.deployments import fused
from retrank.serving.settings import Settings, refuse_to_open


def build_app(args: Settings) -> Application:
    """Describe the service: every replica answers a whole request by itself.

    Raises:
        ConfigError: it would listen beyond this machine without asking for keys.
        BundleError: the bundle is incomplete or was changed; found here, before any replica starts.
    """
    refuse_to_open(args)
    verify(args.bundle)
    try_begin(args)
    return fused.build(args)
