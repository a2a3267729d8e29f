"""Images, compose.yaml, k8s/ and CI fit together, fit the services' settings, and are valid."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import generate_latest

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
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def target(name: str) -> str:
    """The instructions of one target of the Dockerfile."""
    return dockerfile().split(f" AS {name}\n")[1].split("\nFROM ")[0]


def package(name: str) -> str:
    """The folder of a service."""
    return name.replace("-", "_")


def image_environment(name: str) -> dict[str, str]:
    """The TALKINGFACE_ variables that the image of a service sets, as compose.yaml builds it."""
    variables = dict(re.findall(r"(TALKINGFACE_\w+)=(\S+)", target("service")))
    arguments = compose()["services"][name]["build"]["args"]
    return {
        variable: re.sub(r"\$\{(\w+)\}", lambda match: str(arguments[match[1]]), value)
        for variable, value in variables.items()
    }


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
    without_namespace = {
        f"{manifest['kind']}/{manifest['metadata']['name']}"
        for manifest in manifests(overlay)
        if manifest["kind"] != "Namespace" and manifest["metadata"].get("namespace") != namespace
    }
    assert not without_namespace


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
    for documented, field in rows:
        number, _, unit = documented.replace("none", "0").partition(" ")
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
    assert f"EXPOSE ${{PORT}} {METRICS_PORT}\n" in target("service")


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
    assert re.findall(r"^USER (.+)$", dockerfile(), re.M) == ["1000:1000"] * 2
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
    for image in ("service", "triton")[: len(holders)]:
        (folders,) = re.findall("^RUN install -d -o 1000 -g 1000 (.+)$", target(image), re.M)
        assert folder in folders.split()
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
    (entry,) = policies["clients-to-orchestrator"]["spec"]["ingress"]
    assert entry["ports"] == [{"port": OrchestratorConfig().port, "protocol": "TCP"}]


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
    metrics.session_at_level(None, 1)
    metrics.level_changed(1, "overload")
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


def test_dockerfile_lints_clean() -> None:
    command = [BIN / "hadolint", ROOT / "Dockerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_image_starts_modules_that_exist(name: str) -> None:
    started = dockerfile().replace("$SERVICE", package(name))
    modules = re.findall(r"-m\W+(talkingface\.[\w.]+)", started)
    assert f"talkingface.{package(name)}.server" in modules
    for module in modules:
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("name", STAGES)
def test_triton_image_carries_the_model_repository(name: str) -> None:
    assert "COPY services/${SERVICE}/model_repository /models\n" in target("triton")
    models = list((ROOT / "services" / package(name) / "model_repository").glob("*/config.pbtxt"))
    assert models
    for config_file in models:
        backend = re.search(r'backend: "(\w+)"', config_file.read_text())
        assert backend is not None, config_file
        # The backends of NVIDIA's container, and the file that each needs.
        needed = {"onnxruntime": "model.onnx", "python": "model.py"}[backend[1]]
        assert (config_file.parent / "1" / needed).is_file()
    imports_project = any(
        "talkingface" in (path.parent / "1/model.py").read_text()
        for path in models
        if (path.parent / "1/model.py").exists()
    )
    assert imports_project == (triton_target(name) != "triton")


def triton_target(name: str) -> str:
    """The target of the Dockerfile that holds what a stage's models need."""
    return "triton-renderer" if name == "renderer" else "triton"


def test_renderers_triton_is_the_common_one_with_an_environment() -> None:
    assert "\nFROM triton AS triton-renderer\n" in dockerfile()
    assert "COPY --from=worker-environment /opt/venv /opt/venv\n" in target("triton-renderer")
    assert "[renderer-worker]" in target("worker-environment")
    assert "renderer-worker" in extras()


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "services").rglob("*.py")}
    found = {".".join(("talkingface", *folder.parts[1:])) for folder in folders}
    ours = {name for name in found if "model_repository" not in name and "backends" not in name}
    assert sorted(listed) == sorted(ours)


