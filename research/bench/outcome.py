"""What a live bench has gathered, and the table that is made of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from talkingface.contract.rates import SAMPLE_RATE
from talkingface_research.bench import measures
from talkingface_research.bench.findings import Findings
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
_OPENED, _LIPS, _RESTS, _REFUSED = (Bar(high=ms) for ms in (500, 250, 300, 100))
_DRIFTS = Bar(low=-20, high=20)
_NONE = Bar(high=0)
_GROWS = Bar(high=5)
LATE_SHARE = 0.01  # of the pictures: with more of them late a session is not held
_FIRST_SECOND = 1.0  # pictures of which may be late


@dataclass(frozen=True)
class Load:
    """One step of a ramp: so many sessions at once for a while."""

    sessions: int
    pictures: int  # that came
    late: int  # that were left out or came more than half a second later than usual
    gap_p95: float  # seconds

    @property
    def share(self) -> float:
        """Of the pictures that should have come, those that were late."""
        return self.late / max(self.pictures + self.late, 1)


@dataclass
class Outcome:
    """Everything that was measured; times are in seconds."""

    frame_rate: int
    opens: int = 0  # that were asked for
    seconds: float = 0.0  # of the soak
    # From open to first picture.
    with_handle: list[float] = field(default_factory=list)
    with_image: list[float] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    findings: list[Findings] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    ramp_end: str = ""
    memory: list[Sample] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)  # seconds by service
    client_cpu: float = 0.0


def tell(outcome: Outcome, about: Mapping[str, Any]) -> Report:
    """The table."""
    report = Report(TITLES, dict(about))
    report.add("opening", _openings(outcome))
    report.add("pictures", _pictures(outcome))
    if outcome.findings:
        report.add("sound and lips", _lips(outcome.findings))
        report.add("steering and interruption", _steering(outcome.findings))
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
    what = "first picture after open"
    rows = []
    if outcome.opens:
        rows = [
            _spread(f"{what}, portrait by handle, prepared", outcome.with_handle, _OPENED),
            _spread(f"{what}, portrait as file, prepared before", outcome.with_image, _OPENED),
        ]
    first = [float(r.arrivals[0]) for r in outcome.recordings if len(r.indices)]
    return [*rows, _spread(f"{what}, the measured sessions", first)]


def _pictures(outcome: Outcome) -> list[Row]:
    recordings = [r for r in outcome.recordings if len(r.indices)]
    rate = outcome.frame_rate
    # A ramp goes on until pictures are late.
    none = None if outcome.loads else _NONE
    late = sum(measures.missing(r.indices, rate, _FIRST_SECOND) for r in recordings)
    told_at_once = sum(r.told_late for r in recordings)
    told = sum(r.summary.dropped_frames for r in recordings if r.summary is not None)
    errors = Counter(r.error.reason for r in outcome.recordings if r.error is not None)
    ended = ", ".join(f"{n} x {reason}" for reason, n in errors.items())
    broken = sum(one.broken for one in outcome.findings)
    gaps = np.concatenate([np.zeros(0), *(measures.gaps(r.arrivals) for r in recordings)])
    lag = np.concatenate(
        [np.zeros(0), *((r.arrivals - r.presented)[r.presented >= 1] for r in recordings)]
    )
    return [
        _figure("pictures received", sum(len(r.indices) for r in recordings)),
        _figure("late frames after the first second, as missing here", late, "", none),
        _figure("late frames, as told in the summary", told, note=f"{told_at_once} in events"),
        *(
            [_figure("pictures that cannot be decoded", broken, "", _NONE)]
            if outcome.findings
            else []
        ),
        _figure("sessions ended by an error", sum(errors.values()), "", none, 0, ended),
        _spread("from picture to picture", gaps.tolist()),
        _spread("arrival minus presentation, from the call's beginning", lag.tolist()),
    ]


def _all(findings: Sequence[Findings], name: str) -> list[Any]:
    return [value for one in findings for value in getattr(one, name)]


def _lips(findings: Sequence[Findings]) -> list[Row]:
    lips, shams = _all(findings, "lips"), _all(findings, "sham")
    left_out = sum(one.restless for one in findings)
    note = f"figure: p95; {left_out} more left out, the lips were not at rest"
    if unanswered := sum(one.unanswered for one in findings):
        note += f"; {unanswered} without an answer count as 1000 ms"
    again = _all(findings, "lips_after_interrupt")
    closed = [value for value in again if math.isfinite(value)]
    heard = _all(findings, "heard")
    delays = [one.delay for one in heard if math.isfinite(one.delay)]
    at_once = [one.delay for one in _all(findings, "heard_after_interrupt")]
    rows = [
        _spread("sound sent to lips seen", lips, _LIPS, note=note),
        Row(
            "the same detector where nothing was said: found within 400 ms",
            {JUDGED: 100 * float(np.mean(shams)) if shams else math.nan, "n": float(len(shams))},
            "%",
        ),
        _spread("lag by correlation, each utterance", _all(findings, "lags"), judged="p50"),
    ]
    for i, one in enumerate(findings):
        where = f" (session {i + 1})" if len(findings) > 1 else ""
        rows += [
            _figure(f"lag by correlation, all utterances{where}", 1000 * one.lag.seconds, "ms"),
            Row(
                f"correlation at it; baseline: with the next utterance's lips{where}",
                {JUDGED: one.lag.correlation, "baseline": one.shuffled.correlation},
            ),
        ]
    inserted = [one.inserted for one in heard]
    note = f"in {sum(value > 0 for value in inserted)} utterances"
    lost = 1000 * sum(one.lost for one in heard)
    return [
        *rows,
        _spread("sound sent to sound back", delays),
        _figure("silence put into utterances", 1000 * sum(inserted), "ms", None, 0, note),
        _figure("sound lost of utterances", lost, "ms", _NONE),
        _spread("after an interruption: sound sent to sound back", _finite(at_once)),
        _spread(
            "after an interruption: sound sent to lips seen",
            closed,
            note=f"figure: p95; the lips had not closed before {len(again) - len(closed)} more",
        ),
    ]


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _steering(findings: Sequence[Findings]) -> list[Row]:
    rows = []
    for name, what in (("gaze", "gaze aside"), ("head", "head turned")):
        steps = _all(findings, name)
        rows += [
            _spread(f"{what}: sent to first movement", [step.first for step in steps]),
            _spread(f"{what}: sent to 90 % of the way", [step.ninety for step in steps]),
        ]
    unmoved = sum(one.unmoved for one in findings)
    rows.append(_figure("changes without an answer, or to the wrong side", unmoved, "", _NONE))
    for name, what in (("lips_rest", "lips at rest"), ("sound_rest", "sound silent")):
        values = [1.4 if math.isnan(v) else v for v in _all(findings, name)]
        rows.append(_spread(f"interrupt sent to {what}", values, _RESTS))
    return rows


def _drift(outcome: Outcome) -> list[Row]:
    rows = []
    for i, recording in enumerate(outcome.recordings):
        if not len(recording.indices):
            continue
        where = f" (session {i + 1})" if len(outcome.recordings) > 1 else ""
        clock = measures.drift(recording.arrivals, recording.presented)
        pieces = recording.pieces
        ahead = 1000 * measures.sound_ahead(
            [piece.number for piece in pieces],
            [len(piece.sound) // 2 for piece in pieces],
            outcome.frame_rate,
            SAMPLE_RATE,
        )
        worst = float(ahead[np.abs(ahead).argmax()])
        bar = None if outcome.loads else _DRIFTS
        rows += [
            _figure(f"arrival against presentation{where}", 1000 * clock, "ms", bar, 1),
            _figure(f"sound against pictures, positions, worst{where}", worst, "ms", bar, 2),
        ]
        if i < len(outcome.findings):
            first, last = outcome.findings[i].in_sync
            note = f"{_lag_text(first)} at the beginning, {_lag_text(last)} at the end"
            change = 1000 * (last.seconds - first.seconds)
            what = f"lips against sound, change of the lag{where}"
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
    told = ", ".join(f"{n} x {reason}" for reason, n in reasons.items())
    return [
        _spread("refusal", refused, _REFUSED, note=f"figure: p95; {told}"),
        _figure("admitted beyond the slots", admitted, "", _NONE),
        _figure("late frames of the admitted before it", before),
        _figure("late frames of the admitted during it", during, "", _NONE),
        _spread("from picture to picture before it", np.concatenate(calm).tolist()),
        _spread("from picture to picture during it", np.concatenate(busy).tolist()),
    ]


def _ramp(outcome: Outcome) -> list[Row]:
    held = max((load.sessions for load in outcome.loads if load.share <= LATE_SHARE), default=0)
    rows = [_figure("sessions held", held, "", None, 0, outcome.ramp_end)]
    return rows + [
        Row(
            f"late pictures with {load.sessions} sessions",
            {JUDGED: 100 * load.share, "n": float(load.pictures + load.late)},
            "%",
            digits=1,
            note=f"picture to picture p95 {1000 * load.gap_p95:.0f} ms",
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


def plain(outcome: Outcome, report: Report) -> dict[str, Any]:
    """All of it for programs: the table, and the samples behind it."""
    return {
        **report.json(),
        "opening": {"handle": outcome.with_handle, "file": outcome.with_image},
        "sessions": [asdict(one) for one in outcome.findings],
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
