"""`talkingface bench live`: made-up sessions whose figures are known, and a short real one."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from talkingface.client import OUTPUT_KIND_H264, Event, Summary
from talkingface_research.bench import analysis, measures
from talkingface_research.bench.conversation import (
    ControlChange,
    Interruption,
    SessionTrace,
    Utterance,
    find_utterances,
)
from talkingface_research.bench.frame_measurements import Curves, decoded_frames
from talkingface_research.bench.live_table import tabulate
from talkingface_research.bench.outcome import Outcome, as_json
from talkingface_research.bench.processes import MemoryWatch, Program, Sample, Size
from talkingface_research.bench.recording import ReceivedChunk, Recording, Refusal
from talkingface_research.bench.rows import worst_of
from talkingface_research.bench.soak import load_of
from talkingface_research.report import JUDGED, Report, Row
from tests.support import ROOT
from tests.support.services import ServiceProcess

RATE = 16000
FPS = 25
START = 1000.0  # of the clock


@dataclass
class Stream:
    """A made-up session: what it is known to do, in seconds."""

    seconds: float = 24.0
    early: float = 0.05  # by which frames arrive before their presentation
    drift: float = 0.0  # by which they arrive later at the end
    audio_delay: float = 0.18  # from sending audio to its arrival
    lips: float = 0.0  # by which the lips follow the audio
    gap: float = 0.0  # silence in every utterance, after its first tenth of a second
    reaction: float = 0.2  # to changes and interruptions
    left_out: tuple[int, ...] = ()
    shuffled: bool = False  # the lips follow the utterances in another order

    def make(self) -> tuple[Recording, Curves]:
        """The recording and the measured frames of it."""
        random = np.random.default_rng(5)
        trace = SessionTrace()
        recording = Recording(FPS, trace, opened=START)
        count = round(self.seconds * FPS)
        numbers = np.array([i for i in range(count) if i not in self.left_out])
        times = numbers / FPS
        arrivals = START + times - self.early + self.drift * times / self.seconds
        arrivals = np.maximum.accumulate(arrivals + 0.002 * random.random(len(times)))
        audio = np.zeros(round((self.seconds + 9) * RATE), "<i2")
        voices = [words(number) for number in range(7)]
        level = np.zeros(len(audio))
        for i in range(7):
            sent = START + 1.5 + 2.4 * i + 0.013 * i
            utterance = Utterance(sent, voices[i])
            trace.utterances.append(utterance)
            start = round((sent - START + self.early + self.audio_delay) * RATE)
            head, tail = utterance.samples[: RATE // 10], utterance.samples[RATE // 10 :]
            silence = np.zeros(round(self.gap * RATE), "<i2")
            returned = np.concatenate([head, silence, tail])
            audio[start : start + len(returned)] = returned
            shown = voices[(i + 3) % 7] if self.shuffled else utterance.samples
            start += round(self.lips * RATE)
            level[start : start + len(shown)] = np.abs(shown)
        smooth = np.convolve(level, np.ones(RATE // 25) / (RATE / 25))[: len(level)]
        opening = 0.002 + 0.08 * np.sqrt(smooth[(times * RATE).astype(int)] / 9000)
        opening += 0.0005 * random.standard_normal(len(opening))
        gaze, yaw = np.zeros(len(times)), np.zeros(len(times))
        moments = arrivals - self.reaction
        trace.control_changes = [
            ControlChange(START + 18.6, ""),
            ControlChange(START + 19.6, "gaze", 18.0),
            ControlChange(START + 21.1, "head", -14.0),
            ControlChange(START + 22.9, ""),
        ]
        gaze += 0.2 * np.clip((moments - START - 19.6) / 0.2, 0, 1)
        yaw -= 14 * np.clip((moments - START - 21.1) / 0.4, 0, 1)
        gaze += 0.002 * random.standard_normal(len(times))
        yaw += 0.1 * random.standard_normal(len(times))
        ends = np.minimum((numbers + 1) * RATE // FPS, len(audio))
        begins = np.concatenate([[0], ends[:-1]])
        recording.chunks = [
            ReceivedChunk(float(at), int(number), b"", audio[first:last].tobytes())
            for at, number, first, last in zip(arrivals, numbers, begins, ends, strict=True)
        ]
        recording.summary = Summary(frames=len(numbers), dropped_frames=len(self.left_out))
        return recording, Curves(opening, gaze, yaw)


def words(number: int) -> np.ndarray:
    """An utterance of three syllables that depends on the number; 1.2 s, beginning at once."""
    random = np.random.default_rng(number)
    time = np.arange(round(1.2 * RATE)) / RATE
    out = np.zeros(len(time))
    begin = 0.0
    for _ in range(3):
        long = 0.12 + 0.14 * random.random()
        inside = (time >= begin) & (time < begin + long)
        out[inside] = 1
        begin += long + 0.05 + 0.17 * random.random()
    noise = random.standard_normal(len(time))
    return np.rint(9000 * np.clip(noise, -2, 2) / 2 * out).astype("<i2")


def found(stream: Stream) -> analysis.SessionAnalysis:
    return analysis.analyse(*stream.make())


def outcome_of(stream: Stream) -> Outcome:
    recording, curves = stream.make()
    outcome = Outcome(FPS, 2, seconds=stream.seconds, recordings=[recording])
    outcome.with_handle = outcome.with_image = [0.07, 0.09]
    outcome.analyses = [analysis.analyse(recording, curves)]
    return outcome


def row_of(report: Report, text: str) -> Row:
    rows = [row for rows in report.sections.values() for row in rows if row.what.startswith(text)]
    assert len(rows) == 1, text
    return rows[0]


@pytest.mark.parametrize("lips", [0.0, 0.08, 0.2])
def test_the_time_from_audio_to_lips_is_found(lips: float) -> None:
    """By the onset within a frame, by correlation more closely, and not by chance."""
    out = found(Stream(lips=lips))
    assert len(out.lips) == 7
    assert out.not_at_rest == out.unanswered == 0
    assert np.median(out.lips) == pytest.approx(0.18 + lips + 0.03, abs=0.03)
    assert out.lag.seconds == pytest.approx(0.18 + lips + 0.02, abs=0.03)
    assert out.lag.correlation > 0.9 > 0.75 > out.shuffled.correlation
    assert [one.delay for one in out.returned] == pytest.approx([0.18] * 7, abs=0.045)
    assert all(one.inserted == one.lost == 0 for one in out.returned)
    assert out.in_sync[0].seconds == pytest.approx(lips + 0.02, abs=0.03)
    assert out.false_onsets == [False] * 3


def test_lips_that_follow_something_else_do_not_correlate() -> None:
    out = found(Stream(shuffled=True))
    assert out.lag.correlation < 0.75


def test_silence_and_loss_in_utterances_are_found() -> None:
    out = found(Stream(gap=0.03))
    assert [one.inserted for one in out.returned] == pytest.approx([0.03] * 7, abs=1e-4)
    assert [one.lost for one in out.returned] == [0] * 7
    sent = words(1)
    audio = np.concatenate([np.zeros(3000, "<i2"), sent[:1600], sent[1920:], np.zeros(99, "<i2")])
    begin, inserted, lost = analysis.find_utterance(audio, sent, 0)
    assert begin == 3000
    assert inserted == 0
    assert lost == pytest.approx(320 / RATE, abs=0.011)
    assert analysis.find_utterance(np.zeros(40000, "<i2"), sent, 0) == (None, 0.0, len(sent) / RATE)


def test_responses_to_controls_are_found() -> None:
    out = found(Stream(reaction=0.2))
    (gaze,), (head,) = out.gaze, out.head
    assert out.unmoved == 0
    assert gaze.first == pytest.approx(0.24, abs=0.045)
    assert gaze.ninety == pytest.approx(0.2 + 0.18, abs=0.045)
    assert gaze.change == pytest.approx(0.2, abs=0.01)
    assert head.first == pytest.approx(0.26, abs=0.05)
    assert head.ninety == pytest.approx(0.2 + 0.36, abs=0.045)
    recording, curves = Stream().make()
    stiff = Curves(curves.opening, 0 * curves.gaze, -curves.yaw)
    assert analysis.analyse(recording, stiff).unmoved == 2, (
        "one does not move, one moves in the wrong direction"
    )


def test_an_interruption_ends_when_lips_and_audio_rest() -> None:
    recording, curves = Stream(lips=0.08).make()
    moment = recording.trace.utterances[2].sent + 0.05
    recording.trace.interruptions.append(Interruption(moment, talks_on=False))
    (audio,), (lips,) = (
        analysis.analyse(recording, curves).audio_rest,
        analysis.analyse(recording, curves).lips_rest,
    )
    spoken = np.flatnonzero(words(2))[-1] / RATE
    assert audio == pytest.approx(spoken - 0.05 + 0.18, abs=0.05)
    assert lips == pytest.approx(spoken - 0.05 + 0.26, abs=0.07)
    # What is still active at the end of the search has not come to rest.
    assert math.isnan(measures.settled(np.arange(5.0), np.ones(5, bool), 0.5, 4.0))


def test_missing_frames_are_those_after_the_first_second() -> None:
    stream = Stream(left_out=(3, 4, 100, 101, 300))
    recording, _ = stream.make()
    assert measures.missing(recording.indices, FPS) == 3
    assert measures.missing(recording.indices, FPS, 0) == 5
    assert measures.gaps(recording.arrivals).max() == pytest.approx(0.12, abs=0.005)


def test_drift_is_found_whatever_jitter_and_stalls() -> None:
    random = np.random.default_rng(1)
    presented = np.arange(60 * FPS) / FPS
    jitter = 0.02 * random.random(len(presented))
    assert measures.drift(presented + jitter, presented) == pytest.approx(0, abs=0.003)
    slow = presented * (1 + 1e-3) + jitter
    slow[500:540] += 0.4  # a stall
    assert measures.drift(slow, presented) == pytest.approx(0.06, abs=0.004)
    assert math.isnan(measures.drift(presented[:20], presented[:20]))


def test_audio_that_drifts_from_the_frames_is_found() -> None:
    numbers = [0, 1, -1, 2, 3]
    samples = [640, 640, 320, 640, 640]
    ahead = measures.audio_ahead(numbers, samples, FPS, RATE)
    assert ahead == pytest.approx([0, 0, 0.02, 0.02])


def test_growth_is_from_the_second_minute_to_the_last() -> None:
    sizes = [(t, {"a": 100 + (50 if t < 50 else 0) + t / 60, "b": 10.0}) for t in range(0, 601, 10)]
    grown = measures.growth([*sizes[:20], (205.0, {"a": 101, "b": 10, "c": 3}), *sizes[20:]], 600)
    assert grown == {"a": pytest.approx(100 * (109.5 / 101.5 - 1)), "b": 0}
    assert measures.growth(sizes, 100) == {}


def test_a_good_stream_meets_its_bars() -> None:
    report = tabulate(outcome_of(Stream()))
    missed = {row.what for row in report.missed}
    assert not missed - {"interrupt sent to lips at rest", "interrupt sent to audio silent"}
    assert row_of(report, "audio sent to lips seen").verdict == "PASS"
    assert "| PASS |" in report.markdown()


@pytest.mark.parametrize(
    ("stream", "rows"),
    [
        (Stream(lips=0.2), ["audio sent to lips seen"]),
        (Stream(left_out=(200,)), ["late frames after the first second"]),
        (Stream(drift=0.05), ["arrival against presentation"]),
    ],
)
def test_a_bad_stream_misses_them(stream: Stream, rows: list[str]) -> None:
    report = tabulate(outcome_of(stream))
    for what in rows:
        assert row_of(report, what).verdict.startswith("MISS")


def test_what_was_not_measured_is_missed() -> None:
    """Without utterances, openings and frames, no bar counts as met."""
    recording = Recording(FPS, SessionTrace(), opened=START)
    curves = Curves(np.zeros(0), np.zeros(0), np.zeros(0))
    assert not analysis.frames_to_measure(recording).any()
    outcome = Outcome(FPS, 2, 10.0, recordings=[recording])
    outcome.analyses = [analysis.analyse(recording, curves)]
    report = tabulate(outcome)
    for what in ("first frame after open, portrait by handle", "audio sent to lips seen"):
        assert row_of(report, what).verdict == "MISS"
    json.dumps([as_json(outcome), report.json()])


def test_memory_that_grows_is_missed() -> None:
    outcome = outcome_of(Stream())
    outcome.seconds = 600.0
    outcome.memory = [
        Sample(
            t, {("renderer", 7): Size(100 + t / 30, 90 + t / 30), ("motion_gen", 8): Size(60, 50)}
        )
        for t in range(0, 601, 10)
    ]
    report = tabulate(outcome)
    worst = row_of(report, "growth of memory from the second minute to the last, worst process")
    assert worst.verdict.startswith("MISS")
    assert worst.note == "renderer, process 7"
    memory = row_of(report, "memory of all processes at the end (PSS)")
    assert memory.values[JUDGED] == pytest.approx(160)


def test_the_time_on_each_level_is_that_between_the_events() -> None:
    seconds = measures.time_by_level([(6.0, 1), (9.0, 2), (10.0, 1), (21.0, 0)], 24.0)
    assert seconds == {0: 9.0, 1: 14.0, 2: 1.0}
    assert measures.time_by_level([], 24.0) == {0: 24.0}
    assert measures.time_by_level([(30.0, 1)], 24.0) == {0: 24.0, 1: 0.0}, "after the last frame"


def test_lateness_is_against_the_median_frame() -> None:
    lag = np.array([0.1, 0.1, 0.1, 0.18, 0.02])
    assert measures.lateness(lag) == pytest.approx([0, 0, 0, 0.08, 0])
    assert not len(measures.lateness(np.zeros(0)))


def test_cores_are_listed_by_program() -> None:
    outcome = outcome_of(Stream())
    outcome.seconds = 20.0
    outcome.cpu = {
        Program("renderer", "service"): 4.0,
        Program("renderer", "model frame_synthesis"): 16.0,
        Program("orchestrator", "service"): 2.0,
    }
    report = tabulate(outcome)
    found = {
        row.what: row.values[JUDGED]
        for row in report.sections["processes"]
        if row.what.startswith("CPU of") and row.what != "CPU of this client"
    }
    assert found == {
        "CPU of renderer": 1.0,
        "CPU of renderer: service": 0.2,
        "CPU of renderer: model frame_synthesis": 0.8,
        "CPU of orchestrator": 0.1,
        "CPU of all": 1.1,
        "CPU of all, for each frame received": pytest.approx(22000 / (24 * FPS)),
    }


def test_the_worst_round_is_the_figure() -> None:
    """By the direction of the row: more delay, more drift either way, fewer frames are worse."""
    streams = [Stream(lips=0.2), Stream(drift=-0.05), Stream(left_out=(200,))]
    rounds = [tabulate(outcome_of(stream)) for stream in streams]
    report = worst_of(rounds, {"rounds": 3})
    for what, worst in (
        ("audio sent to lips seen", 0),
        ("arrival against presentation", 1),
        ("late frames after the first second", 2),
        ("frames received", 2),
    ):
        figures = [row_of(one, what).values[JUDGED] for one in rounds]
        row = row_of(report, what)
        assert row.values[JUDGED] == figures[worst], what
        assert (row.values["low"], row.values["high"]) == (min(figures), max(figures)), what
    assert row_of(report, "audio sent to lips seen").verdict.startswith("MISS")
    assert "rounds: 3" in report.markdown()
    assert "low" not in row_of(worst_of(rounds[:1], {}), "frames received").values


def test_a_round_without_a_figure_misses_the_bar() -> None:
    outcome = Outcome(FPS, 2, 10.0, recordings=[Recording(FPS, SessionTrace(), opened=START)])
    report = worst_of([tabulate(outcome_of(Stream())), tabulate(outcome)], {})
    row = row_of(report, "first frame after open, portrait by handle")
    assert row.verdict == "MISS"


def test_under_stress_the_lips_may_be_later() -> None:
    outcome = outcome_of(Stream(lips=0.06))
    row = row_of(tabulate(outcome), "audio sent to lips seen")
    assert row.bar is not None and row.bar.high == 250
    outcome.stress = "a busy loop"
    row = row_of(tabulate(outcome), "audio sent to lips seen")
    assert row.bar is not None and row.bar.high == 300


def test_refusals_are_counted_with_their_effect_on_other_sessions() -> None:
    recording, _ = Stream(left_out=(100, 500, 501)).make()
    outcome = Outcome(FPS, 0, 24.0, recordings=[recording])
    outcome.refusals = [
        *(Refusal(START + 12, 0.02, "NO_CAPACITY") for _ in range(9)),
        Refusal(START + 14, 0.3, ""),
    ]
    report = tabulate(outcome)
    refusal = row_of(report, "refusal")
    assert refusal.values["max"] == pytest.approx(20)
    assert refusal.verdict == "PASS"
    assert "9 x NO_CAPACITY" in refusal.note
    assert row_of(report, "admitted beyond the slots").verdict == "MISS by 1"
    assert row_of(report, "late frames of the admitted before").values[JUDGED] == 1
    assert row_of(report, "late frames of the admitted during").values[JUDGED] == 2


def test_a_ramp_counts_dropped_overdue_and_missing_frames() -> None:
    recording, _ = Stream(left_out=(510, 511)).make()
    now = float(recording.chunks[-1].arrival)
    load = load_of([recording], now - 8.0, now)
    assert (load.late, load.frames) == (2, 199)
    stopped = Recording(
        FPS, SessionTrace(), START, [chunk for chunk in recording.chunks if chunk.number < 560]
    )
    behind = load_of([stopped], now - 8.0, now)
    assert behind.late == pytest.approx(2 + (600 - 560) - 0.5 * FPS, abs=1)
    slow = [
        chunk._replace(arrival=chunk.arrival + (0.7 if chunk.number >= 580 else 0))
        for chunk in recording.chunks
    ]
    assert load_of([Recording(FPS, SessionTrace(), START, slow)], now - 8.0, now).late == 2 + 20
    assert load_of([Recording(FPS, SessionTrace(), START)], now - 8.0, now).share == 1


def test_reported_drops_are_summed() -> None:
    recording, _ = Stream().make()
    recording.events = [
        (START + t, Event(kind=Event.KIND_FRAMES_DROPPED, frames=2)) for t in (1.0, 5.0, 9.0)
    ]
    assert recording.reported_drops == 6


async def test_memory_of_processes_is_measured() -> None:
    watch = MemoryWatch({"me": os.getpid()}, every=0.05)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(60):
        while len(watch.samples) < 2:  # noqa: ASYNC110, the watch has no event
            await asyncio.sleep(0.05)
    task.cancel()
    size = watch.samples[-1].sizes["me", os.getpid()]
    assert 20 < size.pss <= size.rss < 8000


def test_frames_are_decoded_each_at_its_index() -> None:
    """A broken frame does not shift the others."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width = encoder.height = 64
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, FPS)
    encoder.options = {"tune": "zerolatency", "g": "1"}
    shades = [20 * (i + 1) for i in range(8)]
    packets: list[av.Packet] = []
    for i, shade in enumerate(shades):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8))
        frame.pts = i
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    chunks = [ReceivedChunk(0.0, i, bytes(packet), b"") for i, packet in enumerate(packets)]
    chunks[3] = chunks[3]._replace(data=b"\0\0\0\1\x65no frame")
    found = {i: int(frame().mean()) for i, frame in decoded_frames(chunks, OUTPUT_KIND_H264)}
    assert found == {i: pytest.approx(shade, abs=3) for i, shade in enumerate(shades) if i != 3}


