"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import av
import pytest

from tests.support import ROOT
from tests.support.services import ServiceProcess

COMMAND = [str(Path(sys.executable).with_name("talkingface"))]
SPEECH = ROOT / "demo" / "speech.flac"


def run(*arguments: object, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def short_speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first second of the demo speech as MP3."""
    path = tmp_path_factory.mktemp("speech") / "short.mp3"
    with av.open(str(SPEECH)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame", rate=22050, layout="mono")
        for frame in source.decode(audio=0):
            if frame.time is not None and frame.time >= 1:
                break
            frame.pts = None
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("animate",),
        ("animate", "a.png", "b.wav"),
        ("animate", "a.png", "b.wav", "-o", "c.mp4", "--gaze", "1"),
        ("animate", "a.png", "b.wav", "-o", "c.mp4", "--emotion", "joy=1"),
        ("animate", "a.png", "b.wav", "-o", "c.mp4", "--emotion", "anger=much"),
        ("animate", "a.png", "b.wav", "-o", "c.mp4", "--seed", "x"),
        ("animate", "a.png", "b.wav", "-o", "c.mp4", "--framing", "whole"),
        ("bench", "beauty"),
        ("bench", "live", "--sessions", "0"),
        ("bench", "live", "--ramp", "0"),
        ("bench", "live", "--replicas", "painter=2"),
    ],
)
def test_a_wrong_call_exits_with_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: talkingface" in done.stderr


def test_help_and_version() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("animate", "up", "bench", "Exit codes"))
    assert re.fullmatch(r"talkingface \d+\.\d+\S*\n", run("--version").stdout)


def test_a_missing_file_exits_with_3(tmp_path: Path, portrait_file: Path) -> None:
    out = tmp_path / "out.mp4"
    done = run("animate", tmp_path / "nobody.png", SPEECH, "-o", out)
    assert done.returncode == 3
    assert done.stderr == f"talkingface: {tmp_path / 'nobody.png'}: No such file or directory\n"
    done = run("animate", portrait_file, tmp_path / "nothing.wav", "-o", out)
    assert done.returncode == 3
    assert not out.exists()


def test_an_absent_server_exits_with_4(tmp_path: Path, portrait_file: Path) -> None:
    out = tmp_path / "out.mp4"
    done = run("animate", portrait_file, SPEECH, "-o", out, "--server", "127.0.0.1:1")
    assert done.returncode == 4
    assert "STAGE_UNAVAILABLE" in last_line(done)
    assert list(tmp_path.iterdir()) == [], "nothing half done is left"


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    line = done.stderr.splitlines()[-1]
    assert line.startswith("talkingface: ")
    return line


def test_animate_with_a_server(
    mesh: ServiceProcess, tmp_path: Path, portrait_file: Path, short_speech: Path
) -> None:
    out = tmp_path / "new folder" / "out.mp4"
    done = run(
        *("animate", portrait_file, short_speech, "-o", out, "--server", mesh.address),
        *("--seed", 4, "--gaze=-5,10", "--distance", 1.1, "--emotion", "happiness=0.6"),
        *("--emotion", "surprise=0.2", "--head-motion", 0.5, "--blink-rate", 30),
        *("--mouth-scale", 1.2, "--expressivity", 1.5, "--head-pose", "1,2,3"),
        *("--size", 256, "--fps", 50),
    )
    assert done.returncode == 0, done.stderr
    assert "seed 4" in done.stderr
    with av.open(str(out)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (256, 256)
        assert stream.average_rate is not None and float(stream.average_rate) == 50
        frames = sum(1 for _ in file.decode(video=0))
    assert 50 <= frames <= 56
    assert f"{frames} frames of 256x256 at 50 a second" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["out.mp4"]


def test_animate_starts_a_mesh_of_its_own(
    tmp_path: Path, portrait_file: Path, short_speech: Path
) -> None:
    out, log = tmp_path / "out.mp4", tmp_path / "mesh.log"
    done = run("animate", portrait_file, short_speech, "-o", out, "--log", log)
    assert done.returncode == 0, done.stderr
    assert "mesh ready after" in done.stderr
    with av.open(str(out)) as file:
        assert sum(1 for _ in file.decode(video=0)) >= 25
    text = log.read_text()
    assert text.count("event=stopped") == 4
    assert "Traceback" not in text


def test_a_mesh_that_cannot_start_exits_with_4(
    tmp_path: Path, portrait_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKINGFACE_SLOTS", "many")
    done = run("animate", portrait_file, SPEECH, "-o", tmp_path / "out.mp4")
    assert done.returncode == 4
    assert "TALKINGFACE_SLOTS='many'" in last_line(done)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--distance", "9"), "config.controls.distance_ratio"),
        (("--quality", "99"), "config.quality"),
        (("--size", "1280"), "config.size"),
        (("--size", "512", "--framing", "photo"), "config.size"),
        (("--fps", "24"), "config.frame_rate"),
        (("--seed", str(2**63)), "config.seed"),
    ],
)
def test_a_bad_control_exits_with_3(
    mesh: ServiceProcess,
    tmp_path: Path,
    portrait_file: Path,
    options: tuple[str, ...],
    reason: str,
) -> None:
    done = run(
        *("animate", portrait_file, SPEECH, "-o", tmp_path / "out.mp4"),
        *("--server", mesh.address, *options),
    )
    assert done.returncode == 3
    assert "FIELD_INVALID" in last_line(done)
    assert reason in last_line(done)
    assert list(tmp_path.iterdir()) == []


def test_bad_files_exit_with_3(mesh: ServiceProcess, tmp_path: Path, portrait_file: Path) -> None:
    text = tmp_path / "text"
    text.write_text("neither image nor audio " * 9)
    options = ("-o", tmp_path / "out.mp4", "--server", mesh.address)
    done = run("animate", text, SPEECH, *options)
    assert done.returncode == 3
    assert "IMAGE_BROKEN" in last_line(done)
    done = run("animate", portrait_file, text, *options)
    assert done.returncode == 3
    assert "AUDIO_BROKEN" in last_line(done)


def processes_of(session: int) -> list[int]:
    """Processes that a process has started, directly or not."""
    found, family = [], {session}
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent in family:
            family.add(int(folder.name))
            found.append(int(folder.name))
    return found


def accept_ctrl_c() -> None:
    """Undo that a shell makes what it starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def gone(pids: list[int], within: float = 60) -> bool:
    """Whether processes end in time."""
    deadline = time.monotonic() + within
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def sessions(log: str) -> int:
    """Sessions that the orchestrator of a mesh holds, whose log this is."""
    (port,) = re.findall(r"^orchestrator .*event=listening .*metrics_port=(\d+)", log, re.MULTILINE)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(x.split()[-1])) for x in lines if "talkingface_slots_in_use{" in x)