def extras() -> dict[str, list[str]]:
    """The optional dependencies of the distribution, by extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]


def test_every_package_of_research_is_in_its_wheel() -> None:
    project = tomllib.loads((ROOT / "research/pyproject.toml").read_text())
    folders = {file.parent.relative_to(ROOT / "research") for file in research_modules()}
    found = {".".join(("talkingface_research", *folder.parts)) for folder in folders}
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(found)


def research_modules() -> list[Path]:
    return [path for path in (ROOT / "research").rglob("*.py") if "build" not in path.parts]


@pytest.mark.parametrize("name", SERVICES)
def test_image_installs_the_extra_of_its_service(name: str) -> None:
    (program,) = re.findall(r'^RUN python -c "(.+?)" > requirements', target("environment"), re.M)
    program = program.replace("${SERVICE}", package(name))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert done.stdout.splitlines() == project["dependencies"] + extras()[name]
    # pip installs the list before the wheel is there.
    assert not any(requirement.startswith("talkingface") for requirement in extras()[name])


@pytest.mark.parametrize("name", ["audio-features", "motion-gen"])
def test_speech_encoder_and_motion_generator_install_no_media_packages(name: str) -> None:
    unneeded = {"ai-edge-litert", "av", "numba", "onnxruntime", "opencv-python-headless", "pillow"}
    assert not unneeded & {re.split(r"[\[>]", requirement)[0] for requirement in extras()[name]}


def test_build_context_has_what_the_images_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    for name in STAGES:
        text = dockerfile().replace("${SERVICE}", package(name))
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
            for source in sources.split():
                assert source.split("/")[0] in kept
                assert (ROOT / source).exists()


IMAGES = {*SERVICES, *(f"{name}-triton" for name in STAGES)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_name_our_images_of_one_release(overlay: str) -> None:
    named = {
        each["image"]
        for name in SERVICES
        for each in (container(overlay, name), *pod(overlay, name).get("initContainers", []))
    }
    (tag,) = {image.partition(":")[2] for image in named}
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    assert named == {f"talkingface/{name}:{tag}" for name in IMAGES}


def test_pages_build_the_images_that_the_manifests_name() -> None:
    text = (K8S / "README.md").read_text()
    built = {name: rest.split() for name, rest in re.findall(r"^image (\S+) +(.+)$", text, re.M)}
    expected = {
        name: ["service", package(name), str(cls().port)] for name, cls in SERVICES.items()
    } | {f"{name}-triton": [triton_target(name), package(name)] for name in STAGES}
    assert built == expected


@pytest.mark.parametrize("name", SERVICES)
def test_compose_service(name: str) -> None:
    services = compose()["services"]
    service = services[name]
    arguments = {"VERSION": "${VERSION:-}", "SERVICE": package(name)}
    assert service["image"] == f"talkingface/{name}:${{TAG:-latest}}"
    assert service["build"] == {
        "context": ".",
        "target": "service",
        "args": arguments | {"PORT": SERVICES[name]().port},
    }
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
        assert beside["image"] == f"talkingface/{name}-triton:${{TAG:-latest}}"
        assert beside["build"] == {
            "context": ".",
            "target": triton_target(name),
            "args": arguments,
        }
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


# --- CI


@cache
def jobs() -> Manifest:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]


def test_ci_builds_the_image_of_each_service() -> None:
    matrix = jobs()["image"]["strategy"]["matrix"]["include"]
    assert {each["service"]: each["port"] for each in matrix} == {
        package(name): cls().port for name, cls in SERVICES.items()
    }


def test_ci_runs_the_client_under_every_python_that_it_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [re.fullmatch(r".* :: (3\.\d+)", each) for each in project["classifiers"]]
    supported = [match[1] for match in named if match]
    assert jobs()["client"]["strategy"]["matrix"]["python"] == supported
    after_the_last = f"3.{int(supported[-1].removeprefix('3.')) + 1}"
    assert project["requires-python"] == f">={supported[0]},<{after_the_last}"
