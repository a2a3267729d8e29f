"""Rows of memory and CPU of a mesh's processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from talkingface_research.bench import measures
from talkingface_research.bench.outcome import Outcome
from talkingface_research.bench.processes import Program, Sample
from talkingface_research.bench.rows import figure
from talkingface_research.report import Bar, Row

_GROWS = Bar(high=5)  # %
_MEMORY = Bar(high=1.4e9 / 2**20)  # MiB


def memory_rows(samples: Sequence[Sample], seconds: float) -> list[Row]:
    """Memory at the end and its growth; nothing where the mesh is not ours.

    :param seconds: of the session
    """
    if not samples:
        return []
    last = samples[-1].sizes
    largest = max(last, key=lambda key: last[key].rss)
    return [
        figure(
            "memory of all processes at the end (RSS)",
            sum(size.rss for size in last.values()),
            "MiB",
            _MEMORY,
            note=f"{len(last)} processes; shared pages count in each",
        ),
        figure(
            "memory of all processes at the end (PSS)",
            sum(size.pss for size in last.values()),
            "MiB",
        ),
        figure("largest process (RSS)", last[largest].rss, "MiB", note=_name(largest)),
        *_growth(samples, seconds),
    ]


def _growth(samples: Sequence[Sample], seconds: float) -> list[Row]:
    what = "growth of memory from the second minute to the last"
    if seconds < 180:
        return [figure(what, math.nan, "%", note="needs a session of three minutes")]
    whole = [
        (sample.seconds, {"all": sum(size.pss for size in sample.sizes.values())})
        for sample in samples
    ]
    single = [
        (sample.seconds, {_name(key): size.rss for key, size in sample.sizes.items()})
        for sample in samples
    ]
    everything = measures.growth(whole, seconds).get("all", math.nan)
    each = measures.growth(single, seconds)
    worst = max(each, key=lambda name: each[name], default="")
    return [
        figure(f"{what}, whole mesh (PSS)", everything, "%", _GROWS, 1),
        figure(f"{what}, worst process (RSS)", each.get(worst, math.nan), "%", _GROWS, 1, worst),
    ]


def cpu_rows(outcome: Outcome) -> list[Row]:
    """Cores in use, by service and program, of all, and of the client."""
    seconds = max(outcome.seconds, 1e-9)
    used = {program: cpu / seconds for program, cpu in outcome.cpu.items()}
    rows = []
    for service in dict.fromkeys(program.service for program in used):
        parts = {p: cores for p, cores in used.items() if p.service == service}
        rows.append(_cores(f"CPU of {service}", sum(parts.values())))
        if len(parts) > 1:
            rows += [_cores(f"CPU of {_name(program)}", cores) for program, cores in parts.items()]
    if used:
        frames = sum(len(recording.indices) for recording in outcome.recordings)
        each = 1000 * sum(outcome.cpu.values()) / frames if frames else math.nan
        rows.append(_cores("CPU of all", sum(used.values())))
        # Of sessions that drop frames the cores alone say too little.
        rows.append(figure("CPU of all, for each frame received", each, "ms", digits=1))
    return [*rows, _cores("CPU of this client", outcome.client_cpu / seconds)]


def _cores(what: str, cores: float) -> Row:
    return figure(what, cores, "cores", digits=3)


def _name(key: Program | tuple[str, int]) -> str:
    service, part = key
    return f"{service}, process {part}" if isinstance(part, int) else f"{service}: {part}"