def test_the_mesh_serves_and_ends_with_ctrl_c(
    tmp_path: Path, portrait_file: Path, short_speech: Path
) -> None:
    log = tmp_path / "up.log"
    with log.open("w") as file:
        up = subprocess.Popen(
            [*COMMAND, "up", "--port", "0"], stdout=file, stderr=file, preexec_fn=accept_ctrl_c
        )
    try:
        deadline = time.monotonic() + 240
        while not (ready := re.search(r"ready at (\S+);", log.read_text())):
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        family = processes_of(up.pid)
        assert len(family) >= 4 + 3
        out = tmp_path / "out.mp4"
        # Of an interrupted client nothing is left but the mesh.
        client = subprocess.Popen(
            [*COMMAND, "animate", portrait_file, SPEECH, "-o", out, "--server", ready[1]],
            stderr=subprocess.PIPE,
            preexec_fn=accept_ctrl_c,
        )
        while not sessions(log.read_text()):
            assert client.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=60)
        assert client.returncode == 130, errors
        assert errors.decode().splitlines()[-1] == "talkingface: interrupted"
        assert not out.exists()
        while sessions(log.read_text()):  # the mesh may hold no more than one
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = run("animate", portrait_file, short_speech, "-o", out, "--server", ready[1])
        assert done.returncode == 0, done.stderr
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert gone(family), "no process is left"
        text = log.read_text()
        assert "Traceback" not in text
        for service in ("audio_features", "motion_gen", "renderer", "orchestrator"):
            assert re.search(rf"^{service} .*event=stopped", text, re.MULTILINE)
    finally:
        up.kill()


def test_a_mesh_whose_starter_is_killed_ends(tmp_path: Path) -> None:
    code = (
        "from talkingface.cli.mesh import LocalMesh\n"
        "import time\n"
        "mesh = LocalMesh(stages=['audio_features'])\n"
        "mesh.start()\n"
        "print('ready', flush=True)\n"
        "time.sleep(100)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"ready\n"
    family = processes_of(starter.pid)
    assert len(family) >= 3
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    assert gone(family)


def test_bench_measures_every_stage(
    tmp_path: Path, portrait_file: Path, short_speech: Path
) -> None:
    result = tmp_path / "bench.json"
    arguments = ("bench", "speed", portrait_file, short_speech, "--repeats", 1, "--sessions", 1)
    done = run(*arguments, "--json", result)
    # A bench keeps all cores busy, so that on a shared machine a poll of the mesh may time out.
    if done.returncode == 4:
        warnings.warn(f"bench is run once more: {done.stderr}", stacklevel=1)
        done = run(*arguments, "--json", result)
    assert done.returncode == 0, done.stderr
    report = json.loads(result.read_text())
    names = [entry["what"] for entry in report["measurements"]]
    assert names[:3] == ["audio_features", "motion_gen", "renderer"]
    frames = {entry["what"]: entry["frames"] for entry in report["measurements"]}
    assert frames["renderer, 60 FPS"] == pytest.approx(2.4 * frames["renderer"], abs=1)
    for entry in report["measurements"]:
        assert entry["fps"] > 0
        assert entry["cpu_ms"] > (5 if "renderer" in entry["what"] else -1)  # counted in 10 ms
        assert 0 < entry["p50_ms"] <= entry["p95_ms"] <= entry["p99_ms"]
        assert entry["what"] in done.stdout
    memory = {entry["service"]: entry for entry in report["memory_mib"]}
    assert memory["renderer"]["processes"] >= 4
    assert 50 < memory["renderer"]["peak"] < 400
    assert report["preparation_seconds"]["cpu"] > 0
    assert sum(entry["pss"] for entry in memory.values()) < 6000
