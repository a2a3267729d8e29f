"""Analysis of a recorded live session: every utterance, control change and interruption with its
response, as the client saw it.

**Audio to lips** is the time from sending the first 20 ms of an utterance to the arrival of the
first of two frames in a row whose lips are further open than at rest before it: by 15 % of their
usual opening in this session, or by five standard deviations of the half second before, whichever
is more. Utterances before which the lips were not at rest are left out and counted; one without a
response within a second counts as one second. The same detector, applied at moments when nothing
was said, gives the rate of false onsets.

It depends on the first phones (lips part late for "m"). Therefore there is also the lag at which
loudness, by the time of sending, and opening, by that of arrival, correlate best over all
utterances. The same with the opening of the next utterance is the baseline of chance.
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
from talkingface_research.bench.conversation import Utterance
from talkingface_research.bench.measures import Lag, Rest, Step
from talkingface_research.bench.recording import Recording

if TYPE_CHECKING:
    from talkingface_research.bench.frame_measurements import Curves

Array = NDArray[np.float64]

_AUDIBLE = 100  # of 32767, -50 dB
_PATTERN = SAMPLE_RATE // 100  # samples by which audio is found again
_SAME = 3  # of 32767: samples may differ by rounding
_WHOLE_SECONDS = 120.0  # at both ends of the session, where whole utterances are measured
SETTLE_SECONDS = 1.4  # after an interruption, in which lips and audio must come to rest
_ACTIVE_SECONDS = 0.3  # before or after an interruption, in which there must be lips or audio
_FALSE_ONSET_SECONDS = 0.4


@dataclass(frozen=True)
class ReturnedUtterance:
    """An utterance in the audio that came back; in seconds."""

    delay: float  # from sending its first chunk to the arrival of its first sample; NaN: never
    inserted: float  # silence between samples that followed one another when sent
    lost: float  # of it that did not come back


@dataclass
class SessionAnalysis:
    """All samples of one session, in seconds unless stated otherwise."""

    lips: list[float] = field(default_factory=list)
    not_at_rest: int = 0  # utterances left out because the lips moved before them
    unanswered: int = 0
    # Whether an onset was detected, at moments when nothing was said.
    false_onsets: list[bool] = field(default_factory=list)
    lips_after_interrupt: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # of each utterance by correlation
    lag: Lag = measures.NO_LAG
    shuffled: Lag = measures.NO_LAG
    returned: list[ReturnedUtterance] = field(default_factory=list)
    returned_after_interrupt: list[ReturnedUtterance] = field(default_factory=list)
    gaze: list[Step] = field(default_factory=list)
    head: list[Step] = field(default_factory=list)
    unmoved: int = 0  # changes without a response, or with one in the wrong direction
    lips_rest: list[float] = field(default_factory=list)  # from an interruption
    audio_rest: list[float] = field(default_factory=list)
    # Lips against audio in what came, by presentation time: first and last part.
    in_sync: tuple[Lag, Lag] = (measures.NO_LAG, measures.NO_LAG)
    broken: int = 0  # frames that could not be decoded
    usual: float = math.nan  # opening above rest in speech, face widths


def frames_to_measure(recording: Recording) -> NDArray[np.bool_]:
    """Which frames must be measured: those around all acts of the client, (n,)."""
    moments = _moments(recording)
    out = np.zeros(len(moments), bool)

    def around(begin: float, end: float) -> None:
        out[(moments >= begin) & (moments <= end)] = True

    begin, end = (moments[0], moments[-1]) if len(moments) else (0.0, 0.0)
    trace = recording.trace
    for utterance in trace.utterances:
        seconds = len(utterance.samples) / SAMPLE_RATE
        close = min(utterance.sent - begin, end - utterance.sent) < _WHOLE_SECONDS
        if not utterance.at_once:
            around(utterance.sent - 0.6, utterance.sent + (seconds + 0.9 if close else 1.1))
    for interruption in trace.interruptions:
        around(interruption.sent - 0.4, interruption.sent + SETTLE_SECONDS)
    for change in trace.control_changes:
        around(change.sent - 0.6, change.sent + (2.1 if change.what else 0.5))
    return out


def _moments(recording: Recording) -> Array:
    return np.array([chunk.arrival for chunk in recording.with_frames])


def analyse(recording: Recording, curves: Curves) -> SessionAnalysis:
    """Match all acts of the client with the responses in the recording.

    :param curves: of the frames of `recording.with_frames`
    """
    out = SessionAnalysis(broken=curves.broken)
    moments = _moments(recording)
    plain = [one for one in recording.trace.utterances if not one.at_once]
    rest = _usual_rest(moments, curves.opening, plain)
    out.usual = rest.least / measures.ONSET_SHARE
    _onsets(out, recording, moments, curves.opening, rest)
    _correlate(out, [one for one in plain if not one.after_interrupt], moments, curves.opening)
    _returned_audio(out, recording, plain)
    _controls(out, recording, moments, curves)
    _interruptions(out, recording, moments, curves.opening, rest)
    out.in_sync = _in_sync(recording, curves.opening)
    return out


def _usual_rest(moments: Array, opening: Array, plain: list[Utterance]) -> Rest:
    """The lips' usual opening at rest, and the least rise from it that counts."""
    before, spoken = [], []
    for utterance in plain:
        if not utterance.after_interrupt:
            before.append(
                opening[
                    (moments > utterance.sent - measures.REST_SECONDS) & (moments <= utterance.sent)
                ]
            )
        end = utterance.sent + min(len(utterance.samples) / SAMPLE_RATE + 0.2, 1.1)
        spoken.append(opening[(moments > utterance.sent + 0.3) & (moments <= end)])
    silent = np.concatenate([*before, np.full(1, np.nan)])
    loud = np.concatenate([*spoken, np.full(1, np.nan)])
    if not np.isfinite(silent).any() or not np.isfinite(loud).any():
        return Rest(math.nan, math.nan)
    level = float(np.nanmedian(silent))
    usual = max(float(np.nanpercentile(loud, 90)) - level, 0.0)
    return Rest(level, measures.ONSET_SHARE * usual)


