"""The renderer's session at its levels: which frames are rendered and from what."""

from __future__ import annotations

import numpy as np
import pytest

from talkingface.contract.errors import ServiceError
from talkingface.contract.motion import MOTION_DIM
from talkingface.contract.portrait import handle_of
from talkingface.contract.video import RenderLevel, View
from talkingface.renderer.session import RenderSession
from talkingface.serving import checkpoint
from talkingface.v1.media_pb2 import FRAMING_CROP

VIEW = View(FRAMING_CROP, 512, 512)
IMAGE = {"image": np.zeros(VIEW.shape, np.uint8)}
FULL, HALF_RESOLUTION, HALF_RATE = RenderLevel
rng = np.random.default_rng(0)
MOTION = rng.random((40, MOTION_DIM), np.float32)

# What a frame shows: its motion, and the level of the model.
Shown = tuple[bytes, int]


def new_session(rate: int = 25, first_frame: int = 0) -> RenderSession:
    return RenderSession(handle_of(b"photo"), VIEW, rate, first_frame)


class Output:
    """The frames of a session as its encoder sees them."""

    def __init__(self, session: RenderSession) -> None:
        self._session = session
        self._shown: Shown = (b"", -1)  # of the last frame

    def render(self, most: int = 1000) -> dict[int, tuple[Shown, bool]]:
        """The next frames by index: what they show, and whether they were rendered for it."""
        made: dict[int, tuple[Shown, bool]] = {}
        while len(made) < most and (request := self._session.next_request()) is not None:
            if request:
                self._shown = request["motion"].tobytes(), int(request["level"][0])
            frame = self._session.accept(IMAGE if request else {})
            assert (frame.image is not None) == bool(request)
            made[frame.index] = self._shown, bool(request)
        return made


def render(session: RenderSession) -> dict[int, tuple[Shown, bool]]:
    """All frames of a session from which none has come yet."""
    return Output(session).render()


def test_a_level_goes_to_the_model_from_its_motion_on() -> None:
    session = new_session()
    for frame, level in enumerate((0, 0, 1, 1, 0, 0)):
        session.push(MOTION[frame : frame + 1], level)
    made = render(session)
    assert [shown for shown, _ in made.values()] == [
        (MOTION[i].tobytes(), level) for i, level in enumerate((0, 0, 1, 1, 0, 0))
    ]
    assert all(rendered for _, rendered in made.values())


@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_half_the_rate_repeats_odd_frames_and_skips_none(cut: int) -> None:
    session = new_session()
    output = Output(session)
    made: dict[int, tuple[Shown, bool]] = {}
    for first in range(0, 10, cut):
        session.push(MOTION[first : min(first + cut, 10)], HALF_RATE)
        made |= output.render()
    assert list(made) == list(range(10))
    for index, (shown, rendered) in made.items():
        assert rendered == (index % 2 == 0)
        assert shown == (MOTION[index // 2 * 2].tobytes(), 1), "the motion is that of its frame"


def test_a_frame_keeps_pace_at_half_the_rate() -> None:
    """A repeated frame waits for its own motion, so that frames come out as regularly as ever."""
    session = new_session()
    for frame in range(6):
        session.push(MOTION[frame : frame + 1], HALF_RATE)
        assert list(render(session)) == [frame]


@pytest.mark.parametrize("first", [5, 6])
def test_the_level_may_change_at_any_frame(first: int) -> None:
    session = new_session()
    session.push(MOTION[:first], FULL)
    session.push(MOTION[first : first + 5], HALF_RATE)
    session.push(MOTION[first + 5 : 14], HALF_RESOLUTION)
    made = render(session)
    assert list(made) == list(range(14))
    if first == 5:  # frame 5 repeats a frame of the full resolution
        assert made[5] == ((MOTION[4].tobytes(), 0), False)
    repeated = [index for index, (_, rendered) in made.items() if not rendered]
    assert repeated == [i for i in range(first, first + 5) if i % 2]


def test_an_odd_frame_after_a_dropped_one_is_rendered() -> None:
    session = new_session()
    session.push(MOTION[:2], HALF_RATE)
    session.push(MOTION[2:3], rendered=False)
    session.push(MOTION[3:6], HALF_RATE)
    made = render(session)
    assert list(made) == [0, 1, 3, 4, 5]
    assert made[3] == ((MOTION[3].tobytes(), 1), True)


def test_the_number_of_frames_is_the_same_at_half_the_rate() -> None:
    for rate in (25, 30, 40, 60):
        counts = []
        for level in (FULL, HALF_RATE):
            session = new_session(rate)
            session.push(MOTION[:13], level)
            session.end()
            made = render(session)
            counts.append(list(made))
            rendered = sum(rendered for _, rendered in made.values())
            assert rendered == (len(made) if level is FULL else -(-len(made) // 2))
        assert counts[0] == counts[1]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="3"):
        new_session().push(MOTION[:1], 3)


@pytest.mark.parametrize("rate", [25, 30, 40, 60])
@pytest.mark.parametrize("seed", range(8))
def test_a_restart_gives_the_same_frames_at_all_levels(rate: int, seed: int) -> None:
    """Also where it begins in the middle of a pair, whose first frame has been delivered."""
    random = np.random.default_rng(seed)
    levels = random.choice([FULL, HALF_RESOLUTION, HALF_RATE, HALF_RATE], 40).repeat(3)[:40]
    seen = random.random(40) < 0.9
    cut = int(random.integers(0, 40))

    def push(session: RenderSession, frames: range) -> None:
        for i in frames:
            session.push(MOTION[i : i + 1], int(levels[i]), rendered=bool(seen[i]))

    whole = new_session(rate)
    output = Output(whole)
    push(whole, range(cut))
    begun = output.render(int(random.integers(0, 100)))
    state = whole.snapshot()
    push(whole, range(cut, 40))
    whole.end()
    rest = output.render()
    for came in {0, 1, 2, len(rest) // 2}:
        first = [*begun, *list(rest)[:came]][-1] + 1 if begun or came else 0
        resumed = new_session(rate, first)
        resumed.restore(state)
        push(resumed, range(cut, 40))
        resumed.end()
        again = render(resumed)
        assert list(again) == list(rest)[came:]
        assert all(shown == rest[index][0] for index, (shown, _) in again.items())


@pytest.mark.parametrize("damage", ["level", "frames", "waiting"])
def test_a_damaged_snapshot_is_refused(damage: str) -> None:
    session = new_session()
    session.push(MOTION[:3], HALF_RATE)
    values, arrays = checkpoint.unpack(session.snapshot())
    values[damage] = {"level": 7, "frames": [[0, 9, False]], "waiting": "many"}[damage]
    damaged = checkpoint.pack(values, {name: arrays[name] for name in ("motion", "last")})
    with pytest.raises(ServiceError, match="CHECKPOINT_MISMATCH"):
        new_session().restore(damaged)
