"""The manifests, held to the schemas of Kubernetes and to what the pieces promise each other. No cluster is asked."""

import re
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click import Choice
from deploy_files import ROOT, Tree, documents, named, pod_templates, resources, serve_config
from ray_schemas import drain_node

KUBERNETES = ["1.31", kubernetes_validate.latest_version()]
CUSTOM = {"RayService", "RayJob"}
TEMPLATES = pod_templates()
NAMESPACE = "retrank"

# Fields of ray.io/v1 that are used here, as they stand in KubeRay's definitions (helm-chart/kuberay-operator/crds).
_CLUSTER = {
    "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions", "gcsFaultToleranceOptions",
    "headGroupSpec", "workerGroupSpecs",
}  # fmt: skip
FIELDS: dict[str, set[str]] = {
    "RayService.spec": {
        "serveConfigV2", "rayClusterConfig", "excludeHeadPodFromServeSvc", "upgradeStrategy",
        "rayClusterDeletionDelaySeconds",
    },
    "RayJob.spec": {
        "submissionMode", "entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "activeDeadlineSeconds",
        "backoffLimit", "rayClusterSpec",
    },
    "cluster": _CLUSTER,
    "autoscalerOptions": {"version", "idleTimeoutSeconds", "resources", "securityContext"},
    "authOptions": {"mode", "secretName"},
    "gcsFaultToleranceOptions": {"redisAddress", "redisPassword"},
    "headGroupSpec": {"rayStartParams", "template"},
    "workerGroup": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "upgradeStrategy": {"type", "clusterUpgradeOptions"},
    "clusterUpgradeOptions": {"gatewayClassName", "stepSizePercent", "intervalSeconds", "maxSurgePercent"},
}  # fmt: skip


def _valid(resource: Tree, version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "resource", [one for one in resources() if one["kind"] not in CUSTOM], ids=lambda one: one["kind"]
)
def test_kubernetes_accepts_every_resource(resource: Tree, version: str) -> None:
    _valid(resource, version)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_kubernetes_accepts_every_pod(name: str, version: str) -> None:
    template = TEMPLATES[name]
    _valid({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}, version)


def test_a_slip_in_a_pod_would_be_found() -> None:
    spec = TEMPLATES["RayService/retrank/replicas"]["spec"] | {"terminationGracePeriod": 5}
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        _valid({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec}, KUBERNETES[-1])


def _cluster(resource: Tree) -> Tree:
    cluster: Tree = resource["spec"]["rayClusterConfig" if resource["kind"] == "RayService" else "rayClusterSpec"]
    return cluster


