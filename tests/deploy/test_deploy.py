"""The images, compose.yaml and k8s/ fit together, fit the services' settings, and are valid."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import generate_latest

import talkingface
from talkingface.orchestrator.config import OrchestratorConfig
from talkingface.serving import config
from talkingface.serving.metrics import Metrics
from tests.support import ROOT

BIN = Path(sys.executable).parent
K8S = ROOT / "k8s"
OVERLAYS = ("base", "overlays/cpu", "overlays/gpu")
KUBERNETES = ("1.32", "1.37")  # the oldest that the manifests are written for, and the newest known
CUSTOM = {"PodMonitor", "PrometheusRule"}  # of the Prometheus operator: no schema to check against
SERVICES: dict[str, type[config.ServiceConfig]] = {
    "orchestrator": OrchestratorConfig,
    "audio-features": config.AudioFeaturesConfig,
    "motion-gen": config.MotionGenConfig,
    "renderer": config.RendererConfig,
}
STAGES = ("audio-features", "motion-gen", "renderer")
METRICS_PORT = 9100

Manifest = dict[str, Any]


@cache
def manifests(overlay: str) -> list[Manifest]:
    done = subprocess.run(
        [BIN / "kubectl", "kustomize", K8S / overlay], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests(overlay) if m["kind"] == kind}


def pod(overlay: str, name: str) -> Manifest:
    return of_kind(overlay, "Deployment")[name]["spec"]["template"]["spec"]


def container(overlay: str, name: str) -> Manifest:
    (only,) = pod(overlay, name)["containers"]
    return only


def triton(overlay: str, name: str) -> Manifest:
    (only,) = pod(overlay, name)["initContainers"]
    return only


def environment(overlay: str, name: str) -> dict[str, str]:
    """What the service's container will see, settings of the config map included."""
    settings: dict[str, str] = {}
    for source in container(overlay, name)["envFrom"]:
        settings |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    own = {v["name"]: v.get("value", "from a secret") for v in container(overlay, name)["env"]}
    return settings | own


@cache
def dockerfile(name: str) -> str:
    return (ROOT / "services" / name.replace("-", "_") / "Dockerfile").read_text()


def image_environment(name: str) -> dict[str, str]:
    """The TALKINGFACE_ variables that the image itself sets."""
    return dict(re.findall(r"(TALKINGFACE_\w+)=(\S+)", dockerfile(name)))


@cache
def compose() -> Manifest:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def variables(cls: type[config.ServiceConfig]) -> set[str]:
    return {config.PREFIX + field.name.upper() for field in dataclasses.fields(cls)}


# --- manifests


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    for manifest in manifests(overlay):
        if manifest["kind"] in CUSTOM:
            assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
            continue
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_lives_in_the_namespace_of_the_mesh(overlay: str) -> None:
    # Without one, an object lands in the namespace of whoever applies it.
    (namespace,) = of_kind(overlay, "Namespace")
    homeless = {
        f"{manifest['kind']}/{manifest['metadata']['name']}"
        for manifest in manifests(overlay)
        if manifest["kind"] != "Namespace" and manifest["metadata"].get("namespace") != namespace
    }
    assert not homeless


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_has_all_its_objects(overlay: str) -> None:
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert set(of_kind(overlay, kind)) == set(SERVICES), kind
    for name, service in of_kind(overlay, "Service").items():
        assert service["spec"]["clusterIP"] == "None"
        labels = of_kind(overlay, "Deployment")[name]["spec"]["template"]["metadata"]["labels"]
        for selector in (
            service["spec"]["selector"],
            of_kind(overlay, "PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"],
            of_kind(overlay, "Deployment")[name]["spec"]["selector"]["matchLabels"],
        ):
            assert selector.items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", SERVICES)
def test_environment_is_what_the_service_reads(overlay: str, name: str) -> None:
    environ = environment(overlay, name)
    assert set(environ) <= variables(SERVICES[name])
    loaded = config.load(SERVICES[name], environ)
    assert loaded.host == "0.0.0.0"
    if isinstance(loaded, config.StageConfig):
        assert loaded.triton_url == "localhost:8001"


def test_limits_are_documented_as_they_are() -> None:
    """The defaults in the table of the orchestrator's README."""
    text = (ROOT / "services/orchestrator/README.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| `(\w+)`[^|]* \|", text, re.M)
    units = {"s": 1, "min": 60, "h": 3600}
    assert len(rows) == 9
    for told, field in rows:
        number, _, unit = told.replace("none", "0").partition(" ")
        default = getattr(OrchestratorConfig(), field)
        assert float(number) * units.get(unit, 1) == default, field


