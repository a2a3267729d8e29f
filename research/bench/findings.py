"""What happened in a recorded live session: every utterance, change and interruption with its
answer, as the client saw it.

**Sound to lips** is counted from the moment the first 20 ms of an utterance were sent to the
arrival of the first of two pictures in a row whose lips stand further open than at rest before it:
by 15 % of how far they usually open in this session, or by five standard deviations of what they
did in the half second before, whichever is more. Utterances before which the lips did not rest are
left out and counted; one without an answer within a second counts as one second. The same detector
asked at moments when nothing was said tells how often it finds what is not there.

It depends on the first sounds (lips part late for "m"). Beside it stands the lag at which loudness,
on the clock of sending, and opening, on that of arrival, correlate best over all utterances; the
same with the opening of the next utterance shows what a correlation by chance would be.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.conversation import Said
from talkingface_research.bench.measures import Lag, Rest, Step
from talkingface_research.bench.recording import Recording

if TYPE_CHECKING:
    from talkingface_research.bench.readings import Curves

Array = NDArray[np.float64]

_AUDIBLE = 100  # of 32767, -50 dB
_PATTERN = SAMPLE_RATE // 100  # samples by which sound is found again
_SAME = 3  # samples may differ by rounding
_ALL_SAID_SECONDS = 120.0  # at both ends: whole utterances are looked at there
_SETTLE_SECONDS = 1.4  # after an interruption, in which lips and sound must come to rest
_GOING_ON_SECONDS = 0.3  # before or after an interruption, in which there must be something
_SHAM_SECONDS = 0.4


@dataclass(frozen=True)
class Heard:
    """An utterance in the sound that came back. Seconds."""

    delay: float  # from sending its first piece to the arrival of its first sample; NaN: never
    inserted: float  # silence that stands between pieces which followed one another
    lost: float  # of it that did not come


@dataclass
class Findings:
    """All samples of one session, seconds unless said otherwise."""

    lips: list[float] = field(default_factory=list)
    restless: int = 0  # utterances left out because the lips did not rest
    unanswered: int = 0
    sham: list[bool] = field(default_factory=list)  # whether an onset was seen where none was
    lips_after_interrupt: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # of each utterance by correlation
    lag: Lag = measures.NO_LAG
    shuffled: Lag = measures.NO_LAG
    heard: list[Heard] = field(default_factory=list)
    heard_after_interrupt: list[Heard] = field(default_factory=list)
    gaze: list[Step] = field(default_factory=list)
    head: list[Step] = field(default_factory=list)
    unmoved: int = 0  # changes without an answer, or with one to the wrong side
    lips_rest: list[float] = field(default_factory=list)  # from an interruption
    sound_rest: list[float] = field(default_factory=list)
    in_sync: tuple[Lag, Lag] = (
        measures.NO_LAG,
        measures.NO_LAG,
    )  # of what came, first and last part
    broken: int = 0  # pictures that could not be decoded
    usual: float = math.nan  # opening above rest in speech, face widths


def wanted(recording: Recording) -> NDArray[np.bool_]:
    """Which pictures must be looked at: around all that was done."""
    moments = _moments(recording)
    out = np.zeros(len(moments), bool)

    def around(begin: float, end: float) -> None:
        out[(moments >= begin) & (moments <= end)] = True

    begin, end = (moments[0], moments[-1]) if len(moments) else (0.0, 0.0)
    diary = recording.diary
    for said in diary.said:
        seconds = len(said.samples) / SAMPLE_RATE
        close = min(said.sent - begin, end - said.sent) < _ALL_SAID_SECONDS
        if not said.at_once:
            around(said.sent - 0.6, said.sent + (seconds + 0.9 if close else 1.1))
    for cut in diary.interrupted:
        around(cut.sent - 0.4, cut.sent + _SETTLE_SECONDS)
    for steered in diary.steered:
        around(steered.sent - 0.6, steered.sent + (2.1 if steered.what else 0.5))
    return out


def _moments(recording: Recording) -> Array:
    return np.array([piece.arrival for piece in recording.shown])


def study(recording: Recording, curves: Curves) -> Findings:
    """Find everything.

    :param curves: of the pictures of `recording.shown`.
    """
    out = Findings(broken=curves.broken)
    moments = _moments(recording)
    plain = [said for said in recording.diary.said if not said.at_once]
    rest = _usual_rest(moments, curves.opening, plain)
    out.usual = rest.least / measures.ONSET_SHARE
    _onsets(out, recording, moments, curves.opening, rest)
    _correlate(out, [said for said in plain if not said.after_interrupt], moments, curves.opening)
    _listen(out, recording, plain)
    _steering(out, recording, moments, curves)
    _interruptions(out, recording, moments, curves.opening, rest)
    out.in_sync = _in_sync(recording, curves.opening)
    return out


def _usual_rest(moments: Array, opening: Array, plain: list[Said]) -> Rest:
    """The lips' usual place at rest, and how far they must part from it."""
    before, spoken = [], []
    for said in plain:
        if not said.after_interrupt:
            before.append(
                opening[(moments > said.sent - measures.REST_SECONDS) & (moments <= said.sent)]
            )
        end = said.sent + min(len(said.samples) / SAMPLE_RATE + 0.2, 1.1)
        spoken.append(opening[(moments > said.sent + 0.3) & (moments <= end)])
    silent = np.concatenate([*before, np.full(1, np.nan)])
    loud = np.concatenate([*spoken, np.full(1, np.nan)])
    if not np.isfinite(silent).any() or not np.isfinite(loud).any():
        return Rest(math.nan, math.nan)
    level = float(np.nanmedian(silent))
    usual = max(float(np.nanpercentile(loud, 90)) - level, 0.0)
    return Rest(level, measures.ONSET_SHARE * usual)


