"""compose.yaml is valid by the specification, opens nothing to the network, and its parts fit together."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from deploy_files import ROOT, Tree, pod_templates, serve_config
from jsonschema.validators import validator_for
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis_processes import need_redis

from retrank.config import compose, resolve
from retrank.serving.guard.settings import DrainSettings
from retrank.serving.ingress import free_port
from retrank.serving.settings import Settings, parse_settings, refuse_to_open
from retrank.serving.stores.settings import url_of

FOLDER = ROOT / "serving"
COMPOSE: Tree = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Tree] = COMPOSE["services"]
_ONCE = Retry(NoBackoff(), 0)


def test_the_specification_accepts_it() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator: Any = validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []


def test_the_specification_would_refuse_a_slip() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator: Any = validator_for(schema)(schema)
    wrong = COMPOSE | {"services": {"redis": SERVICES["redis"] | {"comand": []}}}
    assert list(validator.iter_errors(wrong))


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_published_is_published_on_loopback(name: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in SERVICES[name].get("ports", []))
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_pinned_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert not service["image"].endswith(":latest")
    assert ":" in service["image"]
    assert "healthcheck" in service or "HEALTHCHECK " in (FOLDER / "Dockerfile").read_text()


def test_every_file_that_is_mounted_exists() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [mount for mount in mounts if mount.startswith(".")]
    assert files
    assert [name for name in files if not (FOLDER / name).is_file()] == []
    assert {mount for mount in mounts if not mount.startswith(".")} == set(COMPOSE["volumes"])


def test_secrets_are_files_that_git_ignores_and_nothing_else_holds_one() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())
    assert "/serving/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    shown = str(COMPOSE["services"])
    assert set(re.findall(r"/run/secrets/(\w+)", shown)) == used - {"metrics_key"}  # which prometheus.yml names
    assert "/run/secrets/metrics_key" in (FOLDER / "prometheus.yml").read_text()


def test_the_service_is_given_the_time_it_takes_to_leave() -> None:
    service = SERVICES["service"]
    [window_s] = [float(word.partition("window_s=")[2]) for word in service["command"] if "window_s=" in word]
    assert float(service["stop_grace_period"].removesuffix("s")) >= window_s + DrainSettings().finish_s + 20


def test_its_folder_for_sockets_and_scripts_may_be_executed_from() -> None:
    [tmp] = SERVICES["service"]["tmpfs"]
    assert "exec" in tmp.partition(":")[2].split(",")


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT CHECKED: no promtool on this machine; apt-get install prometheus")
    shutil.copy(FOLDER / "dashboards" / "alerts.yaml", tmp_path / "alerts.yaml")
    key = tmp_path / "metrics_key"
    key.touch()
    text = (FOLDER / "prometheus.yml").read_text().replace("/run/secrets/metrics_key", str(key))
    (tmp_path / "prometheus.yml").write_text(text)
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


def test_prometheus_and_grafana_ask_where_the_services_are() -> None:
    prometheus = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    asked = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert asked["retrank"] == ["service:8000"]
    assert "service" in SERVICES
    [source] = yaml.safe_load((FOLDER / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load((FOLDER / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert any(f":{provider['options']['path']}/" in mount for mount in SERVICES["grafana"]["volumes"])


def test_redis_takes_its_command_and_asks_for_the_password(tmp_path: Path) -> None:
    """The command of the file, by a real server."""
    need_redis()
    auth = tmp_path / "redis_auth.conf"
    auth.write_text("requirepass sesame\n")
    words = [str(auth) if word == "/run/secrets/redis_auth" else word for word in SERVICES["redis"]["command"]]
    port = free_port()
    here = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen([*words, *here], stdout=log) as server:
        try:
            with Redis(port=port, password="sesame", retry=_ONCE) as known:
                _wait_for(known)
                assert known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert known.config_get("appendonly") == {"appendonly": "yes"}
            with Redis(port=port, retry=_ONCE) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
        finally:
            server.terminate()


def _wait_for(server: Redis) -> None:
    for attempt in range(200):
        try:
            server.ping()
            return
        except RedisError:
            if attempt == 199:
                raise
            time.sleep(0.05)


def _settings(words: list[str]) -> Settings:
    """Return the settings that `retrank WORD OVERRIDES` starts with."""
    config = resolve(compose(words[0], words[1:]))
    return parse_settings({"bundle": config["bundle"], **config["serving"]})


def test_the_service_starts_with_its_words() -> None:
    settings = _settings(SERVICES["service"]["command"])
    assert url_of(settings.state_store()) == "file:/run/secrets/state_url"
    assert settings.event_logs().directory == Path("/var/lib/retrank/logs")
    assert f"127.0.0.1:8000:{settings.port}" in SERVICES["service"]["ports"]
    assert f"127.0.0.1:8001:{settings.admin.port}" in SERVICES["service"]["ports"]
    refuse_to_open(settings)


def test_the_admin_pod_starts_with_its_words_and_writes_where_it_may() -> None:
    [container] = pod_templates()["Deployment/retrank-admin"]["spec"]["containers"]
    settings = _settings(container["args"])
    mounted = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert str(settings.bundle) in mounted
    assert any(settings.folder.is_relative_to(path) for path in mounted)
    assert settings.admin.port == container["ports"][0]["containerPort"]
    refuse_to_open(settings)
    assert settings.guard.auth.model_dump(mode="json") == serve_config()["applications"][0]["args"]["guard"]["auth"] | {
        "allow_open": False
    }
    assert "RETRANK_KEY_PEPPER" in {one["name"] for one in container["env"]}
    assert url_of(settings.state_store()) == serve_config()["applications"][0]["args"]["state"]["url"]