def _onsets(
    out: SessionAnalysis, recording: Recording, moments: Array, opening: Array, usual: Rest
) -> None:
    for utterance in recording.trace.utterances:
        if utterance.at_once:
            continue
        if utterance.after_interrupt:
            out.lips_after_interrupt.append(
                _onset_after_rest(moments, opening, utterance.sent, usual)
            )
            continue
        rest = measures.at_rest(moments, opening, utterance.sent, out.usual)
        if rest is None:
            out.not_at_rest += 1
            continue
        took = measures.onset(moments, opening, utterance.sent, rest)
        out.unanswered += math.isnan(took)
        out.lips.append(measures.SEARCH_SECONDS if math.isnan(took) else took)
    for change in recording.trace.control_changes:
        if change.what == "head":  # a turning head changes the visible gap of the lips
            continue
        rest = measures.at_rest(moments, opening, change.sent, out.usual)
        if rest is not None:
            took = measures.onset(moments, opening, change.sent, rest)
            out.false_onsets.append(took <= _FALSE_ONSET_SECONDS)


def _onset_after_rest(moments: Array, opening: Array, sent: float, rest: Rest) -> float:
    """Time from sending to the first opening after the lips have come to rest; NaN where they do
    not."""
    closed = np.flatnonzero((moments > sent) & (opening <= rest.level + rest.least))
    if not len(closed):
        return math.nan
    took = measures.onset(moments[closed[0] :], opening[closed[0] :], moments[closed[0]], rest)
    return took + float(moments[closed[0]]) - sent


def _correlate(
    out: SessionAnalysis, plain: list[Utterance], moments: Array, opening: Array
) -> None:
    """Correlate loudness by the time of sending with the opening by that of arrival."""
    pairs = []
    for utterance in plain:
        begin, end = (
            utterance.sent - 0.6,
            utterance.sent + len(utterance.samples) / SAMPLE_RATE + 0.9,
        )
        seen = measures.on_grid(moments, opening, begin, end)
        if np.isfinite(seen).mean() < 0.95:  # not measured as a whole
            continue
        spoken = measures.loudness_on_grid(
            utterance.samples, SAMPLE_RATE, utterance.sent, begin, end
        )
        pairs.append((spoken, seen))
    own = [measures.lag(spoken, seen, measures.GRID).seconds for spoken, seen in pairs]
    out.lags = [seconds for seconds in own if math.isfinite(seconds)]
    out.lag = _joined(pairs)
    others = pairs[1:] + pairs[:1]
    out.shuffled = _joined(
        [(spoken, seen) for (spoken, _), (_, seen) in zip(pairs, others, strict=True)]
    )


def _joined(pairs: list[tuple[Array, Array]]) -> Lag:
    """The lag over all pairs, kept apart so that none reaches into the next."""
    if not pairs:
        return measures.NO_LAG
    apart = np.full(round(2 * measures.REACH_SECONDS / measures.GRID), np.nan)
    leader, follower = [], []
    for spoken, seen in pairs:
        length = min(len(spoken), len(seen))
        leader += [spoken[:length], apart]
        follower += [seen[:length], apart]
    return measures.lag(np.concatenate(leader), np.concatenate(follower), measures.GRID)