def _onsets(
    out: Findings, recording: Recording, moments: Array, opening: Array, usual: Rest
) -> None:
    for said in recording.diary.said:
        if said.at_once:
            continue
        if said.after_interrupt:
            out.lips_after_interrupt.append(_again(moments, opening, said.sent, usual))
            continue
        rest = measures.at_rest(moments, opening, said.sent, out.usual)
        if rest is None:
            out.restless += 1
            continue
        took = measures.onset(moments, opening, said.sent, rest)
        out.unanswered += math.isnan(took)
        out.lips.append(measures.SEARCH_SECONDS if math.isnan(took) else took)
    for steered in recording.diary.steered:
        if steered.what == "head":  # a turning head changes what the lips' gap looks like
            continue
        rest = measures.at_rest(moments, opening, steered.sent, out.usual)
        if rest is not None:
            took = measures.onset(moments, opening, steered.sent, rest)
            out.sham.append(took <= _SHAM_SECONDS)


def _again(moments: Array, opening: Array, sent: float, rest: Rest) -> float:
    """From sending to the first opening after the lips have come to rest; NaN where they do not."""
    closed = np.flatnonzero((moments > sent) & (opening <= rest.level + rest.least))
    if not len(closed):
        return math.nan
    took = measures.onset(moments[closed[0] :], opening[closed[0] :], moments[closed[0]], rest)
    return took + float(moments[closed[0]]) - sent


def _correlate(out: Findings, plain: list[Said], moments: Array, opening: Array) -> None:
    """Loudness as it was sent against the opening as it arrived."""
    pairs = []
    for said in plain:
        begin, end = said.sent - 0.6, said.sent + len(said.samples) / SAMPLE_RATE + 0.9
        seen = measures.on_grid(moments, opening, begin, end)
        if np.isfinite(seen).mean() < 0.95:  # not looked at as a whole
            continue
        spoken = measures.loudness_on_grid(said.samples, SAMPLE_RATE, said.sent, begin, end)
        pairs.append((spoken, seen))
    own = [measures.lag(spoken, seen, measures.GRID).seconds for spoken, seen in pairs]
    out.lags = [seconds for seconds in own if math.isfinite(seconds)]
    out.lag = _joined(pairs)
    others = pairs[1:] + pairs[:1]
    out.shuffled = _joined(
        [(spoken, seen) for (spoken, _), (_, seen) in zip(pairs, others, strict=True)]
    )


def _joined(pairs: list[tuple[Array, Array]]) -> Lag:
    """The lag over all pairs, none of which reaches into the next."""
    if not pairs:
        return measures.NO_LAG
    apart = np.full(round(2 * measures.REACH_SECONDS / measures.GRID), np.nan)
    leader, follower = [], []
    for spoken, seen in pairs:
        length = min(len(spoken), len(seen))
        leader += [spoken[:length], apart]
        follower += [seen[:length], apart]
    return measures.lag(np.concatenate(leader), np.concatenate(follower), measures.GRID)


