"""The Kubernetes manifests as an overlay gives them, held against the schemas of what reads them and the program."""

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
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from prometheus_client import CollectorRegistry

from deploy import rules
from service.commands import worker_activity
from service.configuration.settings import HttpSettings, ServiceSettings
from service.kafka_admin.topic_specs import PARTITIONS
from service.monitoring.http import Health, serve
from service.monitoring.metrics import PartitionGauges
from tests.deploy.composed import DEPLOY, VERSION, accepted
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
            request = container[probe]["httpGet"]
            assert request["port"] == "http"
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{request['path']}", timeout=5) as answer:
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
    assert set(re.findall(r"\w+\{.*?\}", trigger["metadata"]["query"])) == {f'{lag}{{worker="{kind}"}}'}
    # KEDA takes an empty answer for 0 by itself, and scales down while nothing is scraped.
    assert trigger["metadata"]["ignoreNullValues"] == "false"


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", WORKERS)
def test_a_rollout_needs_no_more_room_and_replaces_one_worker_at_a_time(overlay: str, name: str) -> None:
    spec = of_kind(overlay, "Deployment")[name]["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert spec["minReadySeconds"] == 30


@pytest.mark.parametrize("name", WORKERS)
def test_workers_of_one_kind_are_spread_over_nodes_whatever_the_other_kind_does(name: str) -> None:
    labels = pods("cpu")[name]["metadata"]["labels"]
    (spread,) = pods("cpu")[name]["spec"]["topologySpreadConstraints"]
    keys = set(spread["matchLabelKeys"])
    assert "app.kubernetes.io/component" in keys
    assert keys <= labels.keys()
    # Kubernetes refuses a key that is in both.
    assert not keys & spread["labelSelector"]["matchLabels"].keys()
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


def test_workers_are_not_more_than_partitions_and_on_gpus_few() -> None:
    for overlay, least, most in (("cpu", 2, PARTITIONS), ("gpu", 1, 2)):
        for scaled in of_kind(overlay, "ScaledObject").values():
            assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (least, most)


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
    for overlay, tag, gpus in (("cpu", f"{VERSION}-cpu", None), ("gpu", f"{VERSION}-cuda", 1)):
        for name in WORKERS:
            (container,) = pods(overlay)[name]["spec"]["containers"]
            assert container["image"].endswith(f"stridecast:{tag}")
            assert container["resources"]["limits"].get("nvidia.com/gpu") == gpus
            device = environment(overlay, pods(overlay)[name]).get("STRIDECAST_INFERENCE__DEVICE")
            assert device == (None if overlay == "cpu" else "cuda")


README = (DEPLOY / "README.md").read_text()


def built_of(title: str, folder: Path, *, with_patches_of: str = "") -> Manifests:
    """What is built of an example of the README, by the comment that begins it, and of a document's patches."""
    (example,) = re.findall(rf"```yaml\n(# {title}\n.*?)```", README, re.DOTALL)
    patches = re.findall(r"```yaml\n(patches:\n.*?)```", with_patches_of, re.DOTALL)
    here = example.replace("stridecast/deploy/", os.path.relpath(DEPLOY, folder) + "/").replace("<yours>", "mine")
    (folder / "kustomization.yaml").write_text(here + "".join(patches))
    return built(folder)


@pytest.fixture
def read_me(tmp_path: Path) -> Manifests:
    """What is built of the README's example, and of the patch that it gives for names that come from elsewhere."""
    return built_of("kustomization.yaml", tmp_path, with_patches_of=README)


def test_the_patch_of_the_documents_has_all_workers_end_before_the_first_new_one_starts(tmp_path: Path) -> None:
    operations = (DEPLOY.parent / "docs/operations.md").read_text()
    found = built_of("kustomization.yaml", tmp_path, with_patches_of=operations)
    for name in WORKERS:
        kubernetes_validate.validate(found["Deployment", name], VERSIONS[-1], strict=True)
        assert found["Deployment", name]["spec"]["strategy"] == {"type": "Recreate"}


def test_the_log_of_a_job_that_failed_can_be_read_for_a_day() -> None:
    """It was deleted a minute after it had ended, with its pods and what they had said."""
    assert of_kind("cpu", "Job")["topics"]["spec"]["ttlSecondsAfterFinished"] == 24 * 60 * 60


def test_the_example_of_a_second_installation_has_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = built_of("kustomization.yaml of staging", tmp_path)
    assert ("PrometheusRule", "stridecast") not in found  # each would be evaluated twice
    assert {manifest["metadata"].get("namespace", "staging") for manifest in found.values()} == {"staging"}
    assert ("Namespace", "staging") in found
    (variables,) = [manifest["data"] for (of, _), manifest in found.items() if of == "ConfigMap"]
    for name in WORKERS:
        (container,) = found["Deployment", name]["spec"]["template"]["spec"]["containers"]
        own = {each["name"]: each["value"] for each in container["env"]}
        settings = accepted(container["args"], {**variables, **own}, monkeypatch)
        first = pods("cpu")[name]["spec"]["containers"][0]
        before = accepted(first["args"], environment("cpu", pods("cpu")[name]), monkeypatch)
        assert isinstance(settings, ServiceSettings)
        assert isinstance(before, ServiceSettings)
        assert settings.kafka.group_id != before.kafka.group_id
        kind = container["args"][1]
        names, names_before = (
            {getattr(getattr(each, kind), topic) for topic in ("input_topic", "output_topic", "dead_letter_topic")}
            for each in (settings, before)
        )
        assert len(names) == 3
        assert not names & names_before
        query = found["ScaledObject", name]["spec"]["triggers"][0]["metadata"]["query"]
        assert set(re.findall(r"{(.*?)}", query)) == {f'worker="{kind}", namespace="staging"'}


def test_the_example_of_an_own_model_serves_what_its_image_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = built_of("kustomization.yaml with a model of its own", tmp_path)
    ((base, place),) = re.findall(r"```dockerfile\nFROM (\S+)\nCOPY runs/mine (\S+)\n```", README)
    container = found["Deployment", "activity-worker"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] not in (base, pods("cpu")["activity-worker"]["spec"]["containers"][0]["image"])
    assert base == pods("cpu")["activity-worker"]["spec"]["containers"][0]["image"]
    (variables,) = [manifest["data"] for (of, _), manifest in found.items() if of == "ConfigMap"]
    for name in WORKERS:  # the other kind is told of it as well, and takes it
        args = found["Deployment", name]["spec"]["template"]["spec"]["containers"][0]["args"]
        settings = accepted(args, variables, monkeypatch)
        if isinstance(settings, worker_activity.Options):
            assert str(settings.activity.bundle) == place


def test_the_example_of_the_readme_says_where_kafka_and_the_image_are(read_me: Manifests) -> None:
    (settings,) = [manifest for (kind, _), manifest in read_me.items() if kind == "ConfigMap"]
    assert settings["data"]["STRIDECAST_KAFKA__BOOTSTRAP_SERVERS"] == "mine:9092"
    for name in WORKERS:
        pod = read_me["Deployment", name]["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == f"mine:{VERSION}-cpu"
        assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_the_patch_of_the_readme_lets_workers_ask_for_names_elsewhere_too(read_me: Manifests) -> None:
    policy = read_me["NetworkPolicy", "workers"]
    kubernetes_validate.validate(policy, VERSIONS[-1], strict=True)
    own, added = of_kind("cpu", "NetworkPolicy")["workers"]["spec"]["egress"], policy["spec"]["egress"]
    assert added[: len(own)] == own
    assert [{port["port"] for port in way["ports"]} for way in added[len(own) :]] == [{53}, {5353}]
    assert all({port["protocol"] for port in way["ports"]} == {"UDP", "TCP"} for way in added[len(own) :])


@pytest.fixture
def operated(tmp_path: Path) -> Manifests:
    """What an overlay gives with the component for the Prometheus Operator."""
    here = os.path.relpath(DEPLOY / "kubernetes", tmp_path)
    component = f"{here}/components/prometheus-operator"
    kustomization = {"resources": [f"{here}/overlays/cpu"], "components": [component]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return built(tmp_path)


def test_the_component_gives_what_the_prometheus_operator_knows(operated: Manifests) -> None:
    given = {key: manifest for key, manifest in operated.items() if key not in manifests("cpu")}
    assert {kind for kind, _ in given} == {"PodMonitor", "PrometheusRule"}
    for (kind, _), manifest in given.items():
        read = (PodMonitor if kind == "PodMonitor" else PrometheusRule).model_validate(manifest)
        # What it doesn't know it drops.
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"] == manifest["spec"]


@pytest.mark.parametrize("name", WORKERS)
def test_a_scaler_counts_a_moved_partition_as_its_new_owner_does_and_one_in_recovery_as_its_last_owner_did(
    name: str, operated: Manifests, tmp_path: Path
) -> None:
    told = {
        ("0", "old"): "30000x5 stale",
        ("0", "new"): "_x8 1000x10",  # recovers for some minutes first
        ("1", "old"): "5000x5 stale",  # is recovered for longer
        ("2", "old"): "700x5 stale",
        ("2", "new"): "_x4 20x14",
    }
    expected = {"3m": 35700, "5m": 35700, "7m": 35020, "9m": 6020}
    labels = f'namespace="stridecast", worker="{name.removesuffix("-worker")}", topic="a"'
    given = [
        {
            "series": f'stridecast_consumer_lag_records{{{labels}, partition="{partition}", pod="{pod}"}}',
            "values": values,
        }
        for (partition, pod), values in told.items()
    ]
    for scaled in (of_kind("cpu", "ScaledObject")[name], operated["ScaledObject", name]):
        query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        asked = [
            {"expr": query, "eval_time": time, "exp_samples": [{"labels": "{}", "value": waiting}]}
            for time, waiting in expected.items()
        ]
        tests = {"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": asked}]}
        (tmp_path / "scaler.yaml").write_text(yaml.safe_dump(tests))
        subprocess.run([tool("promtool"), "test", "rules", tmp_path / "scaler.yaml"], check=True)


@pytest.mark.parametrize("name", WORKERS)
def test_the_operator_scrapes_a_worker_as_the_job_that_alerts_and_dashboards_ask_for(
    name: str, operated: Manifests
) -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    (job,) = [job for job in prometheus["scrape_configs"] if job["dns_sd_configs"][0]["names"] == [name]]
    monitor = operated["PodMonitor", name]
    assert monitor["metadata"]["namespace"] == operated["Deployment", name]["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pods("cpu")[name]["metadata"]["labels"].items()
    assert monitor["spec"]["podMetricsEndpoints"] == [
        {
            "port": "http",
            "interval": prometheus["global"]["scrape_interval"],
            "relabelings": [{"targetLabel": "job", "replacement": job["job_name"]}],
        }
    ]


@pytest.mark.parametrize("name", WORKERS)
def test_under_the_operator_a_worker_is_scaled_by_the_lag_of_its_own_namespace(name: str, operated: Manifests) -> None:
    def query(of: Manifest) -> str:
        return str(of["spec"]["triggers"][0]["metadata"]["query"])

    namespace = operated["Deployment", name]["metadata"]["namespace"]
    everywhere = query(of_kind("cpu", "ScaledObject")[name])
    assert query(operated["ScaledObject", name]).replace(") (", ")(") == everywhere.replace(
        "}", f', namespace="{namespace}"}}'
    ).replace(") (", ")(")


def test_the_operators_rules_are_those_of_prometheus(operated: Manifests) -> None:
    alerts = rules.ALERTS.read_text(encoding="utf-8")
    assert rules.RULE.read_text(encoding="utf-8") == rules.rule(alerts), "make rules"
    assert operated["PrometheusRule", "stridecast"]["spec"] == yaml.safe_load(alerts)


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


def test_the_component_lets_activity_workers_keep_windows_on_one_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.path.relpath(DEPLOY / "kubernetes", tmp_path)
    kustomization = {"resources": [f"{here}/overlays/cpu"], "components": [f"{here}/components/kept-windows"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    kept = built(tmp_path)
    (claim,) = [manifest for (kind, _), manifest in kept.items() if kind == "PersistentVolumeClaim"]
    worker = kept["Deployment", "activity-worker"]
    for manifest in (claim, worker):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    spec = worker["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    own = {each["name"]: each["value"] for each in container["env"]}
    settings = accepted(container["args"], own, monkeypatch)
    assert isinstance(settings, worker_activity.Options)
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "kept"]
    (volume,) = [each for each in spec["volumes"] if each["name"] == "kept"]

    assert Path(mount["mountPath"]) == settings.activity.keep.folder
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["metadata"]["namespace"] == worker["metadata"]["namespace"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]  # workers are on many nodes
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    assert kept["Deployment", "text-worker"] == manifests("cpu")["Deployment", "text-worker"]


def example(folder: Path, *, job: bool) -> Manifests:
    """What is built of docs/security.md's example, and of the patches that it gives beside it."""
    security = (DEPLOY.parent / "docs/security.md").read_text()
    (text,) = re.findall(r"```yaml\n(# kustomization.yaml\n.*?)```", security, re.DOTALL)
    without_job, ports = re.findall(r"```yaml\n(patches:\n.*?)```", security, re.DOTALL)
    kustomization = yaml.safe_load(text.replace("stridecast/deploy/", os.path.relpath(DEPLOY, folder) + "/"))
    instead = kustomization["patches"] if job else yaml.safe_load(without_job)["patches"]
    kustomization["patches"] = instead + yaml.safe_load(ports)["patches"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
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
    (variables,) = [manifest["data"] for (of, _), manifest in secured.items() if of == "ConfigMap"]
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
    settings = accepted(container["args"], {**variables, **own}, monkeypatch)
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
