"""The results of a live bench, and their table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.analysis import SETTLE_SECONDS, SessionAnalysis
from talkingface_research.bench.measures import Lag
from talkingface_research.bench.processes import Sample
from talkingface_research.bench.recording import Recording, Refusal
from talkingface_research.report import JUDGED, Bar, Report, Row

TITLES = {
    JUDGED: "figure",
    "p50": "p50",
    "p95": "p95",
    "p99": "p99",
    "max": "max",
    "n": "of",
    "baseline": "baseline",
}
# Bars of the rows, in ms, dropped frames or %.
_OPENED, _LIPS, _RESTS, _REFUSED = (Bar(high=ms) for ms in (500, 250, 300, 100))
_DRIFTS = Bar(low=-20, high=20)
_NONE = Bar(high=0)
_GROWS = Bar(high=5)
LATE_SHARE = 0.01  # of the frames: a load with more late ones is too much
_FIRST_SECOND = 1.0  # frames of which may be late


@dataclass(frozen=True)
class Load:
    """One step of a ramp: a number of sessions side by side for a while."""

    sessions: int
    frames: int  # that came in time
    late: int  # that were dropped or came more than half a second later than usual
    gap_p95: float  # seconds

    @property
    def share(self) -> float:
        """Share of late frames among those that should have come."""
        return self.late / max(self.frames + self.late, 1)


@dataclass
class Outcome:
    """Everything that was measured; times are in seconds."""

    frame_rate: int
    opens: int = 0  # number asked for
    seconds: float = 0.0  # of the soak
    # Seconds from opening to the first frame.
    with_handle: list[float] = field(default_factory=list)
    with_image: list[float] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    analyses: list[SessionAnalysis] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    ramp_end: str = ""
    memory: list[Sample] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)  # seconds by service
    client_cpu: float = 0.0


def tabulate(outcome: Outcome, about: Mapping[str, Any]) -> Report:
    """Make the table."""
    report = Report(TITLES, dict(about))
    report.add("opening", _openings(outcome))
    report.add("frames", _frames(outcome))
    if outcome.analyses:
        report.add("audio and lips", _lips(outcome.analyses))
        report.add("controls and interruption", _controls(outcome.analyses))
    report.add("drift over the session", _drift(outcome))
    if outcome.refusals:
        report.add("overload", _overload(outcome))
    if outcome.loads:
        report.add("ramp", _ramp(outcome))
    report.add("processes", _processes(outcome))
    return report


def _spread(
    what: str,
    seconds: Sequence[float],
    bar: Bar | None = None,
    baseline: float | None = None,
    note: str = "",
    judged: str = "p95",
) -> Row:
    """A row of milliseconds; the bar judges one of the percentiles."""
    values = {"n": float(len(seconds))}
    if len(seconds):
        ordered = 1000 * np.asarray(seconds, float)
        values |= {f"p{q}": float(np.percentile(ordered, q)) for q in (50, 95, 99)}
        values["max"] = float(ordered.max())
    values[JUDGED] = values.get(judged, math.nan)
    if baseline is not None:
        values["baseline"] = baseline
    return Row(what, values, "ms", bar, 0, note or f"figure: {judged}")


def _figure(
    what: str, value: float, unit: str = "", bar: Bar | None = None, digits: int = 0, note: str = ""
) -> Row:
    return Row(what, {JUDGED: value}, unit, bar, digits, note)


def _openings(outcome: Outcome) -> list[Row]:
    what = "first frame after open"
    rows = []
    if outcome.opens:
        rows = [
            _spread(f"{what}, portrait by handle, prepared", outcome.with_handle, _OPENED),
            _spread(f"{what}, portrait as file, prepared before", outcome.with_image, _OPENED),
        ]
    first = [float(r.arrivals[0]) for r in outcome.recordings if len(r.indices)]
    return [*rows, _spread(f"{what}, the measured sessions", first)]


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
    lag = np.concatenate(
        [np.zeros(0), *((r.arrivals - r.presented)[r.presented >= 1] for r in recordings)]
    )
    return [
        _figure("frames received", sum(len(r.indices) for r in recordings)),
        _figure("late frames after the first second, as missing here", late, "", none),
        _figure("late frames, as reported in the summary", reported, note=f"{in_events} in events"),
        *(
            [_figure("frames that cannot be decoded", broken, "", _NONE)]
            if outcome.analyses
            else []
        ),
        _figure("sessions ended by an error", sum(errors.values()), "", none, 0, ended),
        _spread("from frame to frame", gaps.tolist()),
        _spread("arrival minus presentation, from the call's beginning", lag.tolist()),
    ]


def _all(analyses: Sequence[SessionAnalysis], name: str) -> list[Any]:
    return [value for one in analyses for value in getattr(one, name)]


def _lips(analyses: Sequence[SessionAnalysis]) -> list[Row]:
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
        _spread("audio sent to lips seen", lips, _LIPS, note=note),
        Row(
            "the same detector where nothing was said: found within 400 ms",
            {JUDGED: 100 * float(np.mean(false)) if false else math.nan, "n": float(len(false))},
            "%",
        ),
        _spread("lag by correlation, each utterance", _all(analyses, "lags"), judged="p50"),
    ]
    for i, one in enumerate(analyses):
        where = f" (session {i + 1})" if len(analyses) > 1 else ""
        rows += [
            _figure(f"lag by correlation, all utterances{where}", 1000 * one.lag.seconds, "ms"),
            Row(
                f"correlation at it; baseline: with the next utterance's lips{where}",
                {JUDGED: one.lag.correlation, "baseline": one.shuffled.correlation},
            ),
        ]
    inserted = [one.inserted for one in returned]
    note = f"in {sum(value > 0 for value in inserted)} utterances"
    lost = 1000 * sum(one.lost for one in returned)
    return [
        *rows,
        _spread("audio sent to audio back", delays),
        _figure("silence inserted into utterances", 1000 * sum(inserted), "ms", None, 0, note),
        _figure("audio lost of utterances", lost, "ms", _NONE),
        _spread("after an interruption: audio sent to audio back", _finite(at_once)),
        _spread(
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
            _spread(f"{what}: sent to first movement", [step.first for step in steps]),
            _spread(f"{what}: sent to 90 % of the change", [step.ninety for step in steps]),
        ]
    unmoved = sum(one.unmoved for one in analyses)
    rows.append(
        _figure("changes without a response, or in the wrong direction", unmoved, "", _NONE)
    )
    for name, what in (("lips_rest", "lips at rest"), ("audio_rest", "audio silent")):
        values = [SETTLE_SECONDS if math.isnan(v) else v for v in _all(analyses, name)]
        rows.append(_spread(f"interrupt sent to {what}", values, _RESTS))
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
            _figure(f"arrival against presentation{where}", 1000 * clock, "ms", bar, 1),
            _figure(f"audio against frames, positions, worst{where}", worst, "ms", bar, 2),
        ]
        if i < len(outcome.analyses):
            first, last = outcome.analyses[i].in_sync
            note = f"{_lag_text(first)} at the beginning, {_lag_text(last)} at the end"
            change = 1000 * (last.seconds - first.seconds)
            what = f"lips against audio, change of the lag{where}"
            rows.append(_figure(what, change, "ms", _DRIFTS, 1, note))
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
        _spread("refusal", refused, _REFUSED, note=f"figure: p95; {reported}"),
        _figure("admitted beyond the slots", admitted, "", _NONE),
        _figure("late frames of the admitted before it", before),
        _figure("late frames of the admitted during it", during, "", _NONE),
        _spread("from frame to frame before it", np.concatenate(calm).tolist()),
        _spread("from frame to frame during it", np.concatenate(busy).tolist()),
    ]


def _ramp(outcome: Outcome) -> list[Row]:
    held = max((load.sessions for load in outcome.loads if load.share <= LATE_SHARE), default=0)
    rows = [_figure("sessions held", held, "", None, 0, outcome.ramp_end)]
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


def _processes(outcome: Outcome) -> list[Row]:
    rows = []
    if outcome.memory:
        last = outcome.memory[-1].sizes
        total = sum(size.pss for size in last.values())
        rows.append(_figure("memory of all processes at the end (PSS)", total, "MiB"))
        largest = max(last, key=lambda key: last[key].rss)
        rows.append(_figure("largest process (RSS)", last[largest].rss, "MiB", note=_name(largest)))
        rows += _growth(outcome)
    for service, seconds in outcome.cpu.items():
        rows.append(_figure(f"CPU of {service}", seconds / outcome.seconds, "cores", None, 3))
    if outcome.cpu:
        rows.append(
            _figure("CPU of all", sum(outcome.cpu.values()) / outcome.seconds, "cores", None, 3)
        )
    share = outcome.client_cpu / max(outcome.seconds, 1e-9)
    return [*rows, _figure("CPU of this client", share, "cores", None, 3)]


def _growth(outcome: Outcome) -> list[Row]:
    what = "growth of memory from the second minute to the last"
    if outcome.seconds < 180:
        return [_figure(what, math.nan, "%", note="needs a session of three minutes")]
    whole = [
        (sample.seconds, {"all": sum(size.pss for size in sample.sizes.values())})
        for sample in outcome.memory
    ]
    single = [
        (sample.seconds, {_name(key): size.rss for key, size in sample.sizes.items()})
        for sample in outcome.memory
    ]
    everything = measures.growth(whole, outcome.seconds).get("all", math.nan)
    each = measures.growth(single, outcome.seconds)
    worst = max(each, key=lambda name: each[name], default="")
    return [
        _figure(f"{what}, whole mesh (PSS)", everything, "%", _GROWS, 1),
        _figure(f"{what}, worst process (RSS)", each.get(worst, math.nan), "%", _GROWS, 1, worst),
    ]


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]}, process {key[1]}"


def as_json(outcome: Outcome, report: Report) -> dict[str, Any]:
    """The table and the samples behind it, for programs."""
    return {
        **report.json(),
        "opening": {"handle": outcome.with_handle, "file": outcome.with_image},
        "sessions": [asdict(one) for one in outcome.analyses],
        "refusals": [one._asdict() for one in outcome.refusals],
        "ramp": [asdict(load) for load in outcome.loads],
        "memory": [
            {
                "seconds": sample.seconds,
                "processes": [
                    {"service": service, "pid": pid, "rss": size.rss, "pss": size.pss}
                    for (service, pid), size in sample.sizes.items()
                ],
            }
            for sample in outcome.memory
        ],
        "cpu_seconds": outcome.cpu,
    }