def _listen(out: Findings, recording: Recording, plain: list[Said]) -> None:
    sound = np.concatenate(
        [np.zeros(0, "<i2"), *(np.frombuffer(piece.sound, "<i2") for piece in recording.pieces)]
    )
    ends = np.cumsum([len(piece.sound) // 2 for piece in recording.pieces])
    arrivals = np.array([piece.arrival for piece in recording.pieces])
    for said in plain:
        so_far = int(np.searchsorted(arrivals, said.sent))
        low = int(ends[so_far - 1]) if so_far else 0
        heard = hear(sound, said.samples, low)
        delay = math.nan
        if heard[0] is not None:
            delay = float(arrivals[np.searchsorted(ends, heard[0], side="right")]) - said.sent
        target = out.heard_after_interrupt if said.after_interrupt else out.heard
        target.append(Heard(delay, heard[1], heard[2]))


def hear(
    sound: NDArray[np.int16], said: NDArray[np.int16], low: int
) -> tuple[int | None, float, float]:
    """Find an utterance in what came back, wherever silence parts it.

    :param low: the first sample at which it may begin.
    :return: where it begins (None: nowhere), seconds of silence inserted, seconds lost.
    """
    begin = measures.find(sound, said[:_PATTERN], low, low + 2 * SAMPLE_RATE)
    if begin is None:
        return None, 0.0, len(said) / SAMPLE_RATE
    at, place, inserted, lost = 0, begin, 0, 0
    while at < len(said):
        same = _same(said[at:], sound[place:])
        at, place = at + same, place + same
        wanted = said[at : at + _PATTERN]
        if not len(wanted):
            break
        found = measures.find(sound, wanted, place, place + SAMPLE_RATE)
        if found is not None and _same(wanted, sound[found:]) == len(wanted):
            inserted += found - place
            place = found
        elif np.abs(wanted).max() <= _AUDIBLE:  # nobody would miss it
            at, place = at + len(wanted), place + len(wanted)
        else:
            lost += len(wanted)
            at += len(wanted)
    return begin, inserted / SAMPLE_RATE, lost / SAMPLE_RATE


def _same(first: NDArray[np.int16], second: NDArray[np.int16]) -> int:
    """How many samples agree from the beginning on."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(np.abs(first[:length].astype(int) - second[:length]) > _SAME)
    return int(differ[0]) if len(differ) else length


def _steering(out: Findings, recording: Recording, moments: Array, curves: Curves) -> None:
    changes = recording.diary.steered
    for change, following in itertools.pairwise(changes):
        if not change.what:
            continue
        curve = curves.gaze if change.what == "gaze" else curves.yaw
        step = measures.step(moments, curve, change.sent, min(following.sent, change.sent + 2.0))
        if step is None or step.way * change.degrees < 0 or math.isnan(step.first + step.ninety):
            out.unmoved += 1
        else:
            (out.gaze if change.what == "gaze" else out.head).append(step)


def _interruptions(
    out: Findings, recording: Recording, moments: Array, opening: Array, rest: Rest
) -> None:
    arrivals = np.array([piece.arrival for piece in recording.pieces])
    audible = np.array(
        [
            bool(piece.sound) and int(np.abs(np.frombuffer(piece.sound, "<i2")).max()) > _AUDIBLE
            for piece in recording.pieces
        ],
        bool,
    )
    for cut in recording.diary.interrupted:
        if cut.talks_on:
            continue
        apart = opening > rest.level + rest.least
        for times, active, settling in (
            (arrivals, audible, out.sound_rest),
            (moments, apart, out.lips_rest),
        ):
            # Where nothing was going on, nothing came to rest.
            near = (times > cut.sent - _GOING_ON_SECONDS) & (times < cut.sent + _GOING_ON_SECONDS)
            if active[near].any():
                until = cut.sent + _SETTLE_SECONDS
                settling.append(measures.settled(times, active, cut.sent, until))


def _in_sync(recording: Recording, opening: Array) -> tuple[Lag, Lag]:
    """Lips against sound in what came, by presentation time: in the first and the last two minutes,
    or in both halves of a shorter session."""
    sound = np.frombuffer(b"".join(piece.sound for piece in recording.pieces), "<i2")
    indices, rate = recording.indices, recording.frame_rate
    if not len(indices):
        return measures.NO_LAG, measures.NO_LAG
    count = int(indices[-1]) + 1
    seen = np.full(count, np.nan)
    seen[indices] = opening
    edges = np.arange(count + 1) * SAMPLE_RATE // rate
    squares = np.concatenate([[0.0], np.cumsum(np.square(sound.astype(np.float64)))])
    edges = np.minimum(edges, len(sound))
    level = np.sqrt(np.diff(squares[edges]) / np.maximum(np.diff(edges), 1))
    part = min(round(_ALL_SAID_SECONDS * rate), count // 2)
    return (
        measures.lag(level[:part], seen[:part], 1 / rate),
        measures.lag(level[-part:], seen[-part:], 1 / rate),
    )
