"""What the jobs of training/k8s run are commands that compose."""

import re
import shlex
from pathlib import Path

import pytest
from deploy_files import named, pod_templates

from retrank.config import compose

ROOT = Path(__file__).parents[3]


def _commands() -> list[list[str]]:
    [container] = pod_templates()["CronJob/retrank-training"]["spec"]["containers"]
    [script] = container["args"]
    lines = [*script.replace("\\\n", " ").splitlines(), named("RayJob")["spec"]["entrypoint"]]
    return [shlex.split(line)[1:] for line in lines if line.startswith("retrank ")]


@pytest.mark.parametrize("words", _commands(), ids=lambda words: str(words[0]))
def test_a_command_of_a_job_composes(words: list[str]) -> None:
    overrides = [f"act={words[1]}", *words[2:]] if words[0] == "events" else words[1:]
    assert compose(words[0], overrides)


def test_the_night_reads_events_as_the_documentation_does() -> None:
    """What a column means is said once, in the configuration of `data=live_events`."""
    [night] = [words for words in _commands() if words[0] == "ingest"]
    [line] = re.findall(r"^retrank ingest data=live_events.*$", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
    documented = shlex.split(line)[1:]
    assert [word for word in night if "path=" not in word] == [word for word in documented if "path=" not in word]


def test_the_night_ends_with_a_bundle_beside_the_library_not_in_it() -> None:
    [*_, exported, _] = _commands()
    assert exported[0] == "export"
    [out] = [word.partition("=")[2] for word in exported if word.startswith("out=")]
    assert out.startswith("/bundles/")
