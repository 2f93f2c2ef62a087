"""The Kubernetes manifests as an overlay gives them, held against Kubernetes' and KEDA's schemas and the program."""

import os
import re
import subprocess
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from prometheus_client import CollectorRegistry

from service.http import Health, serve
from service.metrics import PartitionGauges
from service.settings import HttpSettings, ServiceSettings
from tests.deploy.composed import DEPLOY, accepted
from tests.deploy.tools import tool
from tests.kafka.secured import documented, lacking, needs

OVERLAYS = ("cpu", "gpu")
WORKERS = ("activity-worker", "text-worker")
# The oldest and the newest that we look at.
VERSIONS = ("1.31", "1.37")
LONGEST_END_S = 15
"""What a worker may take to leave its group and to end, beside its grace."""

Manifest = dict[str, Any]
Manifests = dict[tuple[str, str], Manifest]


@cache
def manifests(overlay: str) -> Manifests:
    """What an overlay gives, by kind and name."""
    return built(DEPLOY / "kubernetes/overlays" / overlay)


def built(folder: Path) -> Manifests:
    done = subprocess.run([tool("kustomize"), "build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(done.stdout)}


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {name: found for (of, name), found in manifests(overlay).items() if of == kind}


def pods(overlay: str) -> dict[str, Manifest]:
    """The templates of all pods."""
    found = {**of_kind(overlay, "Deployment"), **of_kind(overlay, "Job")}
    return {name: manifest["spec"]["template"] for name, manifest in found.items()}


def environment(overlay: str, pod: Manifest) -> dict[str, str]:
    """What a pod's container is started with."""
    (container,) = pod["spec"]["containers"]
    (source,) = container["envFrom"]
    settings = of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return {**settings, **{each["name"]: each["value"] for each in container.get("env", [])}}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_what_kubernetes_knows(overlay: str, version: str) -> None:
    for (kind, _), manifest in manifests(overlay).items():
        if kind != "ScaledObject":
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_refused() -> None:
    manifest = of_kind("cpu", "PodDisruptionBudget")["text-worker"]
    with pytest.raises(kubernetes_validate.ValidationError, match="minUnavailable"):
        kubernetes_validate.validate({**manifest, "spec": {"minUnavailable": 1}}, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKERS)
def test_scaled_objects_are_what_keda_knows(overlay: str, name: str) -> None:
    spec = of_kind(overlay, "ScaledObject")[name]["spec"]
    read = ScaledObject.model_validate(of_kind(overlay, "ScaledObject")[name])
    # What it doesn't know it drops.
    assert read.model_dump(mode="json", by_alias=True, exclude_none=True)["spec"] == spec


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", ["topics", *WORKERS])
def test_arguments_and_variables_are_those_of_the_program(
    overlay: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pods(overlay)[name]
    settings = accepted(pod["spec"]["containers"][0]["args"], environment(overlay, pod), monkeypatch)
    assert settings.kafka.bootstrap_servers == "kafka.kafka.svc:9092"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_may_take_longer_to_end_than_it_takes(
    overlay: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pods(overlay)[name]
    settings = accepted(pod["spec"]["containers"][0]["args"], environment(overlay, pod), monkeypatch)
    assert isinstance(settings, ServiceSettings)
    assert pod["spec"]["terminationGracePeriodSeconds"] >= settings.shutdown_grace_s + LONGEST_END_S


@pytest.mark.parametrize("name", WORKERS)
def test_probes_ask_what_the_worker_answers(name: str) -> None:
    (container,) = pods("cpu")[name]["spec"]["containers"]
    assert container["ports"] == [{"containerPort": HttpSettings().port, "name": "http"}]
    health = Health()
    health.ready = lambda: True
    server = serve("127.0.0.1", 0, CollectorRegistry(), health)
    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == "http"
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{asked['path']}", timeout=5) as answer:
                assert answer.status == 200
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKERS)
def test_what_belongs_to_a_worker_finds_it(overlay: str, name: str) -> None:
    labels = pods(overlay)[name]["metadata"]["labels"]
    for selecting in (of_kind(overlay, "Deployment")[name], of_kind(overlay, "PodDisruptionBudget")[name]):
        assert selecting["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert of_kind(overlay, "ScaledObject")[name]["spec"]["scaleTargetRef"] == {"name": name}
    (policy,) = of_kind(overlay, "NetworkPolicy").values()
    assert policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_scaled_by_its_own_lag(name: str) -> None:
    (trigger,) = of_kind("cpu", "ScaledObject")[name]["spec"]["triggers"]
    kind = pods("cpu")[name]["spec"]["containers"][0]["args"][1]
    lag = next(iter(PartitionGauges().collect())).name
    assert trigger["metadata"]["query"] == f'sum(max by (topic, partition) ({lag}{{worker="{kind}"}}))'


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", ["topics", *WORKERS])
def test_pods_keep_to_the_restricted_standard_on_a_root_that_cannot_be_written(overlay: str, name: str) -> None:
    spec = pods(overlay)[name]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_the_overlays_differ_in_the_image_the_device_and_the_gpu() -> None:
    for overlay, tag, gpus in (("cpu", "cpu", None), ("gpu", "cuda", 1)):
        for name in WORKERS:
            (container,) = pods(overlay)[name]["spec"]["containers"]
            assert container["image"].endswith(f"stridecast:{tag}")
            assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus
            device = environment(overlay, pods(overlay)[name]).get("STRIDECAST_INFERENCE__DEVICE")
            assert device == (None if overlay == "cpu" else "cuda")


def test_the_example_of_the_readme_says_where_kafka_and_the_image_are(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    here = example.replace("stridecast/deploy/", os.path.relpath(DEPLOY, tmp_path) + "/").replace("<yours>", "mine")
    (tmp_path / "kustomization.yaml").write_text(here)
    found = built(tmp_path)
    (settings,) = [manifest for (kind, _), manifest in found.items() if kind == "ConfigMap"]
    assert settings["data"]["STRIDECAST_KAFKA__BOOTSTRAP_SERVERS"] == "mine:9092"
    for name in WORKERS:
        pod = found["Deployment", name]["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == "mine:cpu"
        assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKERS)
def test_the_documented_rights_fit_the_worker_under_its_group(
    overlay: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = pods(overlay)[name]
    args = pod["spec"]["containers"][0]["args"]
    settings = accepted(args, environment(overlay, pod), monkeypatch)
    assert isinstance(settings, ServiceSettings)
    assert settings.delivery == "exactly_once"
    assert lacking(needs(args, settings), documented("worker")) == []


def example(folder: Path, *, job: bool) -> Manifests:
    """What is built of docs/security.md's example, and of the patches that it gives beside it."""
    security = (DEPLOY.parent / "docs/security.md").read_text()
    (text,) = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", security, re.DOTALL)
    without_job, ports = re.findall(r"```yaml\n(patches:\n.*?)```", security, re.DOTALL)
    told = yaml.safe_load(text.replace("stridecast/deploy/", os.path.relpath(DEPLOY, folder) + "/"))
    instead = told["patches"] if job else yaml.safe_load(without_job)["patches"]
    told["patches"] = instead + yaml.safe_load(ports)["patches"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return built(folder)


@pytest.fixture
def secured(tmp_path: Path) -> Manifests:
    return example(tmp_path, job=True)


@pytest.mark.parametrize(
    ("kind", "name", "user", "secret"),
    [
        ("Deployment", "activity-worker", "worker", "kafka-access"),
        ("Deployment", "text-worker", "worker", "kafka-access"),
        ("Job", "topics", "operator", "kafka-access-operator"),
    ],
)
def test_the_component_mounts_the_secret_of_a_user_that_may_do_it_and_says_where_it_is(
    secured: Manifests, kind: str, name: str, user: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job got the worker's user, which may make no topics."""
    (told,) = [manifest["data"] for (of, _), manifest in secured.items() if of == "ConfigMap"]
    kubernetes_validate.validate(secured[kind, name], VERSIONS[-1], strict=True)
    spec = secured[kind, name]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "kafka-access"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "kafka-access"]
    assert mount["readOnly"]
    # Mode and group let the program's user read it, and nobody else.
    assert volume["secret"] == {"secretName": secret, "defaultMode": 0o440}
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    own = {each["name"]: each["value"] for each in container.get("env", [])}
    settings = accepted(container["args"], {**told, **own}, monkeypatch)
    kafka = settings.kafka
    assert kafka.security_protocol == "SASL_SSL"
    assert [kafka.ssl_ca_file, kafka.sasl_password_file] == [
        Path(mount["mountPath"]) / file for file in ("ca.pem", "password")
    ]
    assert (kafka.bootstrap_servers, kafka.sasl_mechanism) == ("kafka-1.example:9093", "SCRAM-SHA-512")
    assert kafka.sasl_username == user
    assert lacking(needs(container["args"], settings), documented(user)) == []


def test_the_documents_leave_the_job_out_and_nothing_else(secured: Manifests, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    assert secured.pop(("Job", "topics"))
    assert example(folder, job=False) == secured


def test_the_documents_open_a_token_endpoints_port_and_another_of_kafkas(secured: Manifests) -> None:
    policy = secured["NetworkPolicy", "workers"]
    kubernetes_validate.validate(policy, VERSIONS[-1], strict=True)
    ports = [port for way in policy["spec"]["egress"] for port in way["ports"]]
    assert {"port": 9092, "endPort": 9094} in ports
    assert {"port": 443} in ports
    assert {"port": 9096} in ports


def test_the_secrets_that_the_documents_make_have_the_files_that_are_mounted() -> None:
    component = DEPLOY / "kubernetes/components/kafka-security/kustomization.yaml"
    for document, names in (
        (DEPLOY.parent / "docs/security.md", ["kafka-access", "kafka-access-operator"]),
        (component, ["kafka-access"]),
    ):
        made = re.findall(r"kubectl .*create secret generic (\S+) (.*)", document.read_text())
        assert [name for name, _ in made] == names
        for _, files in made:
            keys = [each.removeprefix("--from-file=").partition("=")[0] for each in files.split()]
            assert keys == ["ca.pem", "password"]
