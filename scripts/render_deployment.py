"""Render what Kubernetes needs from serving/config.yaml and serving/k8s/values.yaml, so that they cannot drift.

    python scripts/render_deployment.py            write serving/k8s/base/serve-config.yaml
    python scripts/render_deployment.py --check    say what differs, and end with 1 if something does

`serve-config.yaml` is a patch of the RayService: `serveConfigV2`, which is serving/config.yaml with the values in place
of what suits a laptop. `kubectl kustomize` puts it into `rayservice.yaml`, whose workers and port, like the image in
`kustomization.yaml`, are only compared: they are written by hand.
"""

import argparse
import json
import math
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "serving" / "config.yaml"
VALUES = ROOT / "serving" / "k8s" / "values.yaml"
RENDERED = ROOT / "serving" / "k8s" / "base" / "serve-config.yaml"
KUSTOMIZATION = RENDERED.with_name("kustomization.yaml")
_HEADER = (
    "# Rendered by scripts/render_deployment.py from serving/config.yaml and serving/k8s/values.yaml; do not edit.\n"
)
_STRICT = ConfigDict(frozen=True, extra="forbid")
Tree = dict[str, Any]


class Replicas(BaseModel):
    """How many processes answer."""

    model_config = _STRICT

    min: int = Field(ge=2, description="at least; two, so that one may go")
    max: int = Field(ge=2, description="at most")
    per_node: int = Field(ge=1, le=100, description="at most on one worker pod")


class Nodes(BaseModel):
    """The worker pods."""

    model_config = _STRICT

    min: int = Field(ge=2, description="at least; two, so that one may go")
    max: int = Field(ge=2, description="at most")
    cpus: int = Field(ge=2, description="cores of each, one of them for what is not a replica")
    memory: str = Field(pattern=r"^[1-9][0-9]*(Mi|Gi)$", description="of each, as Kubernetes writes it")


class Values(BaseModel):
    """The file of values."""

    model_config = _STRICT

    image: str = Field(pattern=r"^[a-z0-9][a-z0-9./_-]*$", description="name of the image, without a tag")
    tag: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", description="tag of the image; never latest")
    host: str = Field(description="interface that the service listens on")
    port: int = Field(ge=1, le=65_535, description="port of the service")
    replicas: Replicas
    nodes: Nodes
    args: Tree = Field(description="fields of retrank.serving.settings.Settings")

    @model_validator(mode="after")
    def _fits(self) -> "Values":
        if self.tag == "latest":
            raise ValueError("tag must name one image, got 'latest'; pods of one service would run different ones")
        if self.nodes.cpus <= self.replicas.per_node:
            raise ValueError(
                f"nodes.cpus={self.nodes.cpus} leaves no core beside replicas.per_node={self.replicas.per_node}"
            )
        for bound, replicas, nodes in (
            ("min", self.replicas.min, self.nodes.min),
            ("max", self.replicas.max, self.nodes.max),
        ):
            needed = math.ceil(replicas / self.replicas.per_node)
            if bound == "max" and needed > nodes:
                raise ValueError(f"replicas.max={replicas} needs {needed} pods, more than nodes.max={nodes}")
            if bound == "min" and replicas < nodes:
                raise ValueError(f"replicas.min={replicas} leaves pods of nodes.min={nodes} without one")
        return self


def read_values(path: Path = VALUES) -> Values:
    """Return the checked values."""
    return Values.model_validate(yaml.safe_load(path.read_text()))


def serve_config(config: Tree, values: Values) -> Tree:
    """Return the configuration of Ray Serve on a cluster: the laptop's, with the values put in.

    Args:
        config: what serving/config.yaml holds.
        values: what differs.
    """
    cluster = deepcopy(config)
    cluster["proxy_location"] = "EveryNode"
    cluster["http_options"] |= {"host": values.host, "port": values.port}
    [application] = cluster["applications"]
    application["args"] = {**values.args, "host": values.host, "port": values.port}
    [deployment] = application["deployments"]
    deployment["autoscaling_config"] |= {"min_replicas": values.replicas.min, "max_replicas": values.replicas.max}
    deployment["max_replicas_per_node"] = values.replicas.per_node
    return cluster


def patches(config: Tree, values: Values) -> str:
    """Return the patch of the RayService as text."""
    patch = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "retrank"},
        "spec": {"serveConfigV2": _Block(yaml.safe_dump(serve_config(config, values), sort_keys=False))},
    }
    return _HEADER + yaml.dump(patch, Dumper=_Dumper, sort_keys=False)


def worker_group(values: Values) -> Tree:
    """Return what the group of workers in rayservice.yaml has to say for these values."""
    size = {"cpu": str(values.nodes.cpus), "memory": values.nodes.memory}
    return {
        "replicas": max(values.nodes.min, math.ceil(values.replicas.min / values.replicas.per_node)),
        "minReplicas": values.nodes.min,
        "maxReplicas": values.nodes.max,
        "resources": {"requests": size, "limits": size},
        "port": values.port,
    }


def differences(values: Values, wanted: str) -> list[str]:
    """Return what the files of serving/k8s say otherwise than the values do."""
    found = []
    if not RENDERED.exists() or RENDERED.read_text() != wanted:
        found.append(f"{RENDERED.relative_to(ROOT)} is not what the values give; run scripts/render_deployment.py")
    service = yaml.safe_load(RENDERED.with_name("rayservice.yaml").read_text())
    [group] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    said = {key: group[key] for key in ("replicas", "minReplicas", "maxReplicas")}
    said["resources"] = {key: container["resources"][key] for key in ("requests", "limits")}
    said["port"] = next(port["containerPort"] for port in container["ports"] if port["name"] == "serve")
    for key, value in worker_group(values).items():
        if said[key] != value:
            found.append(
                f"rayservice.yaml: {key} of the workers is {json.dumps(said[key])}, expected {json.dumps(value)}"
            )
    images = yaml.safe_load(KUSTOMIZATION.read_text())["images"]
    if {"name": "retrank-serving", "newName": values.image, "newTag": values.tag} not in images:
        found.append(f"kustomization.yaml: images does not name {values.image}:{values.tag} for retrank-serving")
    return found


class _Block(str):
    """Text that YAML shows line by line."""


class _Dumper(yaml.SafeDumper):
    pass


def _as_block(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


_Dumper.add_representer(_Block, _as_block)


def main(arguments: list[str]) -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description="render serving/k8s from serving/config.yaml and its values")
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 when something differs")
    asked = parser.parse_args(arguments)
    values = read_values()
    wanted = patches(yaml.safe_load(CONFIG.read_text()), values)
    if not asked.check:
        RENDERED.write_text(wanted)
    found = differences(values, wanted)
    print("\n".join(found) or f"{RENDERED.relative_to(ROOT)} is up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
