"""A live session's sound on the clock, without network."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.messages import features_arrays, features_message
from talkingface.orchestrator.media.fading import FADE_SECONDS, AudioFader
from talkingface.orchestrator.session.frame_dropping import FrameDropper
from talkingface.orchestrator.session.live_playout import (
    AHEAD_SECONDS,
    MAX_QUEUED_SECONDS,
    PlaybackFinished,
    PlayoutBuffer,
)
from talkingface.orchestrator.session.muting import FeatureMuter
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


def feed_with_clock() -> tuple[PlayoutBuffer, Clock]:
    clock = Clock()
    return PlayoutBuffer(S16, clock), clock


def sound(samples: int) -> bytes:
    return np.arange(1, samples + 1, dtype="<i2").tobytes()


def test_silence_comes_by_the_clock_from_the_beginning() -> None:
    feed, clock = feed_with_clock()
    data, _ = feed.due()
    assert data == bytes(2 * AHEAD)
    assert feed.due() == (b"", [])
    clock.now += 0.04
    assert len(feed.due()[0]) == 2 * 320
    clock.now += 100
    assert len(feed.due()[0]) == 2 * RATE  # not more than a second at a time
    assert len(feed.due()[0]) == 2 * RATE


def test_ticks_keep_to_the_clock_of_the_session() -> None:
    """Each brings what is due then, a millisecond late at most; a late one is not made up for."""
    feed, clock = feed_with_clock()
    rng = np.random.default_rng(0)
    fed = len(feed.due()[0]) // 2
    for tick in range(200):
        clock.now += feed.pause
        fed += len(feed.due()[0]) // 2
        assert fed == pytest.approx(AHEAD + 0.02 * tick * RATE + 0.001 * RATE, abs=1)
        clock.now += float(rng.uniform(0, 0.015))  # what is done with it
    clock.now += 0.1
    feed.due()
    assert 0 < feed.pause <= 0.02 + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_the_sound_comes_whole_however_it_is_cut(seed: int) -> None:
    rng = np.random.default_rng(seed)
    feed, clock = feed_with_clock()
    whole = sound(4000)
    cuts = np.sort(rng.integers(0, len(whole), 30)).tolist()
    fed = b""
    for first, last in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        feed.push(whole[first:last])
        clock.now += float(rng.uniform(0, 0.03))
        fed += feed.due()[0]
    feed.end()
    while not feed.finished:
        clock.now += 0.02
        fed += feed.due()[0]
    samples = np.frombuffer(fed, "<i2")
    assert samples[samples != 0].tobytes() == whole
    assert len(samples) / RATE <= clock.now - 100 + AHEAD_SECONDS


def holes(jitter: float, seed: int, utterances: int = 20) -> list[int]:
    """Silent samples within each of some utterances that a client sends at the pace of speech, in
    pieces of 20 ms that come late by up to `jitter` seconds."""
    feed, clock = feed_with_clock()
    rng = np.random.default_rng(seed)
    piece = round(0.02 * RATE)
    found = []
    feed.due()
    for _ in range(utterances):
        begin = clock.now + float(rng.uniform(0.5, 1))
        late = rng.uniform(0, jitter, 50) if jitter else np.zeros(50)
        comes = list(np.maximum.accumulate(begin + 0.02 * np.arange(50) + late))
        spoken = b""
        while clock.now < begin + 2:
            clock.now += feed.pause
            while comes and comes[0] <= clock.now:
                feed.push(np.ones(piece, "<i2").tobytes())
                comes.pop(0)
            spoken += feed.due()[0]
        samples = np.flatnonzero(np.frombuffer(spoken, "<i2"))
        assert len(samples) == 50 * piece
        found.append(int(np.ptp(samples)) + 1 - 50 * piece)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_an_uneven_way_makes_few_holes(seed: int) -> None:
    """Fed as it comes, such sound has holes in 0.5 and 0.8 of the utterances."""
    assert sum(holes(0.0, seed)) == 0
    assert sum(holes(0.02, seed)[5:]) == 0
    assert sum(hole > 0 for hole in holes(0.06, seed)[5:]) <= 5


def test_sound_sent_ahead_waits_for_nothing() -> None:
    feed, clock = feed_with_clock()
    feed.due()
    feed.push(sound(160))
    for _ in range(2):  # it runs dry, and what comes is late
        clock.now += 0.04
        feed.due()
    feed.push(sound(8000))
    clock.now += 0.02
    assert feed.due()[0] == sound(160)


def test_what_follows_an_end_is_not_late() -> None:
    feed, clock = feed_with_clock()
    feed.due()
    for end in (lambda: feed.end_of_utterance("a"), feed.interrupt):
        feed.push(sound(160))
        clock.now += 0.05
        feed.due()
        end()
        clock.now += 0.02
        feed.due()
        feed.push(sound(40))
        clock.now += 0.02
        assert feed.due()[0][:80] == sound(40)
        feed.interrupt()


def test_utterances_are_told_when_their_last_sample_is_fed() -> None:
    feed, clock = feed_with_clock()
    feed.due()
    feed.push(sound(800))
    feed.end_of_utterance("a")
    feed.push(sound(400))
    feed.end_of_utterance("b")
    told = []
    for _ in range(10):
        clock.now += 0.03
        told += feed.due()[1]
    begin = AHEAD_SECONDS
    assert told == [
        PlaybackFinished("a", pytest.approx(begin + 0.1), pytest.approx(0.1), False),
        PlaybackFinished("b", pytest.approx(begin + 0.15), pytest.approx(0.05), False),
    ]


def test_an_interrupt_drops_what_is_not_fed() -> None:
    feed, clock = feed_with_clock()
    feed.due()
    feed.push(sound(8000) + b"\x01")
    feed.end_of_utterance("a")
    feed.push(sound(400))
    clock.now += 0.25
    data, told = feed.due()
    assert len(data) == 4000 and not told
    end = pytest.approx(AHEAD_SECONDS + 0.25)
    assert feed.interrupt() == [
        PlaybackFinished("a", end, 0.25, True),
        PlaybackFinished("", end, 0.0, True),
    ]
    assert feed.interrupt() == []
    clock.now += 0.1
    assert feed.due() == (bytes(1600), [])
    feed.push(sound(80))
    feed.end_of_utterance("c")
    clock.now += 0.1
    data, told = feed.due()
    assert data[:160] == sound(80)
    assert [(t.utterance_id, t.seconds, t.interrupted) for t in told] == [("c", 0.01, False)]


def test_the_end_comes_with_the_last_word() -> None:
    feed, clock = feed_with_clock()
    feed.due()
    feed.push(sound(100))
    feed.end()
    assert not feed.finished
    clock.now += 1
    data, told = feed.due()
    assert len(data) == 200 and feed.finished
    assert [t.utterance_id for t in told] == [""]


def test_too_much_ahead_is_refused() -> None:
    feed, _ = feed_with_clock()
    feed.push(bytes(int(2 * RATE * MAX_QUEUED_SECONDS)))
    with pytest.raises(ServiceError, match="AUDIO_TOO_LONG"):
        feed.push(b"12")


def test_a_file_has_no_pace() -> None:
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        PlayoutBuffer(media.AudioFormat(encoding=media.AUDIO_ENCODING_FILE))
    with pytest.raises(ServiceError, match="FIELD_INVALID"):
        feed_with_clock()[0].end_of_utterance("x" * 65)


@pytest.mark.parametrize("hop", [0.04, 0.08])
def test_so_much_motion_may_be_under_way_in_pieces_of_any_length(hop: float) -> None:
    pacer = FrameDropper(Clock(), 10.0)
    pieces = round(0.32 / hop)
    left_out = [pacer.leave_out(10 + hop * i) for i in range(1, pieces + 3)]
    assert left_out == [False] * pieces + [True] * 2
    pacer.see(10 + hop, 0)
    assert not pacer.leave_out(10 + hop * (pieces + 3))
    assert pacer.leave_out(10 + hop * (pieces + 4))


def test_a_renderer_that_is_behind_is_sent_no_more_to_show() -> None:
    clock = Clock()
    pacer = FrameDropper(clock)
    assert [pacer.leave_out(0.08 * i) for i in range(1, 7)] == [False] * 4 + [True] * 2
    assert pacer.see(0.04, 0) == []
    assert pacer.leave_out(0.56), "the first piece is not whole yet"
    assert pacer.see(0.08, 0) == []
    assert not pacer.leave_out(0.64)
    (late,) = pacer.see(0.60, 6)
    assert (late.kind, late.frames) == (Event.KIND_FRAMES_DROPPED, 6)
    assert pacer.see(0.64, 1) == [], "not twice a second"
    clock.now += 1.1
    (late,) = pacer.see(0.72, 1)
    assert late.frames == 2


def test_an_utterance_is_told_when_its_last_picture_has_come() -> None:
    pacer = FrameDropper(Clock())
    pacer.play([PlaybackFinished("a", 1.0, 0.5, False), PlaybackFinished("b", 1.02, 0.02, False)])
    assert pacer.see(0.96, 0) == []
    (event,) = pacer.see(1.0, 0)
    assert (event.utterance_id, event.played.ToMilliseconds(), event.interrupted) == ("a", 500, 0)
    events = pacer.interrupt([PlaybackFinished("c", 1.2, 0.1, True)], 1.3)
    assert [(e.utterance_id, e.interrupted) for e in events] == [("b", False), ("c", True)]
    assert pacer.see(2.0, 0) == []


def test_an_utterance_is_told_as_far_as_it_was_heard() -> None:
    pacer = FrameDropper(Clock())
    pacer.play([PlaybackFinished("a", 1.0, 0.5, False), PlaybackFinished("b", 1.1, 0.1, False)])
    a, b, c = pacer.interrupt([PlaybackFinished("c", 1.2, 0.1, True)], 0.9)
    assert [a.played.ToMilliseconds(), b.played.ToMilliseconds(), c.played.ToMilliseconds()] == [
        400, 0, 0,
    ]  # fmt: skip
    assert all(event.interrupted and event.time.ToMilliseconds() == 900 for event in (a, b, c))


def test_sound_is_hushed_from_one_place_to_another() -> None:
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


def test_rows_are_hushed_until_the_voice_has_passed() -> None:
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


def test_before_any_silence_was_heard_rows_are_hushed_to_none() -> None:
    muter = FeatureMuter()
    muter.mute(4)
    loud = features_message(0, np.ones((4, 128), np.float32), np.ones((4, 4), np.float32))
    embedding, prosody = features_arrays(muter.apply(loud), 0)
    assert not embedding.any() and (prosody == [0, -100, 0, 0]).all()
