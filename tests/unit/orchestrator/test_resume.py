"""What lets a session resume, without a network: cuts, positions, audio begun anew, tokens."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.client import Controls, ControlUpdate, HeadRotation
from talkingface.contract.errors import ServiceError
from talkingface.orchestrator.media.decoding import AudioIntake
from talkingface.orchestrator.session.live_playout import PlayoutBuffer
from talkingface.orchestrator.session.playback_position import (
    PlaybackTracker,
    SentAudioIndex,
    preroll,
)
from talkingface.orchestrator.session.resume_token import Tokens
from talkingface.orchestrator.stages.checkpoints import CheckpointSet
from talkingface.v1.media_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioFormat
from talkingface.v1.resume_pb2 import SessionState
from talkingface.v1.stage_pb2 import Checkpoint
from talkingface.v1.talking_face_pb2 import StreamPosition
from tests.support.audio import RATE


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(messages=number, state=bytes([number]))


def test_a_cut_is_consistent() -> None:
    """Whatever the order in which the stages make their checkpoints."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        checkpoints = CheckpointSet(SessionState(), renders=True)
        samples = rows = frames = pictures = 0
        for number in range(1, 60):
            samples += int(rng.integers(0, 3)) * 1280
            rows = max(rows, min(samples // 320 - 3, rows + 4))
            frames = max(frames, min((rows - 1) // 2, frames + 2))
            pictures = max(pictures, min(frames, pictures + int(rng.integers(0, 4))))
            for name, consumed, produced in (
                ("audio_features", samples, rows),
                ("motion_gen", rows, frames),
                ("renderer", frames, pictures),
            ):
                if rng.random() < 0.3:
                    checkpoints.histories[name].keep(checkpoint(number), consumed, produced)
                    if name == "renderer":
                        state = checkpoints.consistent_snapshot(pictures, 25, [])
                        assert state.frames == pictures
                        assert state.renderer.produced <= pictures
                        assert state.motion_gen.produced <= state.renderer.consumed
                        assert state.audio_features.produced <= state.motion_gen.consumed
                        assert state.audio_features.consumed <= pictures * 640
        assert state.motion_gen.produced > frames - 40, "it follows"


def test_changes_of_controls_are_in_the_checkpoint_or_beside_it() -> None:
    checkpoints = CheckpointSet(SessionState(), renders=False)
    history = checkpoints.histories["motion_gen"]

    def change(yaw: float) -> ControlUpdate:
        return ControlUpdate(controls=Controls(head_pose=HeadRotation(yaw=yaw)))

    history.keep(checkpoint(1), 8, 2, [change(1)])
    history.keep(checkpoint(2), 12, 6, [change(2)])
    assert history.last(produced=5).produced == 2
    assert history.controls_after() == [change(2)]
    state = checkpoints.consistent_snapshot(6, 25, [change(3)])
    assert (state.motion_gen.produced, state.motion_gen.consumed) == (6, 12)
    assert list(state.controls) == [change(3)]


@pytest.mark.parametrize("seed", range(20))
def test_a_place_is_where_the_byte_is(seed: int) -> None:
    """Sent again from any place, the sound is the same, and so are the numbers of messages."""
    rng = np.random.default_rng(seed)
    sound = rng.bytes(1000)
    cuts = np.sort(rng.integers(0, 1000, 9)).tolist()
    pieces = [sound[a:b] for a, b in zip([0, *cuts], [*cuts, 1000], strict=True)]
    messages: list[bytes | None] = []
    for piece in pieces:
        messages += [None] * int(rng.integers(0, 3)) + [piece]
    log, begin, place = SentAudioIndex(StreamPosition(), 0), 0, StreamPosition()
    for position in sorted(rng.integers(1, 1000, 4).tolist()):
        for number in range(place.messages, len(messages)):
            if (message := messages[number]) is not None:
                offset = place.bytes if number == place.messages else 0
                log.audio(number, len(message) - offset)
        place = log.locate(position)
        rest = [m for m in messages[place.messages :] if m is not None]
        assert b"".join(rest)[place.bytes :] == sound[position:]
        log, begin = SentAudioIndex(place, position), position
    assert begin


def test_what_was_played_of_a_live_session() -> None:
    """Sound on the clock with silence between; marks count when their sound is over."""
    progress = PlaybackTracker(StreamPosition(), 2)
    progress.audio(0, 800)
    progress.audio(2, 400)  # message 1 was the mark of an utterance
    progress.scheduled(1000, 0, 300)
    progress.scheduled(1150, 300, 500)
    progress.utterance_ended(1400, 800, 1)
    progress.scheduled(2000, 800, 400)
    assert progress.at(900) == StreamPosition()
    assert progress.at(1100) == StreamPosition(bytes=200, utterance_bytes=200)
    assert progress.at(1300) == StreamPosition(bytes=600, utterance_bytes=600)
    assert progress.at(1400) == StreamPosition(messages=2)
    assert progress.at(1900) == StreamPosition(messages=2)
    assert progress.at(2100) == StreamPosition(messages=2, bytes=200, utterance_bytes=200)
    progress.audio(3, 1000)
    progress.interrupted(2200, 4)
    assert progress.at(2150) == StreamPosition(messages=5)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_sound_begun_in_the_middle_is_the_same(rate: int) -> None:
    sound = np.random.default_rng(rate).uniform(-0.5, 0.5, 2 * rate).astype("<f4")
    audio = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate=rate, channels=1)

    def voice(intake: AudioIntake, samples: np.ndarray) -> np.ndarray:
        pieces = [*intake.push(samples.tobytes()), *intake.end()]
        return np.concatenate([piece.mono_16k for piece in pieces])

    whole = voice(AudioIntake(audio), sound)
    taken = 20_480
    first, first_voice = preroll(taken, rate)
    assert first * 16_000 == first_voice * rate and first_voice <= taken
    part = voice(AudioIntake(audio, first_sample=first), sound[first:])
    assert first_voice + len(part) == len(whole)
    np.testing.assert_allclose(part[taken - first_voice :], whole[taken:], atol=1e-6)
    if rate == 16_000:
        assert np.array_equal(part, whole[first_voice:])


def test_a_live_feed_goes_on_where_its_pictures_do() -> None:
    now = 50.0
    place = StreamPosition(messages=7, bytes=100, utterance_bytes=1000)
    audio = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate=RATE, channels=1)
    feed = PlayoutBuffer(audio, lambda: now, place, first_sample=RATE, resume_at=1.5)
    feed.push(b"\1\1" * RATE, 7)
    feed.end_of_utterance("a", 8)
    fed = b""
    for _ in range(200):
        fed += feed.pop_due()[0]
        now += 0.01
    samples = np.frombuffer(fed, "<i2")
    begin = int(np.flatnonzero(samples)[0])
    assert RATE + begin == 1.5 * RATE, "silence until the first picture that is wanted"
    assert feed.position_at(1.5) == place
    assert feed.position_at(1.75) == StreamPosition(
        messages=7, bytes=100 + RATE // 2, utterance_bytes=9000
    )
    assert feed.position_at(2.5) == StreamPosition(messages=9)


def test_tokens_are_signed_and_grow_old() -> None:
    state = SessionState(session_id="s", frames=5)
    tokens = Tokens("secret", 60.0)
    assert tokens.unpack(tokens.pack(state)).frames == 5
    for bad in (b"", tokens.pack(state)[:-1], Tokens("other", 60.0).pack(state), bytes(2 << 20)):
        with pytest.raises(ServiceError, match="FIELD_INVALID"):
            tokens.unpack(bad)
    with pytest.raises(ServiceError, match="SESSION_EXPIRED"):
        Tokens("secret", 0.0).unpack(tokens.pack(state))
