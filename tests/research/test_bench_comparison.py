"""`talkingface bench speed --against`: ratios of runs that alternate."""

from __future__ import annotations

from typing import Any

from talkingface_research.bench.comparison import FIGURES, ratios


def report(**lines: tuple[float, float]) -> dict[str, Any]:
    """A report with frames a second and CPU time for each line."""
    measurements = []
    for what, (fps, cpu) in lines.items():
        values = dict.fromkeys(FIGURES, 0.0) | {"fps": fps, "cpu_ms": cpu}
        measurements.append({"what": what, **values})
    return {"measurements": measurements}


def test_rounds_are_compared_one_by_one() -> None:
    ours = [report(renderer=(40.0, 20.0)), report(renderer=(20.0, 40.0))]
    others = [report(renderer=(20.0, 40.0)), report(renderer=(10.0, 60.0))]
    fps, cpu = ratios(ours, others)
    assert (fps.what, fps.figure, fps.values) == ("renderer", "fps", (2.0, 2.0))
    assert cpu.values == (0.5, 2 / 3), "a slow round does not count more"


def test_only_what_both_measure_is_compared() -> None:
    ours = [report(renderer=(40.0, 20.0), new=(1.0, 1.0))]
    others = [report(renderer=(20.0, 40.0), old=(1.0, 1.0))]
    assert {ratio.what for ratio in ratios(ours, others)} == {"renderer"}
