"""Everything that a live bench has measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from talkingface_research.bench.analysis import SessionAnalysis
from talkingface_research.bench.processes import Program, Sample
from talkingface_research.bench.recording import Recording, Refusal

LATE_SHARE = 0.01  # of the frames: a load with more late ones is too much


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
    stress: str = ""  # the other work on this machine meanwhile; "": none
    # Seconds from opening to the first frame.
    with_handle: list[float] = field(default_factory=list)
    with_image: list[float] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    analyses: list[SessionAnalysis] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    ramp_end: str = ""
    memory: list[Sample] = field(default_factory=list)
    cpu: dict[Program, float] = field(default_factory=dict)  # seconds
    client_cpu: float = 0.0


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The samples behind a table, for programs."""
    return {
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
        "stress": outcome.stress,
        "cpu_seconds": {
            f"{service}, {name}": seconds for (service, name), seconds in outcome.cpu.items()
        },
    }