@pytest.mark.parametrize("kind", sorted(CUSTOM))
def test_kuberay_knows_every_field(kind: str) -> None:
    resource = named(kind)
    cluster = _cluster(resource)
    assert set(resource["spec"]) <= FIELDS[f"{kind}.spec"]
    assert set(cluster) <= FIELDS["cluster"]
    for part in ("autoscalerOptions", "authOptions", "gcsFaultToleranceOptions", "headGroupSpec"):
        assert set(cluster.get(part, {})) <= FIELDS[part], part
    assert all(set(group) <= FIELDS["workerGroup"] for group in cluster["workerGroupSpecs"])
    assert cluster["authOptions"]["mode"] == "token"
    assert all(isinstance(value, str) for value in cluster["headGroupSpec"]["rayStartParams"].values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_pod_runs_as_root_or_writes_to_its_image(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"requests", "limits"} <= set(container["resources"])
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_mount_has_its_volume(name: str) -> None:
    spec = TEMPLATES[name]["spec"]
    claimed = {one["metadata"]["name"] for one in named("StatefulSet")["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in spec["volumes"]} | (claimed if name.startswith("StatefulSet") else set())
    assert {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]} == volumes


def _worker() -> Tree:
    spec: Tree = TEMPLATES["RayService/retrank/replicas"]["spec"]
    return spec


def test_a_pod_that_leaves_is_given_the_time_its_replicas_take() -> None:
    [container] = _worker()["containers"]
    [_, _, hook] = container["lifecycle"]["preStop"]["exec"]["command"]
    [deadline] = re.findall(r"--deadline-remaining-seconds (\d+)", hook)
    [pause] = re.findall(r"; sleep (\d+)$", hook)
    [application] = serve_config()["applications"]
    [deployment] = application["deployments"]
    assert deadline == pause
    assert _worker()["terminationGracePeriodSeconds"] >= int(pause) + deployment["graceful_shutdown_timeout_s"] + 10


def test_the_hook_says_what_this_ray_understands() -> None:
    [container] = _worker()["containers"]
    [_, _, hook] = container["lifecycle"]["preStop"]["exec"]["command"]
    used = set(re.findall(r"--[a-z-]+", hook))
    options = {name: option for option in drain_node.params for name in option.opts}
    assert used <= set(options)
    [reason] = re.findall(r"--reason (\w+)", hook)
    reasons = options["--reason"].type
    assert isinstance(reasons, Choice)
    assert reason in reasons.choices


def test_the_pod_holds_as_many_replicas_as_serve_puts_there_and_a_core_more() -> None:
    [container] = _worker()["containers"]
    [application] = serve_config()["applications"]
    [deployment] = application["deployments"]
    cores = deployment["max_replicas_per_node"] * deployment["ray_actor_options"]["num_cpus"]
    assert int(container["resources"]["limits"]["cpu"]) == cores + 1


def _selected(selector: Tree, labels: dict[str, str]) -> bool:
    wanted = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return wanted and all(
        labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
        if rule["operator"] == "In"
    )


def _policies() -> list[Tree]:
    return [one for one in resources() if one["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("policy", _policies(), ids=lambda one: one["metadata"]["name"])
def test_every_policy_is_for_somebody(policy: Tree) -> None:
    labels = [template["metadata"]["labels"] for template in TEMPLATES.values()]
    labels.append({"gateway.networking.k8s.io/gateway-name": "retrank-gateway"})  # whose pods are not made here
    assert any(_selected(policy["spec"]["podSelector"], one) for one in labels)


def _from_outside(component: str) -> dict[int, str]:
    """Return which ports of a component are open to other namespaces, and the label that opens them."""
    labels = {"app.kubernetes.io/name": "retrank", "app.kubernetes.io/component": component}
    found: dict[int, str] = {}
    for policy in _policies():
        if policy["spec"]["podSelector"] and _selected(policy["spec"]["podSelector"], labels):
            for rule in policy["spec"].get("ingress", []):
                for source in rule["from"]:
                    for label in source.get("namespaceSelector", {}).get("matchLabels", {}):
                        found |= {port["port"]: label for port in rule["ports"]}
    return found


def test_other_namespaces_reach_the_port_that_is_theirs_and_no_other() -> None:
    operator = "kubernetes.io/metadata.name"
    assert _from_outside("worker") == {8000: "retrank/callers", 30000: "retrank/metrics"}
    assert _from_outside("admin") == {8001: "retrank/operators"}
    assert _from_outside("head") == {8265: operator, 52365: operator, 8000: operator}


def test_without_a_policy_nothing_passes() -> None:
    deny = named("NetworkPolicy", "deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_budget_is_for_the_workers_and_lets_one_go() -> None:
    budget = named("PodDisruptionBudget")["spec"]
    labelled = [name for name, one in TEMPLATES.items() if _selected(budget["selector"], one["metadata"]["labels"])]
    assert labelled == ["RayService/retrank/replicas"]
    [group] = _cluster(named("RayService"))["workerGroupSpecs"]
    assert budget["maxUnavailable"] < group["minReplicas"]


def test_redis_keeps_what_it_is_given() -> None:
    config = named("ConfigMap", "retrank-redis")["data"]["redis.conf"]
    assert "maxmemory-policy noeviction" in config
    assert "appendonly yes" in config
    assert "requirepass" not in config


def _kustomize(overlay: str) -> list[Tree]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT CHECKED: no kubectl on this machine")
    folder = ROOT / "serving" / "k8s" / overlay
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _upgrade(overlay: str) -> Tree:
    """Return the patched fields of an overlay, read from the file itself."""
    [overlaid] = documents(ROOT / "serving" / "k8s" / overlay / "kustomization.yaml")
    [patch] = overlaid["patches"]
    return {one["path"].removeprefix("/spec/"): one["value"] for one in yaml.safe_load(patch["patch"])}


@pytest.mark.parametrize("overlay", ["rolling", "canary"])
def test_an_overlay_is_the_base_with_a_way_to_upgrade(overlay: str) -> None:
    built = _kustomize(overlay)
    [service] = [one for one in built if one["kind"] == "RayService"]
    added = _upgrade(overlay)
    assert {key: service["spec"][key] for key in added} == added
    assert set(service["spec"]) <= FIELDS["RayService.spec"]
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == serve_config()
    assert {one["metadata"]["namespace"] for one in built if one["kind"] != "Namespace"} == {NAMESPACE}
    assert _images(service) == {"retrank-serving:0.1.0"}


def _images(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["image"]} if isinstance(node.get("image"), str) else set()
        return own.union(*(_images(value) for value in node.values()))
    return set().union(*(_images(value) for value in node)) if isinstance(node, list) else set()


def test_a_rolling_upgrade_keeps_the_old_cluster_for_a_while() -> None:
    added = _upgrade("rolling")
    assert added["upgradeStrategy"] == {"type": "NewCluster"}
    assert added["rayClusterDeletionDelaySeconds"] > 0


def test_a_canary_moves_in_steps_and_has_the_autoscaler_it_needs() -> None:
    strategy = _upgrade("canary")["upgradeStrategy"]
    assert set(strategy) == FIELDS["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    options = strategy["clusterUpgradeOptions"]
    assert set(options) == FIELDS["clusterUpgradeOptions"]
    assert 0 < options["stepSizePercent"] <= options["maxSurgePercent"] <= 100
    assert options["intervalSeconds"] > 0
    assert _cluster(named("RayService"))["enableInTreeAutoscaling"] is True
