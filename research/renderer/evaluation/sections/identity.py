"""Whether a rendered face is still the same person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from talkingface_research.renderer.evaluation.face_recognition import OTHER, SAME, distance
from talkingface_research.renderer.evaluation.portrait_run import PortraitMeasurements
from talkingface_research.renderer.evaluation.poses import poses
from talkingface_research.renderer.evaluation.reenactment import Reenactment
from talkingface_research.report import Bar, Row

SAME_BAR = Bar(95.0)  # %


def distances(portrait: PortraitMeasurements) -> dict[str, float]:
    """Distance to the photo by hard pose; infinite where no face is found."""
    return {
        pose.name: float(distance(portrait.descriptors[pose.name], portrait.descriptor))
        if pose.name in portrait.descriptors
        else np.inf
        for pose in poses()
        if pose.hard
    }


def measure(
    portraits: Sequence[PortraitMeasurements], reenactments: Sequence[Reenactment]
) -> list[Row]:
    """All rows of the section; the clips give real frames of one person."""
    photos = np.stack([s.descriptor for s in portraits])
    rendered = [distances(s) for s in portraits]
    every = np.array([list(one.values()) for one in rendered])
    descriptors = [(i, one) for i, s in enumerate(portraits) for one in s.descriptors.values()]
    others = [distance(one, np.delete(photos, i, axis=0)) for i, one in descriptors]
    nearest = [float(distance(one, photos).argmin() == i) for i, one in descriptors]
    groups = {
        "generated": every.ravel(),
        "static": distance(np.stack([s.reencoded for s in portraits]), photos),
        "real": np.array([value for one in reenactments for value in one.distances]),
        "other": np.concatenate([np.zeros(0), *others]),
    }
    groups = {name: values for name, values in groups.items() if len(values)}
    beyond = 100 * float(np.mean(groups.get("other", np.nan) > OTHER))
    worst = np.unravel_index(every.argmax(), every.shape)
    names = list(rendered[0])
    rows = [
        Row(
            f"poses nearer than {SAME} to the photo",
            {name: 100 * float((values < SAME).mean()) for name, values in groups.items()},
            "%",
            SAME_BAR,
            digits=1,
            note=f"{every.size} frames of {len(portraits)} portraits; static: the photo as a "
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
            note=f"{portraits[int(worst[0])].name}, {names[int(worst[1])]}",
        ),
        Row(
            "the photo is the nearest of all portraits",
            {"generated": 100 * float(np.mean(nearest)), "other": 100 / len(portraits)},
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
                note=f"{share:.0f} % the same; worst {every[far, k]:.2f} ({portraits[far].name})",
            )
        )
    return rows
