"""Is it still the same person?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface.common.report import Bar, Row
from talkingface.renderer.evaluation.clip import Replay
from talkingface.renderer.evaluation.poses import poses
from talkingface.renderer.evaluation.recogniser import OTHER, SAME, distance
from talkingface.renderer.evaluation.sitting import Sitting

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
    again = np.stack([s.reencoded for s in sittings])
    ours = [distances(s) for s in sittings]
    every = np.array([list(one.values()) for one in ours])
    others = np.concatenate(
        [
            distance(shown, np.delete(photos, i, axis=0))
            for i, s in enumerate(sittings)
            for shown in s.descriptors.values()
        ]
    )
    nearest = [
        float(distance(shown, photos).argmin() == i)
        for i, s in enumerate(sittings)
        for shown in s.descriptors.values()
    ]
    same = distance(again, photos)
    real = np.array([value for one in replays for value in one.distances])
    worst = np.unravel_index(every.argmax(), every.shape)
    names = list(ours[0])
    rows = [
        Row(
            f"poses nearer than {SAME} to the photo",
            {
                "generated": 100 * float((every < SAME).mean()),
                "static": 100 * float((same < SAME).mean()),
                "real": 100 * float((real < SAME).mean()) if len(real) else np.nan,
                "other": 100 * float((others < SAME).mean()) if len(others) else np.nan,
            },
            "%",
            HELD_BAR,
            digits=1,
            note=f"{every.size} pictures of {len(sittings)} portraits; static: the photo as a "
            f"JPEG; real: other frames of the clips; another person beyond {OTHER}: "
            f"{100 * float((others > OTHER).mean()) if len(others) else np.nan:.0f} %",
        ),
        Row(
            "distance, median",
            {
                "generated": float(np.median(every)),
                "static": float(np.median(same)),
                "real": float(np.median(real)) if len(real) else np.nan,
                "other": float(np.median(others)) if len(others) else np.nan,
            },
        ),
        Row(
            "distance, worst (other: nearest)",
            {
                "generated": float(every.max()),
                "static": float(same.max()),
                "real": float(real.max()) if len(real) else np.nan,
                "other": float(others.min()) if len(others) else np.nan,
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
