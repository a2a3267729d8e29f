"""The table of a live bench."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.analysis import SETTLE_SECONDS, SessionAnalysis
from talkingface_research.bench.measures import Lag
from talkingface_research.bench.outcome import LATE_SHARE, Outcome
from talkingface_research.bench.process_rows import cpu_rows, memory_rows
from talkingface_research.bench.rows import TITLES, figure, spread
from talkingface_research.report import JUDGED, Bar, Report, Row

# Bars of the rows, in ms, dropped frames or %.
_OPENED, _OPENED_BY_FILE, _RESTS, _REFUSED = (Bar(high=ms) for ms in (100, 500, 300, 100))
_LIPS, _LIPS_UNDER_STRESS = Bar(high=250), Bar(high=300)
_DRIFTS = Bar(low=-20, high=20)
_NONE = Bar(high=0)
_FIRST_SECOND = 1.0  # frames of which may be late
# Of the degradation ladder, see RendererService.Render.
LEVELS = {0: "full", 1: "half resolution", 2: "half resolution and half rate"}


def tabulate(outcome: Outcome) -> Report:
    """Make the table of one round."""
    report = Report(TITLES)
    report.add("opening", _openings(outcome))
    report.add("frames", _frames(outcome))
    if outcome.analyses:
        lips = _LIPS_UNDER_STRESS if outcome.stress else _LIPS
        report.add("audio and lips", _lips(outcome.analyses, lips))
        report.add("controls and interruption", _controls(outcome.analyses))
    report.add("drift over the session", _drift(outcome))
    if outcome.refusals:
        report.add("overload", _overload(outcome))
    if outcome.loads:
        report.add("ramp", _ramp(outcome))
    report.add("processes", [*memory_rows(outcome.memory, outcome.seconds), *cpu_rows(outcome)])
    return report


def _openings(outcome: Outcome) -> list[Row]:
    what = "first frame after open"
    rows = []
    if outcome.opens:
        rows = [
            spread(f"{what}, portrait by handle, prepared", outcome.with_handle, _OPENED),
            spread(
                f"{what}, portrait as file, prepared before", outcome.with_image, _OPENED_BY_FILE
            ),
        ]
    first = [float(r.arrivals[0]) for r in outcome.recordings if len(r.indices)]
    return [*rows, spread(f"{what}, the measured sessions", first)]


def _frames(outcome: Outcome) -> list[Row]:
    recordings = [r for r in outcome.recordings if len(r.indices)]
    rate = outcome.frame_rate
    # A ramp goes on until frames are late.
    none = None if outcome.loads else _NONE
    late = sum(measures.missing(r.indices, rate, _FIRST_SECOND) for r in recordings)
    in_events = sum(r.reported_drops for r in recordings)
    reported = sum(r.summary.dropped_frames for r in recordings if r.summary is not None)
    errors = Counter(r.error.reason for r in outcome.recordings if r.error is not None)
    ended = ", ".join(f"{n} x {reason}" for reason, n in errors.items())
    broken = sum(one.broken for one in outcome.analyses)
    gaps = np.concatenate([np.zeros(0), *(measures.gaps(r.arrivals) for r in recordings)])
    lags = [(r.arrivals - r.presented)[r.presented >= _FIRST_SECOND] for r in recordings]
    lag = np.concatenate([np.zeros(0), *lags])
    behind = np.concatenate([np.zeros(0), *(measures.lateness(one) for one in lags)])
    return [
        figure("frames received", sum(len(r.indices) for r in recordings), higher_is_better=True),
        figure("late frames after the first second, as missing here", late, "", none),
        figure("late frames, as reported in the summary", reported, note=f"{in_events} in events"),
        *([figure("frames that cannot be decoded", broken, "", _NONE)] if outcome.analyses else []),
        figure("sessions ended by an error", sum(errors.values()), "", none, 0, ended),
        spread("from frame to frame", gaps.tolist()),
        spread("arrival minus presentation, from the call's beginning", lag.tolist()),
        spread("lateness: later than the session's median", behind.tolist(), judged="p99"),
        *_levels(outcome),
    ]


def _levels(outcome: Outcome) -> list[Row]:
    """Share of time on each level of the degradation ladder, over all sessions."""
    seconds: Counter[int] = Counter()
    for recording in outcome.recordings:
        if len(recording.indices):
            seconds.update(measures.time_by_level(recording.level_changes, recording.duration))
    whole = sum(seconds.values())
    changes = sum(len(recording.level_changes) for recording in outcome.recordings)
    return [
        *(
            figure(
                f"time on level {level}, {LEVELS.get(level, 'unknown')}",
                100 * seconds[level] / whole if whole else math.nan,
                "%",
                digits=1,
                higher_is_better=level == 0,
            )
            for level in sorted({0, *seconds})
        ),
        figure("changes of level", changes),
    ]


def _all(analyses: Sequence[SessionAnalysis], name: str) -> list[Any]:
    return [value for one in analyses for value in getattr(one, name)]


def _lips(analyses: Sequence[SessionAnalysis], bar: Bar) -> list[Row]:
    lips, false = _all(analyses, "lips"), _all(analyses, "false_onsets")
    left_out = sum(one.not_at_rest for one in analyses)
    note = f"figure: p95; {left_out} more left out, the lips were not at rest"
    if unanswered := sum(one.unanswered for one in analyses):
        note += f"; {unanswered} without a response count as 1000 ms"
    again = _all(analyses, "lips_after_interrupt")
    closed = [value for value in again if math.isfinite(value)]
    returned = _all(analyses, "returned")
    delays = [one.delay for one in returned if math.isfinite(one.delay)]
    at_once = [one.delay for one in _all(analyses, "returned_after_interrupt")]
    rows = [
        spread("audio sent to lips seen", lips, bar, note=note),
        Row(
            "the same detector where nothing was said: found within 400 ms",
            {JUDGED: 100 * float(np.mean(false)) if false else math.nan, "n": float(len(false))},
            "%",
        ),
        spread("lag by correlation, each utterance", _all(analyses, "lags"), judged="p50"),
    ]
    for i, one in enumerate(analyses):
        where = f" (session {i + 1})" if len(analyses) > 1 else ""
        rows += [
            figure(f"lag by correlation, all utterances{where}", 1000 * one.lag.seconds, "ms"),
            Row(
                f"correlation at it; baseline: with the next utterance's lips{where}",
                {JUDGED: one.lag.correlation, "baseline": one.shuffled.correlation},
                higher_is_better=True,
            ),
        ]
    inserted = [one.inserted for one in returned]
    note = f"in {sum(value > 0 for value in inserted)} utterances"
    lost = 1000 * sum(one.lost for one in returned)
    return [
        *rows,
        spread("audio sent to audio back", delays),
        figure("silence inserted into utterances", 1000 * sum(inserted), "ms", None, 0, note),
        figure("audio lost of utterances", lost, "ms", _NONE),
        spread("after an interruption: audio sent to audio back", _finite(at_once)),
        spread(
            "after an interruption: audio sent to lips seen",
            closed,
            note=f"figure: p95; the lips had not closed before {len(again) - len(closed)} more",
        ),
    ]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _controls(analyses: Sequence[SessionAnalysis]) -> list[Row]:
    rows = []
    for name, what in (("gaze", "gaze aside"), ("head", "head turned")):
        steps = _all(analyses, name)
        rows += [
            spread(f"{what}: sent to first movement", [step.first for step in steps]),
            spread(f"{what}: sent to 90 % of the change", [step.ninety for step in steps]),
        ]
    unmoved = sum(one.unmoved for one in analyses)
    rows.append(figure("changes without a response, or in the wrong direction", unmoved, "", _NONE))
    for name, what in (("lips_rest", "lips at rest"), ("audio_rest", "audio silent")):
        values = [SETTLE_SECONDS if math.isnan(v) else v for v in _all(analyses, name)]
        rows.append(spread(f"interrupt sent to {what}", values, _RESTS))
    return rows


def _drift(outcome: Outcome) -> list[Row]:
    rows = []
    for i, recording in enumerate(outcome.recordings):
        if not len(recording.indices):
            continue
        where = f" (session {i + 1})" if len(outcome.recordings) > 1 else ""
        clock = measures.drift(recording.arrivals, recording.presented)
        chunks = recording.chunks
        ahead = 1000 * measures.audio_ahead(
            [chunk.number for chunk in chunks],
            [len(chunk.audio) // 2 for chunk in chunks],
            outcome.frame_rate,
            SAMPLE_RATE,
        )
        worst = float(ahead[np.abs(ahead).argmax()])
        bar = None if outcome.loads else _DRIFTS
        rows += [
            figure(f"arrival against presentation{where}", 1000 * clock, "ms", bar, 1),
            figure(f"audio against frames, positions, worst{where}", worst, "ms", bar, 2),
        ]
        if i < len(outcome.analyses):
            first, last = outcome.analyses[i].in_sync
            note = f"{_lag_text(first)} at the beginning, {_lag_text(last)} at the end"
            change = 1000 * (last.seconds - first.seconds)
            what = f"lips against audio, change of the lag{where}"
            rows.append(figure(what, change, "ms", _DRIFTS, 1, note))
    return rows


def _lag_text(lag: Lag) -> str:
    return f"{1000 * lag.seconds:.0f} ms (r {lag.correlation:.2f})"


def _overload(outcome: Outcome) -> list[Row]:
    refused = [one.seconds for one in outcome.refusals if one.reason]
    reasons = Counter(one.reason for one in outcome.refusals if one.reason)
    admitted = len(outcome.refusals) - len(refused)
    begin = min(one.at for one in outcome.refusals)
    before = during = 0
    calm, busy = [np.zeros(0)], [np.zeros(0)]
    for recording in outcome.recordings:
        if not len(recording.indices):
            continue
        arrivals = recording.arrivals + recording.opened
        first = int(np.searchsorted(arrivals, begin))
        rate = outcome.frame_rate
        whole = measures.missing(recording.indices, rate, _FIRST_SECOND)
        if first < len(arrivals):
            late = measures.missing(recording.indices, rate, recording.indices[first] / rate)
            during, before = during + late, before + whole - late
        calm.append(np.diff(arrivals[:first][recording.presented[:first] >= _FIRST_SECOND]))
        busy.append(np.diff(arrivals[max(first - 1, 0) :]))
    reported = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
    return [
        spread("refusal", refused, _REFUSED, note=f"figure: p95; {reported}"),
        figure("admitted beyond the slots", admitted, "", _NONE),
        figure("late frames of the admitted before it", before),
        figure("late frames of the admitted during it", during, "", _NONE),
        spread("from frame to frame before it", np.concatenate(calm).tolist()),
        spread("from frame to frame during it", np.concatenate(busy).tolist()),
    ]


def _ramp(outcome: Outcome) -> list[Row]:
    held = max((load.sessions for load in outcome.loads if load.share <= LATE_SHARE), default=0)
    rows = [figure("sessions held", held, note=outcome.ramp_end, higher_is_better=True)]
    return rows + [
        Row(
            f"late frames with {load.sessions} sessions",
            {JUDGED: 100 * load.share, "n": float(load.frames + load.late)},
            "%",
            digits=1,
            note=f"frame to frame p95 {1000 * load.gap_p95:.0f} ms",
        )
        for load in outcome.loads
    ]
