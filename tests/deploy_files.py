"""The files that operators deploy with, read as the tools that use them would."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
BASE = ROOT / "serving" / "k8s" / "base"
TRAINING = ROOT / "training" / "k8s"
Tree = dict[str, Any]


def documents(path: Path) -> list[Tree]:
    """Return the documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def resources() -> list[Tree]:
    """Return every Kubernetes resource of the repository, but for patches and kustomizations."""
    files = [path for path in BASE.glob("*.yaml") if path.name not in {"kustomization.yaml", "serve-config.yaml"}]
    files += [*TRAINING.glob("*.yaml"), ROOT / "serving" / "k8s" / "canary" / "gateway-network.yaml"]
    return [one for path in sorted(files) for one in documents(path)]


def named(kind: str, name: str = "") -> Tree:
    """Return the one resource of a kind (and a name)."""
    [found] = [one for one in resources() if one["kind"] == kind and name in ("", one["metadata"].get("name"))]
    return found


def pod_templates() -> dict[str, Tree]:
    """Return every pod template, by the resource and the group it belongs to."""
    found: dict[str, Tree] = {}
    for one in resources():
        name, spec = f"{one['kind']}/{one['metadata'].get('name', '')}", one.get("spec", {})
        if one["kind"] in ("RayService", "RayJob"):
            cluster = spec["rayClusterConfig" if one["kind"] == "RayService" else "rayClusterSpec"]
            found[f"{name}/head"] = cluster["headGroupSpec"]["template"]
            found |= {f"{name}/{group['groupName']}": group["template"] for group in cluster["workerGroupSpecs"]}
        elif one["kind"] == "CronJob":
            found[name] = spec["jobTemplate"]["spec"]["template"]
        elif "template" in spec:
            found[name] = spec["template"]
    return found


def serve_config() -> Tree:
    """Return `serveConfigV2` as Ray Serve on Kubernetes gets it."""
    [patch] = documents(BASE / "serve-config.yaml")
    config: Tree = yaml.safe_load(patch["spec"]["serveConfigV2"])
    return config
