"""Make the inpainter's training pairs with the renderer's own geometry.

    python -m talkingface.renderer.training.build_pairs --photos DIR --videos DIR DIR --out DIR

A photograph is rendered at its own fitted pose with mouth and eyes drawn; the photograph itself is
the target. Photographs with an open mouth are also taken the way a portrait goes in use: rendered
with the mouth shut and the gaze turned, that picture taken as the portrait, and rendered back to
the pose of the photograph. In a video, a frame with a shut mouth is the portrait and other frames
of the clip (widest mouths, a blink) are targets.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from talkingface.common.motion import ARKIT_INDEX, ARKIT_NAMES
from talkingface.renderer import geometry
from talkingface.renderer.analysis import FaceAnalyser, cut_frame, decode, frame_square
from talkingface.renderer.fit import Camera, track
from talkingface.renderer.training.dataset import KINDS, QUALITY, Pair, write

Array = NDArray[Any]

OPEN = 0.03  # height over width of the inner lips from which a mouth counts as open
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith(("mouth", "jaw", "tongue"))]
PHOTO, VIDEO = 0, 1

Found = list[tuple[str, Pair]]  # (kind, pair)


def opening(landmarks: Array) -> Array:
    """Height over width of the inner lips, (..., 478, 2+) -> (...)."""

    def distance(a: int, b: int) -> Array:
        return np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1)

    return distance(13, 14) / distance(78, 308)


def pairs_of(
    warped: geometry.WarpedFrame,
    target: Array,
    portraits: tuple[Array, Array, Array],
    source: int,
    identity: int,
) -> Found:
    """The pairs of a rendered frame: one mouth, two eyes (the right one mirrored to a left one).

    :param target: (512, 512, 3) what the frame should have looked like.
    :param portraits: the portrait's own crops.
    """
    found: Found = []
    for name, crop, portrait in zip(
        ("mouth", "left", "right"), warped.crops, portraits, strict=True
    ):
        truth = cv2.warpAffine(target, crop.matrix, crop.rgb.shape[1::-1], flags=cv2.INTER_AREA)
        flip = slice(None, None, -1 if name == "right" else 1)
        pair = Pair(
            drawn=crop.rgb[:, flip],
            mask=crop.mask[:, flip],
            portrait=portrait[:, flip],
            target=truth[:, flip].astype(np.uint8),
            control=crop.control,
            source=source,
            identity=identity,
        )
        found.append(("mouth" if name == "mouth" else "eye", pair))
    return found


def prepare(frame: Array, landmarks: Array) -> geometry.Portrait:
    """A portrait whose background does not matter."""
    return geometry.prepare(frame, landmarks, np.ones(frame.shape[:2], np.float32), frame)


def poses_of(portrait: geometry.Portrait, landmarks: Array) -> list[tuple[Array, Camera]]:
    """Coefficients and camera of pictures of one person in the portrait's frame.

    :param landmarks: (1 + n, 478, 3), first those of the portrait's own picture. Coefficients are
        taken as changes from it, so that a bias of the fit is no movement.
    :return: n poses.
    """
    followed = track(landmarks, portrait.fit.identity)
    change = followed.coefficients[1:] - followed.coefficients[0]
    coefficients = np.clip(portrait.fit.coefficients + change, 0, 1)
    cameras = followed.camera
    return [
        (
            coefficients[i - 1],
            Camera(
                cameras.rotation[i : i + 1],
                cameras.scale[i : i + 1],
                cameras.translation[i : i + 1],
            ),
        )
        for i in range(1, len(landmarks))
    ]


def photo_pairs(
    frame: Array,
    landmarks: Array,
    identity: int,
    analyser: FaceAnalyser,
    random: np.random.Generator,
) -> Found:
    """Pairs of one photograph, framed to (512, 512, 3), with its landmarks (478, 3)."""
    portrait = prepare(frame, landmarks)
    own, camera = portrait.fit.coefficients, portrait.fit.camera
    warped = geometry.render_pose(portrait, own, camera, draw_always=True)
    if opening(landmarks) < OPEN:
        return pairs_of(warped, frame, portrait.crops, PHOTO, identity)
    calm = own.copy()
    calm[MOUTH] = 0
    for direction in ("Up", "Down", "In", "Out"):
        for side in ("Left", "Right"):
            calm[ARKIT_INDEX[f"eyeLook{direction}{side}"]] = 0
    pitch, yaw = random.uniform(-0.6, 0.6, 2)
    calm[ARKIT_INDEX["eyeLookUpLeft"]] = calm[ARKIT_INDEX["eyeLookUpRight"]] = max(pitch, 0)
    calm[ARKIT_INDEX["eyeLookDownLeft"]] = calm[ARKIT_INDEX["eyeLookDownRight"]] = max(-pitch, 0)
    calm[ARKIT_INDEX["eyeLookOutLeft"]] = calm[ARKIT_INDEX["eyeLookInRight"]] = max(yaw, 0)
    calm[ARKIT_INDEX["eyeLookInLeft"]] = calm[ARKIT_INDEX["eyeLookOutRight"]] = max(-yaw, 0)
    before = geometry.render_pose(portrait, calm, camera)
    # Seen in the calm picture, so that the open mouth is not given away.
    calm_crops = tuple(
        cv2.warpAffine(before.image, c.matrix, c.rgb.shape[1::-1], flags=cv2.INTER_AREA)
        for c in warped.crops
    )
    found = pairs_of(warped, frame, (calm_crops[0], calm_crops[1], calm_crops[2]), PHOTO, identity)
    points = analyser.landmarks(before.image)
    if points is None:
        return found
    second = prepare(before.image, points)
    ((coefficients, pose),) = poses_of(second, np.stack([points, landmarks]))
    back = geometry.render_pose(second, coefficients, pose, draw_always=True)
    # Lids are not found again well enough after the detour.
    again = pairs_of(back, frame, second.crops, PHOTO, identity)
    return found + [(kind, pair) for kind, pair in again if kind == "mouth"]


def video_pairs(frames: Array, landmarks: Array, identity: int) -> Found:
    """Pairs of a clip: the first frame (n, 512, 512, 3) is the portrait, the others are targets."""
    portrait = prepare(frames[0], landmarks[0])
    found: Found = []
    for frame, pose in zip(frames[1:], poses_of(portrait, landmarks), strict=True):
        warped = geometry.render_pose(portrait, *pose)
        found += pairs_of(warped, frame, portrait.crops, VIDEO, identity)
    return found


def framed_photos(folder: Path, analyser: FaceAnalyser) -> Iterator[tuple[int, Array, Array]]:
    """(number, frame, landmarks) of the photographs that hold one usable face."""
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        photo = decode(path.read_bytes())
        faces = analyser.faces(photo)
        if not faces:
            continue
        to_photo = frame_square(faces[0].box, photo.shape[1], photo.shape[0])
        frame, _ = cut_frame(photo, to_photo)
        landmarks = (faces[0].points - np.append(to_photo[:, 2], 0)) / to_photo[0, 0]
        yield number, frame, landmarks.astype(np.float32)


def chosen_frames(path: Path, analyser: FaceAnalyser, targets: int) -> tuple[Array, Array] | None:
    """(frames, landmarks) of a clip: the calmest frame, then those with the widest mouths and, if
    there is one, a blink. None where no face is found."""
    with av.open(str(path)) as video:
        pictures = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)][::2]
    faces = analyser.faces(pictures[0])
    if not faces:
        return None
    to_photo = frame_square(faces[0].box, pictures[0].shape[1], pictures[0].shape[0])
    meshes = [analyser.landmarks(picture) for picture in pictures]
    seen = [i for i, mesh in enumerate(meshes) if mesh is not None]
    points = np.stack([mesh for mesh in meshes if mesh is not None])
    mouth = opening(points)
    lids = np.linalg.norm(points[:, [159, 386], :2] - points[:, [145, 374], :2], axis=2).sum(1)
    lids /= np.median(lids)
    calm = int(np.where(lids > 0.85, mouth, np.inf).argmin())
    order = [calm, *np.argsort(-mouth)[: 2 * targets : 2]]
    if lids.min() < 0.6:
        order.append(int(lids.argmin()))
    frames = np.stack([cut_frame(pictures[seen[i]], to_photo)[0] for i in order])
    return frames, (points[order] - np.append(to_photo[:, 2], 0)) / to_photo[0, 0]


def save(found: Found, out: Path) -> None:
    """Write both kinds of pairs into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = out / f"{kind}.npz"
        pairs = [pair for name, pair in found if name == kind]
        write(path, pairs, QUALITY[kind])
        print(f"{path}: {len(pairs)} pairs, {path.stat().st_size / 2**20:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description="make the inpainter's training pairs")
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits (*.jpg)")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="folders of clips")
    parser.add_argument("--every", type=int, default=9, help="take every n-th clip of a folder")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    analyser, random = FaceAnalyser(), np.random.default_rng(0)
    found: Found = []
    for number, frame, landmarks in framed_photos(options.photos, analyser):
        found += photo_pairs(frame, landmarks, number, analyser, random)
    for folder in options.videos:
        clips = sorted(folder.glob("*.mp4"))
        for path in clips[:: options.every] if len(clips) > 50 else clips:
            chosen = chosen_frames(path, analyser, 2 if len(clips) > 50 else 8)
            if chosen is not None:
                # One identity (trained on) for a folder of one speaker, one a clip otherwise.
                identity = 10001 if len(clips) > 50 else 20000 + clips.index(path)
                found += video_pairs(*chosen, identity)
    save(found, options.out)


if __name__ == "__main__":
    main()
