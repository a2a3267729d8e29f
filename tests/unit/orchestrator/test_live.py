"""Playout, frame dropping and muting of live sessions, without a network."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import features_arrays, features_message
from talkingface.orchestrator.media.fading import FADE_SECONDS, AudioFader
from talkingface.orchestrator.session.degradation import Degradation
from talkingface.orchestrator.session.live_playout import (
    AHEAD_SECONDS,
    MAX_QUEUED_SECONDS,
    PlaybackFinished,
    PlayoutBuffer,
)
from talkingface.orchestrator.session.muting import FeatureMuter
from talkingface.orchestrator.session.playback_events import PlaybackEvents
from talkingface.v1 import media_pb2 as media
from talkingface.v1.audio_features_pb2 import AudioFeatures
from talkingface.v1.talking_face_pb2 import Event

RATE = 8000
S16 = media.AudioFormat(encoding=media.AUDIO_ENCODING_PCM_S16LE, sample_rate=RATE, channels=1)
AHEAD = int(AHEAD_SECONDS * RATE)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def playout_with_clock() -> tuple[PlayoutBuffer, Clock]:
    clock = Clock()
    return PlayoutBuffer(S16, clock), clock


def speech(samples: int) -> bytes:
    return np.arange(1, samples + 1, dtype="<i2").tobytes()


def test_silence_is_played_in_real_time_from_the_beginning() -> None:
    playout, clock = playout_with_clock()
    data, _ = playout.pop_due()
    assert data == bytes(2 * AHEAD)
    assert playout.pop_due() == (b"", [])
    clock.now += 0.04
    assert len(playout.pop_due()[0]) == 2 * 320
    clock.now += 100
    assert len(playout.pop_due()[0]) == 2 * RATE  # at most a second at a time
    assert len(playout.pop_due()[0]) == 2 * RATE


def test_ticks_follow_the_clock_of_the_session() -> None:
    """Each returns what is due, at most a millisecond late; late ones do not add up."""
    playout, clock = playout_with_clock()
    rng = np.random.default_rng(0)
    played = len(playout.pop_due()[0]) // 2
    for tick in range(200):
        clock.now += playout.seconds_to_tick()
        played += len(playout.pop_due()[0]) // 2
        assert played == pytest.approx(AHEAD + 0.02 * tick * RATE + 0.001 * RATE, abs=1)
        clock.now += float(rng.uniform(0, 0.015))  # its processing
    clock.now += 0.1
    playout.pop_due()
    assert 0 < playout.seconds_to_tick() <= 0.02 + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_all_audio_is_played_however_it_is_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    playout, clock = playout_with_clock()
    whole = speech(4000)
    cuts = np.sort(rng.integers(0, len(whole), 30)).tolist()
    played = b""
    for first, last in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        playout.push(whole[first:last])
        clock.now += float(rng.uniform(0, 0.03))
        played += playout.pop_due()[0]
    playout.end()
    while not playout.finished:
        clock.now += 0.02
        played += playout.pop_due()[0]
    samples = np.frombuffer(played, "<i2")
    assert samples[samples != 0].tobytes() == whole
    assert len(samples) / RATE <= clock.now - 100 + AHEAD_SECONDS


def gaps(jitter: float, seed: int, utterances: int = 20) -> list[int]:
    """Return the silent samples within each of some utterances sent in real time.

    :param jitter: seconds by which a packet of 20 ms may be late.
    """
    playout, clock = playout_with_clock()
    rng = np.random.default_rng(seed)
    packet = round(0.02 * RATE)
    found = []
    playout.pop_due()
    for _ in range(utterances):
        begin = clock.now + float(rng.uniform(0.5, 1))
        late = rng.uniform(0, jitter, 50) if jitter else np.zeros(50)
        arrivals = list(np.maximum.accumulate(begin + 0.02 * np.arange(50) + late))
        spoken = b""
        while clock.now < begin + 2:
            clock.now += playout.seconds_to_tick()
            while arrivals and arrivals[0] <= clock.now:
                playout.push(np.ones(packet, "<i2").tobytes())
                arrivals.pop(0)
            spoken += playout.pop_due()[0]
        samples = np.flatnonzero(np.frombuffer(spoken, "<i2"))
        assert len(samples) == 50 * packet
        found.append(int(np.ptp(samples)) + 1 - 50 * packet)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_network_jitter_causes_few_gaps(seed: int) -> None:
    """Without the jitter buffer, there are gaps in 0.5 and 0.8 of the utterances."""
    assert sum(gaps(0.0, seed)) == 0
    assert sum(gaps(0.02, seed)[5:]) == 0
    assert sum(gap > 0 for gap in gaps(0.06, seed)[5:]) <= 5


def test_audio_sent_ahead_is_not_delayed() -> None:
    playout, clock = playout_with_clock()
    playout.pop_due()
    playout.push(speech(160))
    for _ in range(2):  # an underrun, and the next packet is late
        clock.now += 0.04
        playout.pop_due()
    playout.push(speech(8000))
    clock.now += 0.02
    assert playout.pop_due()[0] == speech(160)


def test_audio_after_the_end_of_an_utterance_is_not_late() -> None:
    playout, clock = playout_with_clock()
    playout.pop_due()
    for end in (lambda: playout.end_of_utterance("a"), playout.interrupt):
        playout.push(speech(160))
        clock.now += 0.05
        playout.pop_due()
        end()
        clock.now += 0.02
        playout.pop_due()
        playout.push(speech(40))
        clock.now += 0.02
        assert playout.pop_due()[0][:80] == speech(40)
        playout.interrupt()


def test_an_utterance_finishes_with_its_last_sample() -> None:
    playout, clock = playout_with_clock()
    playout.pop_due()
    playout.push(speech(800))
    playout.end_of_utterance("a")
    playout.push(speech(400))
    playout.end_of_utterance("b")
    finished = []
    for _ in range(10):
        clock.now += 0.03
        finished += playout.pop_due()[1]
    begin = AHEAD_SECONDS
    assert [(one.utterance_id, one.interrupted) for one in finished] == [("a", False), ("b", False)]
    assert [one.end for one in finished] == pytest.approx([begin + 0.1, begin + 0.15])
    assert [one.seconds for one in finished] == pytest.approx([0.1, 0.05])


def test_an_interrupt_drops_what_is_not_played() -> None:
    playout, clock = playout_with_clock()
    playout.pop_due()
    playout.push(speech(8000) + b"\x01")
    playout.end_of_utterance("a")
    playout.push(speech(400))
    clock.now += 0.25
    data, finished = playout.pop_due()
    assert len(data) == 4000 and not finished
    first, second = playout.interrupt()
    assert first.end == second.end == pytest.approx(AHEAD_SECONDS + 0.25)
    assert first == PlaybackFinished("a", first.end, 0.25, True)
    assert second == PlaybackFinished("", first.end, 0.0, True)
    assert playout.interrupt() == []
    clock.now += 0.1
    assert playout.pop_due() == (bytes(1600), [])
    playout.push(speech(80))
    playout.end_of_utterance("c")
    clock.now += 0.1
    data, finished = playout.pop_due()
    assert data[:160] == speech(80)
    assert [(t.utterance_id, t.seconds, t.interrupted) for t in finished] == [("c", 0.01, False)]


def test_playout_finishes_with_the_last_audio() -> None:
    playout, clock = playout_with_clock()
    playout.pop_due()
    playout.push(speech(100))
    playout.end()
    assert not playout.finished
    clock.now += 1
    data, finished = playout.pop_due()
    assert len(data) == 200 and playout.finished
    assert [t.utterance_id for t in finished] == [""]


def test_too_much_ahead_is_refused() -> None:
    playout, _ = playout_with_clock()
    playout.push(bytes(int(2 * RATE * MAX_QUEUED_SECONDS)))
    with pytest.raises(ServiceError, match="AUDIO_TOO_LONG"):
        playout.push(b"12")


def test_files_are_refused() -> None:
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        PlayoutBuffer(media.AudioFormat(encoding=media.AUDIO_ENCODING_FILE))
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        playout_with_clock()[0].end_of_utterance("x" * 65)


@pytest.mark.parametrize("hop", [0.04, 0.08])
def test_the_limit_of_pending_motion_does_not_depend_on_its_chunks(hop: float) -> None:
    degradation = Degradation(Clock(), 10.0)
    chunks = round(0.32 / hop)
    levels = [degradation.level_for(10 + hop * i) for i in range(1, chunks + 3)]
    assert levels == [0] * chunks + [None] * 2
    degradation.on_frame(10 + hop, 0.5, 0)
    assert degradation.level_for(10 + hop * (chunks + 3)) == 0
    assert degradation.level_for(10 + hop * (chunks + 4)) is None


def test_no_more_frames_are_rendered_while_the_renderer_is_late() -> None:
    clock = Clock()
    degradation = Degradation(clock)
    levels = [degradation.level_for(0.08 * i) for i in range(1, 7)]
    assert levels == [0] * 4 + [None] * 2
    assert degradation.on_frame(0.04, 0.5, 0) == []
    assert degradation.level_for(0.56) is None, "the first chunk is not complete yet"
    assert degradation.on_frame(0.08, 0.5, 0) == []
    assert degradation.level_for(0.64) == 0
    (event,) = degradation.on_frame(0.60, 0.5, 6)
    assert (event.kind, event.frames) == (Event.KIND_FRAMES_DROPPED, 6)
    assert degradation.on_frame(0.64, 0.5, 1) == [], "not twice a second"
    clock.now += 1.1
    (event,) = degradation.on_frame(0.72, 0.5, 1)
    assert event.frames == 2


def test_an_utterance_is_reported_with_its_last_frame() -> None:
    playback = PlaybackEvents()
    playback.on_playback(
        [PlaybackFinished("a", 1.0, 0.5, False), PlaybackFinished("b", 1.02, 0.02, False)]
    )
    assert playback.on_frame(0.96) == []
    (event,) = playback.on_frame(1.0)
    assert (event.utterance_id, event.played.ToMilliseconds(), event.interrupted) == ("a", 500, 0)
    events = playback.interrupt([PlaybackFinished("c", 1.2, 0.1, True)], 1.3)
    assert [(e.utterance_id, e.interrupted) for e in events] == [("b", False), ("c", True)]
    assert playback.on_frame(2.0) == []


def test_an_interrupted_utterance_is_reported_up_to_the_silence() -> None:
    playback = PlaybackEvents()
    playback.on_playback(
        [PlaybackFinished("a", 1.0, 0.5, False), PlaybackFinished("b", 1.1, 0.1, False)]
    )
    a, b, c = playback.interrupt([PlaybackFinished("c", 1.2, 0.1, True)], 0.9)
    assert [a.played.ToMilliseconds(), b.played.ToMilliseconds(), c.played.ToMilliseconds()] == [
        400, 0, 0,
    ]  # fmt: skip
    assert all(event.interrupted and event.time.ToMilliseconds() == 900 for event in (a, b, c))


def test_audio_fades_out_and_stays_silent() -> None:
    fader = AudioFader(RATE)
    ones = np.ones(RATE, np.float32)
    assert fader.apply(0, ones) is ones
    silent = fader.fade_out(1000, 3000)
    assert silent == 1000 + FADE_SECONDS * RATE
    whole = fader.apply(0, ones)
    parts = [fader.apply(i, ones[i : i + 77, None])[:, 0] for i in range(0, RATE, 77)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert (whole[:1001] == 1).all() and (whole[silent:3000] == 0).all()
    assert (whole[3000:] == 1).all()
    assert np.abs(np.diff(whole[:3000])).max() < 0.01, "it fades"


def test_rows_before_the_end_of_the_interruption_are_silent() -> None:
    def rows(first: int, count: int, value: float, voice: float) -> AudioFeatures:
        prosody = np.tile(np.array([voice, -20 if voice else -90, 0, 0], "<f4"), (count, 1))
        return features_message(first, np.full((count, 128), value, np.float32), prosody)

    muter = FeatureMuter()
    quiet = rows(0, 3, 0.25, 0.0)
    assert muter.apply(quiet) is quiet
    speech = rows(3, 4, 9.0, 1.0)
    assert muter.apply(speech) is speech
    assert muter.mute(13) == 7
    embedding, prosody = features_arrays(muter.apply(rows(7, 4, 9.0, 1.0)), 7)
    assert (embedding == 0.25).all() and (prosody == [0, -90, 0, 0]).all()
    embedding, prosody = features_arrays(muter.apply(rows(11, 4, 9.0, 1.0)), 11)
    assert embedding[:, 0].tolist() == [0.25, 0.25, 9, 9]
    assert prosody[:, 0].tolist() == [0, 0, 1, 1]
    after = rows(15, 4, 9.0, 1.0)
    assert muter.apply(after) is after


def test_muted_rows_are_zero_before_the_first_silence() -> None:
    muter = FeatureMuter()
    muter.mute(4)
    loud = features_message(0, np.ones((4, 128), np.float32), np.ones((4, 4), np.float32))
    embedding, prosody = features_arrays(muter.apply(loud), 0)
    assert not embedding.any() and (prosody == [0, -100, 0, 0]).all()
