"""serving/config.yaml, its values and what Kubernetes gets are one configuration."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_files import BASE, ROOT, Tree, documents, serve_config
from pydantic import BaseModel, ValidationError
from ray_schemas import (
    AutoscalingConfig,
    BackpressureConfig,
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
    deployed,
)
from render_deployment import CONFIG, RENDERED, Values, differences, patches, read_values
from render_deployment import serve_config as rendered

from retrank.serving.deployments.fused import DEPLOYMENT, build
from retrank.serving.settings import Settings, parse_settings

LAPTOP: Tree = yaml.safe_load(CONFIG.read_text())


@pytest.fixture(params=["serving/config.yaml", "serveConfigV2"])
def config(request: pytest.FixtureRequest) -> Tree:
    return LAPTOP if request.param == "serving/config.yaml" else serve_config()


def test_what_is_committed_is_what_the_values_give() -> None:
    values = read_values()
    assert differences(values, patches(LAPTOP, values)) == []


def test_a_change_of_a_value_is_noticed_wherever_it_counts() -> None:
    values = read_values()
    grown = values.model_copy(
        update={"port": 9000, "tag": "0.2.0", "nodes": values.nodes.model_copy(update={"max": 8, "memory": "16Gi"})}
    )
    found = "\n".join(differences(grown, patches(LAPTOP, grown)))
    for told in (RENDERED.name, "maxReplicas", "resources", "port", "retrank-serving:0.2.0"):
        assert told in found


def test_the_cluster_differs_from_the_laptop_in_the_values_alone() -> None:
    cluster, values = rendered(LAPTOP, read_values()), read_values()
    [theirs], [ours] = cluster["applications"], LAPTOP["applications"]
    [their], [our] = theirs["deployments"], ours["deployments"]
    scaling = {"min_replicas": values.replicas.min, "max_replicas": values.replicas.max}
    assert their == our | {
        "autoscaling_config": our["autoscaling_config"] | scaling,
        "max_replicas_per_node": values.replicas.per_node,
    }
    assert {key for key in cluster if cluster[key] != LAPTOP[key]} == {
        "proxy_location",
        "http_options",
        "applications",
    }
    assert serve_config() == cluster


def test_ray_accepts_it(config: Tree) -> None:
    [application] = ServeDeploySchema.model_validate(config).applications
    assert [deployment.name for deployment in application.deployments] == [DEPLOYMENT]


def _unknown(given: Tree, schema: type[BaseModel], *handled: str) -> set[str]:
    fields = set(schema.model_fields) | {field.alias for field in schema.model_fields.values() if field.alias}
    return set(given) - fields - set(handled)


def test_ray_knows_every_key(config: Tree) -> None:
    """Ray ignores keys it does not know, so a slip would be a default."""
    [application] = config["applications"]
    [deployment] = application["deployments"]
    assert _unknown(config, ServeDeploySchema) == set()
    assert _unknown(config["http_options"], HTTPOptionsSchema) == set()
    assert _unknown(config["logging_config"], LoggingConfig) == set()
    assert _unknown(application, ServeApplicationSchema) == set()
    assert _unknown(deployment, DeploymentSchema) == set()
    assert _unknown(deployment["autoscaling_config"], AutoscalingConfig) == set()
    assert _unknown(deployment["backpressure_config"], BackpressureConfig) == set()
    assert _unknown(deployment["ray_actor_options"], RayActorOptionsSchema) == set()


def test_every_argument_is_a_setting_of_the_service(config: Tree) -> None:
    [application] = config["applications"]
    settings = parse_settings(application["args"])
    assert (settings.host, settings.port) == (config["http_options"]["host"], config["http_options"]["port"])


def test_ray_queues_behind_the_guard_not_before_it(config: Tree) -> None:
    [application] = config["applications"]
    [deployment] = application["deployments"]
    guard = parse_settings(application["args"]).guard
    lanes = (guard.answers, guard.batches, guard.writes)
    assert deployment["max_ongoing_requests"] > sum(lane.concurrency + lane.max_queued for lane in lanes)
    assert deployment["graceful_shutdown_timeout_s"] > guard.drain.finish_s
    assert deployment["backpressure_config"]["status_code"] == 429


def test_ray_makes_of_it_what_it_says(config: Tree, tmp_path: Path) -> None:
    """The code asks for a fixed number of replicas; what the file says wins."""
    [deployment] = config["applications"][0]["deployments"]
    made = deployed(build(Settings(bundle=tmp_path, replicas=3)), config)
    scaling = made.deployment_config.autoscaling_config
    assert scaling is not None
    for key, value in deployment["autoscaling_config"].items():
        assert getattr(scaling, key) == value, key
    for key in set(deployment) & set(type(made.deployment_config).model_fields) - {"autoscaling_config"}:
        wanted, found = deployment[key], getattr(made.deployment_config, key)
        assert (found.model_dump(exclude_unset=True) if isinstance(found, BaseModel) else found) == wanted, key
    assert made.replica_config.ray_actor_options["num_cpus"] == deployment["ray_actor_options"]["num_cpus"]
    assert made.replica_config.max_replicas_per_node == deployment.get("max_replicas_per_node")


def test_every_setting_says_why() -> None:
    lines = (ROOT / "serving" / "config.yaml").read_text().split("    deployments:\n")[1].splitlines()
    values = [line for line in lines if ": " in line.partition("#")[0]]
    assert len(values) > 10
    explained = {"- name: retrank", "status_code: 429", "retry_after_s: 1.0"}
    assert [line for line in values if "#" not in line and line.strip() not in explained] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": "latest"}, "tag must name one image"),
        ({"replicas": {"min": 4, "max": 30, "per_node": 4}}, "needs 8 pods"),
        ({"replicas": {"min": 2, "max": 4, "per_node": 8}}, "leaves no core"),
        ({"nodes": {"min": 5, "max": 6, "cpus": 5, "memory": "8Gi"}}, "leaves pods"),
        ({"imgae": "x"}, "Extra inputs"),
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Values.model_validate(read_values().model_dump() | change)


def test_the_rendered_patch_is_marked_as_such() -> None:
    assert (BASE / "serve-config.yaml").read_text().startswith("# Rendered by scripts/render_deployment.py")
    assert len(documents(Path(RENDERED))) == 1
