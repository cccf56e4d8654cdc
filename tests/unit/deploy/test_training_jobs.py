"""What the jobs of training/k8s run are commands that compose."""

import shlex

import pytest
from deploy_files import named, pod_templates

from retrank.config import compose


def _commands() -> list[list[str]]:
    [container] = pod_templates()["CronJob/retrank-training"]["spec"]["containers"]
    [script] = container["args"]
    lines = [*script.replace("\\\n", " ").splitlines(), named("RayJob")["spec"]["entrypoint"]]
    return [shlex.split(line)[1:] for line in lines if line.startswith("retrank ")]


@pytest.mark.parametrize("words", _commands(), ids=lambda words: str(words[0]))
def test_a_command_of_a_job_composes(words: list[str]) -> None:
    overrides = [f"act={words[1]}", *words[2:]] if words[0] == "events" else words[1:]
    assert compose(words[0], overrides)


def test_the_night_ends_with_a_bundle_beside_the_library_not_in_it() -> None:
    [*_, exported, _] = _commands()
    assert exported[0] == "export"
    [out] = [word.partition("=")[2] for word in exported if word.startswith("out=")]
    assert out.startswith("/bundles/")