def test_utterances_begin_with_an_open_vowel() -> None:
    """Of a recording of murmurs and vowels, only the vowels after silence are used."""
    time = np.arange(int(0.4 * RATE)) / RATE
    vowel = sum(np.sin(2 * np.pi * 120 * k * time) for k in range(1, 9))
    vowel += 4 * np.sin(2 * np.pi * 720 * time)
    murmur = 5 * np.sin(2 * np.pi * 180 * time)
    quiet = np.zeros(RATE // 5)
    parts = [quiet, murmur, quiet, vowel, vowel, quiet, murmur, quiet, quiet, quiet, murmur, quiet]
    recording = (0.05 * np.concatenate(parts)).astype(np.float32)
    (only,) = find_utterances(recording)
    assert 0.9 <= len(only) / RATE <= 1.5
    begin = len(quiet) * 2 + len(murmur)
    expected = np.rint(recording[begin : begin + 3200] * 32767)
    assert np.abs(only[:3200] - expected).max() <= 1
    with pytest.raises(ValueError, match="onset"):
        find_utterances(np.zeros(5 * RATE, np.float32))


@pytest.mark.mesh
def test_bench_live_over_the_real_mesh(
    mesh: ServiceProcess, tmp_path: Path, portrait_file: Path
) -> None:
    """All rows have values; how fast the mesh is depends on the machine."""
    command = [
        Path(sys.executable).with_name("talkingface"),
        *("bench", "live", portrait_file, ROOT / "demo" / "speech.flac"),
        *("--target", mesh.address, "--seconds", 9.5, "--rounds", 1),
        *("--opens", 1, "--size", 256),
        *("--json", tmp_path / "live.json", "--report", tmp_path / "report"),
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "live.json").read_text())
    rows = {row["what"]: row for rows in result["sections"].values() for row in rows}
    for what in (
        "first frame after open, portrait by handle, prepared",
        "audio sent to audio back",
    ):
        assert rows[what]["values"]["n"] >= 1, what
        assert rows[what]["values"][JUDGED] > 0, what
        assert what in done.stdout
    unmoved = rows["changes without a response, or in the wrong direction"]["values"][JUDGED]
    assert unmoved + rows["gaze aside: sent to first movement"]["values"]["n"] == 2
    assert rows["sessions ended by an error"]["values"][JUDGED] == 0
    assert rows["frames received"]["values"][JUDGED] > 25
    assert rows["time on level 0, full"]["values"][JUDGED] >= 0
    assert all(part > 0 for part in result["machine"]["before"]["one"]["ms"].values())
    assert "machine's speed before: " in done.stdout
    (only,) = result["rounds"]
    (session,) = only["sessions"]
    assert len(session["lips"]) + session["not_at_rest"] >= 2
    assert all(utterance["lost"] == 0 for utterance in session["returned"])
    assert (tmp_path / "report" / "frames.png").stat().st_size > 10_000