def _returned_audio(out: SessionAnalysis, recording: Recording, plain: list[Utterance]) -> None:
    audio = np.concatenate(
        [np.zeros(0, "<i2"), *(np.frombuffer(chunk.audio, "<i2") for chunk in recording.chunks)]
    )
    ends = np.cumsum([len(chunk.audio) // 2 for chunk in recording.chunks])
    arrivals = np.array([chunk.arrival for chunk in recording.chunks])
    for utterance in plain:
        so_far = int(np.searchsorted(arrivals, utterance.sent))
        low = int(ends[so_far - 1]) if so_far else 0
        begin, inserted, lost = find_utterance(audio, utterance.samples, low)
        delay = math.nan
        if begin is not None:
            delay = float(arrivals[np.searchsorted(ends, begin, side="right")]) - utterance.sent
        target = out.returned_after_interrupt if utterance.after_interrupt else out.returned
        target.append(ReturnedUtterance(delay, inserted, lost))


def find_utterance(
    audio: NDArray[np.int16], sent: NDArray[np.int16], low: int
) -> tuple[int | None, float, float]:
    """Find an utterance in the audio that came back, also where silence was inserted into it.

    :param sent: samples of the utterance
    :param low: first sample of `audio` at which it may begin
    :return: sample at which it begins (None: nowhere), seconds of silence inserted, seconds lost
    """
    begin = measures.find(audio, sent[:_PATTERN], low, low + 2 * SAMPLE_RATE)
    if begin is None:
        return None, 0.0, len(sent) / SAMPLE_RATE
    at, position, inserted, lost = 0, begin, 0, 0
    while at < len(sent):
        same = _same(sent[at:], audio[position:])
        at, position = at + same, position + same
        wanted = sent[at : at + _PATTERN]
        if not len(wanted):
            break
        found = measures.find(audio, wanted, position, position + SAMPLE_RATE)
        if found is not None and _same(wanted, audio[found:]) == len(wanted):
            inserted += found - position
            position = found
        elif np.abs(wanted).max() <= _AUDIBLE:  # silence that is lost does not count
            at, position = at + len(wanted), position + len(wanted)
        else:
            lost += len(wanted)
            at += len(wanted)
    return begin, inserted / SAMPLE_RATE, lost / SAMPLE_RATE


def _same(first: NDArray[np.int16], second: NDArray[np.int16]) -> int:
    """Number of samples that agree from the beginning on."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(np.abs(first[:length].astype(int) - second[:length]) > _SAME)
    return int(differ[0]) if len(differ) else length


def _controls(out: SessionAnalysis, recording: Recording, moments: Array, curves: Curves) -> None:
    changes = recording.trace.control_changes
    for change, following in itertools.pairwise(changes):
        if not change.what:
            continue
        curve = curves.gaze if change.what == "gaze" else curves.yaw
        step = measures.step(moments, curve, change.sent, min(following.sent, change.sent + 2.0))
        if step is None or step.change * change.degrees < 0 or math.isnan(step.first + step.ninety):
            out.unmoved += 1
        else:
            (out.gaze if change.what == "gaze" else out.head).append(step)


def _interruptions(
    out: SessionAnalysis, recording: Recording, moments: Array, opening: Array, rest: Rest
) -> None:
    arrivals = np.array([chunk.arrival for chunk in recording.chunks])
    audible = np.array(
        [
            bool(chunk.audio) and int(np.abs(np.frombuffer(chunk.audio, "<i2")).max()) > _AUDIBLE
            for chunk in recording.chunks
        ],
        bool,
    )
    for interruption in recording.trace.interruptions:
        if interruption.talks_on:
            continue
        apart = opening > rest.level + rest.least
        for times, active, settling in (
            (arrivals, audible, out.audio_rest),
            (moments, apart, out.lips_rest),
        ):
            # Nothing comes to rest where nothing was active.
            begin, end = interruption.sent - _ACTIVE_SECONDS, interruption.sent + _ACTIVE_SECONDS
            near = (times > begin) & (times < end)
            if active[near].any():
                until = interruption.sent + SETTLE_SECONDS
                settling.append(measures.settled(times, active, interruption.sent, until))


def _in_sync(recording: Recording, opening: Array) -> tuple[Lag, Lag]:
    """Lag of the lips behind the audio by presentation time, in the first and the last two minutes,
    or in both halves of a shorter session."""
    audio = np.frombuffer(b"".join(chunk.audio for chunk in recording.chunks), "<i2")
    indices, rate = recording.indices, recording.frame_rate
    if not len(indices):
        return measures.NO_LAG, measures.NO_LAG
    count = int(indices[-1]) + 1
    seen = np.full(count, np.nan)
    seen[indices] = opening
    edges = np.arange(count + 1) * SAMPLE_RATE // rate
    squares = np.concatenate([[0.0], np.cumsum(np.square(audio.astype(np.float64)))])
    edges = np.minimum(edges, len(audio))
    level = np.sqrt(np.diff(squares[edges]) / np.maximum(np.diff(edges), 1))
    part = min(round(_WHOLE_SECONDS * rate), count // 2)
    return (
        measures.lag(level[:part], seen[:part], 1 / rate),
        measures.lag(level[-part:], seen[-part:], 1 / rate),
    )