@pytest.mark.parametrize("name", SERVICES)
def test_ports_agree(name: str) -> None:
    port = SERVICES[name]().port
    assert config.load(SERVICES[name], environment("base", name)).port == port
    assert {p["name"]: p["containerPort"] for p in container("base", name)["ports"]} == {
        "grpc": port,
        "metrics": METRICS_PORT,
    }
    (exposed,) = of_kind("base", "Service")[name]["spec"]["ports"]
    assert (exposed["port"], exposed["targetPort"]) == (port, "grpc")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container("base", name)[probe]["grpc"]["port"] == port
    image = config.load(SERVICES[name], image_environment(name))
    assert (image.host, image.port, image.metrics_port) == ("0.0.0.0", port, METRICS_PORT)
    assert f"EXPOSE {port} {METRICS_PORT}\n" in dockerfile(name)


@pytest.mark.parametrize("name", SERVICES)
def test_pod_outlives_its_drain(name: str) -> None:
    before = container("base", name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = config.load(SERVICES[name], environment("base", name)).drain_timeout
    assert pod("base", name)["terminationGracePeriodSeconds"] == before + drain + 5


@pytest.mark.parametrize("name", STAGES)
def test_triton_is_a_sidecar_that_shares_memory(name: str) -> None:
    sidecar = triton("base", name)
    assert sidecar["restartPolicy"] == "Always"
    assert {p["containerPort"] for p in sidecar["ports"]} == {8000, 8001, 8002}
    (shm,) = (v for v in pod("base", name)["volumes"] if v["name"] == "shm")
    assert shm["emptyDir"]["medium"] == "Memory"
    mount = {"name": "shm", "mountPath": "/dev/shm"}
    assert mount in sidecar["volumeMounts"]
    assert mount in container("base", name)["volumeMounts"]
    # The segments are readable by their owner alone: one user for both, in pod and images.
    assert pod("base", name)["securityContext"]["runAsUser"] == 1000
    assert re.findall(r"^USER (.+)$", dockerfile(name), re.M) == ["1000:1000"] * 2
    assert not any(
        "securityContext" in c and "runAsUser" in c["securityContext"]
        for c in (sidecar, container("base", name))
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_locked_down(overlay: str, name: str) -> None:
    spec = pod(overlay, name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # Otherwise Kubernetes may inject variables that look like ours.
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    for each in spec["containers"] + spec.get("initContainers", []):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(each["resources"])
        writable = {mount["mountPath"] for mount in each["volumeMounts"]}
        assert "/tmp" in writable


@pytest.mark.parametrize(
    "name, store, variable",
    [
        ("orchestrator", "uploads", "TALKINGFACE_UPLOAD_STORE"),
        ("renderer", "portraits", "TALKINGFACE_PORTRAIT_STORE"),
    ],
)
def test_store_is_shared_by_all_replicas(name: str, store: str, variable: str) -> None:
    environ = environment("base", name)
    folder = environ[variable]
    holders = [container("base", name)]
    services = [name]
    if name in STAGES:
        holders.append(triton("base", name))
        services.append(f"{name}-triton")
    for holder in holders:
        assert {"name": store, "mountPath": folder} in holder["volumeMounts"]
    claim = of_kind("base", "PersistentVolumeClaim")[store]["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    size = int(claim["resources"]["requests"]["storage"].removesuffix("Gi")) << 30
    assert int(environ[f"{variable}_BYTES"]) < 0.9 * size
    if name in STAGES:  # its Python models read the store
        assert {"name": variable, "value": folder} in triton("base", name)["env"]
        assert compose()["services"][f"{name}-triton"]["environment"] == {variable: folder}
    assert dockerfile(name).count(f"install -d -o 1000 -g 1000 {folder}\n") == len(holders)
    assert compose()["services"][name]["environment"][variable] == folder
    for service in services:
        assert f"{store}:{folder}" in compose()["services"][service]["volumes"]
    assert store in compose()["volumes"]


def test_orchestrator_finds_the_stages() -> None:
    for environ in (
        environment("base", "orchestrator"),
        compose()["services"]["orchestrator"]["environment"],
    ):
        for name in STAGES:
            variable = f"TALKINGFACE_{name.upper().replace('-', '_')}_TARGET"
            assert environ[variable] == f"dns:///{name}:{SERVICES[name]().port}"


def test_network_policies_know_the_ports() -> None:
    policies = of_kind("overlays/gpu", "NetworkPolicy")
    assert policies["deny-all"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    out = {
        rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]: rule["ports"]
        for rule in policies["orchestrator-to-stages"]["spec"]["egress"]
        if "podSelector" in rule["to"][0]
    }
    assert set(out) == set(STAGES)
    for name in STAGES:
        ports = [{"port": SERVICES[name]().port, "protocol": "TCP"}]
        policy = policies[f"orchestrator-to-{name}"]["spec"]
        assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert [rule["ports"] for rule in policy["ingress"]] == [ports]
        assert out[name] == ports
    (door,) = policies["clients-to-orchestrator"]["spec"]["ingress"]
    assert door["ports"] == [{"port": OrchestratorConfig().port, "protocol": "TCP"}]


def test_gpu_overlay_gives_each_triton_a_gpu() -> None:
    for name in STAGES:
        assert triton("overlays/gpu", name)["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert "nvidia.com/gpu" not in triton("overlays/cpu", name)["resources"]["limits"]
        assert triton("overlays/gpu", name)["image"] == triton("base", name)["image"]
    assert "nodeSelector" not in pod("overlays/gpu", "orchestrator")


# --- metrics, autoscaling


@cache
def exported() -> set[str]:
    """Names of the samples that a service exports, from one that has done a bit of everything."""
    metrics = Metrics("renderer")
    metrics.set_slots(1, 2)
    metrics.set_ready(True)
    metrics.call_ended("Render", "OK")
    metrics.first_result("Render", 0.1)
    metrics.count("frames")
    metrics.set_replicas("renderer", 2)
    metrics.recovered("renderer", "broken", 0.1)
    with metrics.timed("encode"):
        pass
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_autoscalers_scale_on_slots() -> None:
    scalers = of_kind("overlays/gpu", "HorizontalPodAutoscaler")
    assert set(scalers) == set(SERVICES)
    adapter = yaml.safe_load(
        (K8S / "components/autoscaling/prometheus-adapter-values.yaml").read_text()
    )
    (rule,) = adapter["rules"]["custom"]
    for name, scaler in scalers.items():
        spec = scaler["spec"]
        assert (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) == (
            "Deployment",
            name,
        )
        (metric,) = spec["metrics"]
        assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
        down = spec["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] == 900
        assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
        # The autoscaler owns the number of replicas.
        assert "replicas" not in of_kind("overlays/gpu", "Deployment")[name]["spec"]


def test_metrics_named_in_the_deployment_exist() -> None:
    texts = [path.read_text() for path in (K8S / "components").glob("*/*.yaml")]
    texts.append((K8S / "README.md").read_text())
    pattern = r"(?<![:\w])talkingface_[a-z_]+(?![\w:])"
    named = {name for text in texts for name in re.findall(pattern, text)}
    made_by_rules = {"talkingface_slot_utilization"}
    assert "talkingface_slots_in_use" in named
    assert named - made_by_rules <= exported()


# --- images


@pytest.mark.parametrize("name", SERVICES)
def test_dockerfile_lints_clean(name: str) -> None:
    path = ROOT / "services" / name.replace("-", "_") / "Dockerfile"
    done = subprocess.run([BIN / "hadolint", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_dockerfiles_are_alike() -> None:
    """Apart from names and port, the services' parts are the same text; so are two Tritons."""

    def part(name: str, stage: str) -> str:
        text = dockerfile(name).split(f"AS {stage}\n")[1].split("\nFROM")[0]
        text = re.sub(r"^RUN install .*\n|^# A volume .*\n", "", text, flags=re.M)
        text = re.sub(r" and the store of \w+", "", text)
        for own in (name, name.replace("-", "_"), str(SERVICES[name]().port)):
            text = text.replace(own, "")
        return text.strip()

    for stage in ("build", "service"):
        assert len({part(name, stage) for name in SERVICES}) == 1, stage
    assert part("audio-features", "triton") == part("motion-gen", "triton")
    bases = [re.findall(r"^ARG (.+_IMAGE=.+)$", dockerfile(name), re.M) for name in STAGES]
    assert bases[0] == bases[1] == bases[2]
    assert dockerfile("orchestrator").count("FROM") == 2


@pytest.mark.parametrize("name", SERVICES)
def test_image_starts_modules_that_exist(name: str) -> None:
    modules = re.findall(r'"-m", "([\w.]+)"', dockerfile(name))
    assert len(modules) == 2
    for module in [*modules, *re.findall(r"python -m (talkingface[\w.]+)", dockerfile(name))]:
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("name", STAGES)
def test_triton_image_carries_the_model_repository(name: str) -> None:
    (source,) = re.findall(r"^COPY (\S+) /models$", dockerfile(name), re.M)
    assert source == f"services/{name.replace('-', '_')}/model_repository"
    models = [path.parent for path in (ROOT / source).glob("*/config.pbtxt")]
    assert models
    for model in models:
        backend = re.search(r'backend: "(\w+)"', (model / "config.pbtxt").read_text())
        assert backend is not None, model
        # What NVIDIA's container has, and the file that this backend wants.
        wanted = {"onnxruntime": "model.onnx", "python": "model.py"}[backend[1]]
        assert (model / "1" / wanted).is_file()
    imports_project = any(
        "talkingface" in path.read_text() for path in (ROOT / source).glob("*/1/model.py")
    )
    assert imports_project == ("COPY --from=triton-build /opt/venv" in dockerfile(name))


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "services").rglob("*.py")}
    found = {".".join(("talkingface", *folder.parts[1:])) for folder in folders}
    ours = {name for name in found if "model_repository" not in name and "backends" not in name}
    assert sorted(listed) == sorted(ours)


def test_every_package_of_research_is_in_its_wheel() -> None:
    project = tomllib.loads((ROOT / "research/pyproject.toml").read_text())
    folders = {file.parent.relative_to(ROOT / "research") for file in research_modules()}
    found = {".".join(("talkingface_research", *folder.parts)) for folder in folders}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(found)


def research_modules() -> list[Path]:
    return [path for path in (ROOT / "research").rglob("*.py") if "build" not in path.parts]


@pytest.mark.parametrize("name", SERVICES)
def test_image_installs_the_extra_of_its_service(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert re.findall(r"^ARG EXTRA=(.+)$", dockerfile(name), re.M) == [name]
    # The recipe reads the list as it stands.
    assert not any(requirement.startswith("talkingface") for requirement in extras[name])


def test_build_context_has_what_the_images_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    for name in SERVICES:
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(name), re.M):
            for source in sources.split():
                assert source.split("/")[0] in kept
                assert (ROOT / source).exists()


def named_images() -> Iterator[str]:
    for overlay in OVERLAYS:
        for name in SERVICES:
            spec = pod(overlay, name)
            for each in spec["containers"] + spec.get("initContainers", []):
                yield each["image"]
    for service in compose()["services"].values():
        if "build" in service:
            yield re.sub(r"\$\{TAG:-(.+)\}", r"\1", service["image"])


def test_images_are_ours_and_of_this_version() -> None:
    ours = {f"talkingface/{name}:{talkingface.__version__}" for name in SERVICES}
    ours |= {f"talkingface/{name}-triton:{talkingface.__version__}" for name in STAGES}
    assert set(named_images()) == ours


@pytest.mark.parametrize("name", SERVICES)
def test_compose_service(name: str) -> None:
    services = compose()["services"]
    service = services[name]
    folder = f"services/{name.replace('-', '_')}/Dockerfile"
    assert service["build"] == {"context": ".", "dockerfile": folder, "target": "service"}
    environ = service["environment"]
    assert set(environ) <= variables(SERVICES[name])
    loaded = config.load(SERVICES[name], image_environment(name) | environ)
    # "35s" = the drain and 5 s in hand.
    assert service["stop_grace_period"] == f"{loaded.drain_timeout + 5:.0f}s"
    assert service["read_only"] is True
    if name in STAGES:
        assert environ["TALKINGFACE_TRITON_URL"] == f"{name}-triton:8001"
        assert service["depends_on"] == {f"{name}-triton": {"condition": "service_healthy"}}
        beside = services[f"{name}-triton"]
        assert beside["build"] == {"context": ".", "dockerfile": folder, "target": "triton"}
        (device,) = beside["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        for each in (service, beside):
            assert f"{name}-shm:/dev/shm" in each["volumes"]
        assert f"{name}-shm" in compose()["volumes"]


def test_compose_prometheus_asks_every_metrics_port() -> None:
    scrape = yaml.safe_load(compose()["configs"]["prometheus"]["content"])["scrape_configs"]
    targets = {target for job in scrape for s in job["static_configs"] for target in s["targets"]}
    assert targets == {f"{name}:{METRICS_PORT}" for name in SERVICES} | {
        f"{name}-triton:8002" for name in STAGES
    }
