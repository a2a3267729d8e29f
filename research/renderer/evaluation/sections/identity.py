"""Is it still the same person?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.clip import Replay
from talkingface_research.renderer.evaluation.face_recognition import OTHER, SAME, distance
from talkingface_research.renderer.evaluation.portrait_run import Sitting
from talkingface_research.renderer.evaluation.poses import poses
from talkingface_research.report import Bar, Row

HELD_BAR = Bar(95.0)


def distances(sitting: Sitting) -> dict[str, float]:
    """Distance to the photo by hard pose; infinite where no face is found any more."""
    return {
        pose.name: float(distance(sitting.descriptors[pose.name], sitting.descriptor))
        if pose.name in sitting.descriptors
        else np.inf
        for pose in poses()
        if pose.hard
    }


def measure(sittings: Sequence[Sitting], replays: Sequence[Replay]) -> list[Row]:
    """All rows of the section; the clips give real pictures of one person."""
    photos = np.stack([s.descriptor for s in sittings])
    ours = [distances(s) for s in sittings]
    every = np.array([list(one.values()) for one in ours])
    drawn = [(i, one) for i, s in enumerate(sittings) for one in s.descriptors.values()]
    others = [distance(one, np.delete(photos, i, axis=0)) for i, one in drawn]
    nearest = [float(distance(one, photos).argmin() == i) for i, one in drawn]
    groups = {
        "generated": every.ravel(),
        "static": distance(np.stack([s.reencoded for s in sittings]), photos),
        "real": np.array([value for one in replays for value in one.distances]),
        "other": np.concatenate([np.zeros(0), *others]),
    }
    groups = {name: values for name, values in groups.items() if len(values)}
    beyond = 100 * float(np.mean(groups.get("other", np.nan) > OTHER))
    worst = np.unravel_index(every.argmax(), every.shape)
    names = list(ours[0])
    rows = [
        Row(
            f"poses nearer than {SAME} to the photo",
            {name: 100 * float((values < SAME).mean()) for name, values in groups.items()},
            "%",
            HELD_BAR,
            digits=1,
            note=f"{every.size} pictures of {len(sittings)} portraits; static: the photo as a "
            f"JPEG; real: other frames of the clips; another person beyond {OTHER}: {beyond:.0f} %",
        ),
        Row(
            "distance, median",
            {name: float(np.median(values)) for name, values in groups.items()},
        ),
        Row(
            "distance, worst (another person: nearest)",
            {
                name: float(values.min() if name == "other" else values.max())
                for name, values in groups.items()
            },
            note=f"{sittings[int(worst[0])].name}, {names[int(worst[1])]}",
        ),
        Row(
            "the photo is the nearest of all portraits",
            {"generated": 100 * float(np.mean(nearest)), "other": 100 / len(sittings)},
            "%",
            digits=1,
        ),
    ]
    for k, name in enumerate(names):
        share = 100 * float((every[:, k] < SAME).mean())
        far = int(every[:, k].argmax())
        rows.append(
            Row(
                f"median, {name}",
                {"generated": float(np.median(every[:, k]))},
                note=f"{share:.0f} % held; worst {every[far, k]:.2f} ({sittings[far].name})",
            )
        )
    return rows
