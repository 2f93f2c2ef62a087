"""The compose file, held against its schema, the program's settings, and what is in this repository."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.broker.artifacts import KAFKA_VERSION
from service.commands import worker_activity
from service.configuration.settings import HttpSettings, ServiceSettings
from tests.deploy.composed import (
    DEPLOY,
    DOCKERFILE,
    VERSION,
    accepted,
    image_environment,
    mounts,
    ours,
    seconds,
    services,
)
from tests.deploy.tools import ROOT, tool
from tests.kafka.secured import documented, lacking, needs

FOREIGN = sorted(services().keys() - ours().keys())
MOUNTS = [
    pytest.param(path, id=f"{name} {place}")
    for name, service in services().items()
    for place, path in mounts(service).items()
]


@pytest.mark.parametrize("beside", [[], ["compose.gpu.yaml"], ["compose.keep.yaml"]], ids=["cpu", "gpu", "keep"])
def test_docker_compose_would_load_the_files(beside: list[str]) -> None:
    """Docker Compose's own loader holds them against the specification's schema and looks for what doesn't fit."""
    files = ["compose.yaml", *beside]
    done = subprocess.run([tool("compose-spec"), *files], cwd=DEPLOY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_loader_would_refuse_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    done = subprocess.run([tool("compose-spec"), str(wrong)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "readonly" in done.stderr


@pytest.mark.parametrize("name", sorted(ours()))
def test_commands_and_variables_are_those_of_the_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ours()[name]
    settings = accepted(service["command"], {**image_environment(), **service["environment"]}, monkeypatch)
    assert settings.kafka.bootstrap_servers == "kafka:19092"


def test_the_gpu_file_changes_all_services_of_the_image_and_sets_what_the_program_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]
    assert changed.keys() == ours().keys()
    for name, service in changed.items():
        assert service["image"] == f"stridecast:{VERSION}-cuda"
        assert ("deploy" in service) == name.endswith("-worker")
        accepted(ours()[name]["command"], service.get("environment", {}), monkeypatch)


def test_windows_are_kept_on_a_volume_that_the_images_user_may_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    override = yaml.safe_load((DEPLOY / "compose.keep.yaml").read_text())
    changed = override["services"]
    assert changed.keys() == ours().keys()
    assert {service["image"] for service in changed.values()} == {f"stridecast:{VERSION}-cpu-keep"}
    extra = changed["topics"]["build"]["args"]["EXTRA"]
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    worker = changed["activity-worker"]
    settings = accepted(ours()["activity-worker"]["command"], worker["environment"], monkeypatch)
    assert isinstance(settings, worker_activity.Options)
    folder = settings.activity.keep.folder
    assert worker["volumes"] == [f"kept:{folder}"]
    assert override["volumes"].keys() == {"kept"}
    # A new volume has the owner of what the image has in its place.
    assert f"install --directory --owner=stridecast --group=stridecast {folder}\n" in DOCKERFILE


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml", "compose.keep.yaml"])
def test_one_service_builds_the_image_and_no_other_looks_for_it_elsewhere(file: str) -> None:
    """Services that build the same tag at once fail on a fresh machine: docker/buildx#3576."""
    built = yaml.safe_load((DEPLOY / file).read_text())["services"]
    assert [name for name, service in built.items() if "build" in service] == ["topics"]
    assert "profiles" not in ours()["topics"]
    for name, service in ours().items():
        # A version's own tag, so that the one before is still there to go back to.
        assert service["image"] == f"stridecast:{VERSION}-cpu"
        assert service["pull_policy"] == ("build" if name == "topics" else "never")


@pytest.mark.parametrize("path", MOUNTS)
def test_what_is_mounted_is_there(path: Path) -> None:
    assert path.exists()


def test_files_that_programs_are_given_lie_in_what_is_mounted() -> None:
    prometheus, grafana = services()["prometheus"], services()["grafana"]
    files = {
        "prometheus": prometheus["command"][0].removeprefix("--config.file="),
        "grafana": grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"],
        "replay-texts": services()["replay-texts"]["command"][2],
    }
    for name, path in files.items():
        places = mounts(services()[name])
        place = next(place for place in places if path.startswith(f"{place}/"))
        assert (places[place] / path.removeprefix(f"{place}/")).is_file(), path


def test_prometheus_looks_for_the_workers_under_their_names() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    looked_for = {found for job in jobs for source in job["dns_sd_configs"] for found in source["names"]}
    ports = {source["port"] for job in jobs for source in job["dns_sd_configs"]}
    assert looked_for == {name for name in ours() if name.endswith("-worker")}
    assert ports == {HttpSettings().port}


def test_nothing_is_published_but_on_loopback() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert len(published) == 6
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


@pytest.mark.parametrize("name", FOREIGN)
def test_images_of_others_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", services()[name]["image"])


def test_kafka_is_the_one_that_is_tested() -> None:
    assert services()["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", sorted(services()))
def test_containers_may_do_little(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name not in ("kafka", "kafka-ui"):
        assert service["read_only"]


@pytest.mark.parametrize("name", sorted(services()))
def test_containers_fill_neither_memory_nor_the_disk_with_logs(name: str) -> None:
    service = services()[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    # This driver throws old files away by itself; Docker's own default keeps all.
    assert service["logging"] == {"driver": "local"}


def test_grafana_leaves_its_plugins_as_they_came() -> None:
    """On a read-only root, Grafana 13.2 unloads its Prometheus plugin to update it, and then has none.

    https://github.com/grafana/grafana/issues/132528
    """
    grafana = services()["grafana"]
    assert grafana["read_only"]
    assert grafana["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_grafana_says_when_it_is_well() -> None:
    (port,) = services()["grafana"]["ports"]
    assert services()["grafana"]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port.split(':')[2]}/api/health"


@pytest.mark.parametrize("name", [name for name in ours() if name.endswith("-worker")])
def test_a_worker_may_take_longer_to_stop_than_it_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = accepted(ours()[name]["command"], ours()[name]["environment"], monkeypatch)
    assert isinstance(settings, ServiceSettings)
    assert seconds(ours()[name]["stop_grace_period"]) >= settings.shutdown_grace_s + 5


@pytest.mark.parametrize("name", [name for name in ours() if name.endswith("-worker")])
def test_the_documented_rights_fit_the_worker_under_its_group(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They named the group `stridecast` alone, and no worker of this file has that."""
    settings = accepted(ours()[name]["command"], ours()[name]["environment"], monkeypatch)
    assert isinstance(settings, ServiceSettings)
    assert settings.delivery == "exactly_once"
    assert lacking(needs(ours()[name]["command"], settings), documented("worker")) == []


def test_the_image_has_the_authorities_that_tls_and_token_endpoints_need() -> None:
    final = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"apt-get install .*\bca-certificates\b", final)


def test_what_the_image_copies_is_there_and_is_let_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    let_through = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert name == "." or name in let_through
    assert all((ROOT / name).exists() for name in let_through)
    for needed in re.findall(
        r'"(\w+)"', re.findall(r"^packages = (.*)$", (ROOT / "pyproject.toml").read_text(), re.M)[0]
    ):
        assert needed in let_through


@pytest.fixture
def secured(tmp_path: Path) -> dict[str, Any]:
    """What Docker Compose's own loader makes of compose.yaml and docs/security.md's example."""
    security = (ROOT / "docs/security.md").read_text()
    (example,) = re.findall(r"```yaml\n# deploy/secured.yaml\n(.*?)```", security, re.DOTALL)
    files = re.findall(r"docker compose -f (\S+) -f (\S+) up", security)
    assert files == [("deploy/compose.yaml", "deploy/secured.yaml")]  # whose paths are relative to the first's folder
    (tmp_path / "secured.yaml").write_text(example)
    command = [str(tool("compose-spec")), "-format", "json", "compose.yaml", str(tmp_path / "secured.yaml")]
    done = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_nothing_of_the_secured_example_is_left_at_the_files_own_kafka(secured: dict[str, Any]) -> None:
    """`topics`, the text worker and `replay` were: topics were made where no worker looked for them."""
    assert secured["services"].keys() == services().keys() - {"kafka", "kafka-ui"}
    assert "kafka:19092" not in str(secured["services"])


@pytest.mark.parametrize("name", sorted(ours()))
def test_the_secured_example_gives_each_command_a_user_that_may_do_it_and_its_files(
    secured: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = secured["services"][name]
    variables = dict(each.split("=", 1) for each in service["environment"])
    settings = accepted(service["command"], {**image_environment(), **variables}, monkeypatch)
    kafka = settings.kafka
    assert (kafka.bootstrap_servers, kafka.security_protocol) == ("kafka-1.example:9093", "SASL_SSL")
    mounted = {
        Path("/run/secrets") / each["target"]: Path(secured["secrets"][each["source"]]["file"])
        for each in service["secrets"]
    }
    assert mounted == {
        kafka.ssl_ca_file: DEPLOY / "secrets/kafka-ca.pem",
        kafka.sasl_password_file: DEPLOY / f"secrets/{kafka.sasl_username}-password",
    }
    assert kafka.sasl_username is not None
    assert lacking(needs(service["command"], settings), documented(kafka.sasl_username)) == []
