"""Make the inpainter's training pairs with the renderer's own geometry.

    python -m talkingface_research.renderer.training.build_pairs --photos DIR --videos DIR DIR
        --out DIR

A pair is a crop as drawn by the geometry and the crop as it should look. There are four kinds:

- own: a photograph with an open mouth, at its own fitted pose, but with the mouth drawn;
- detour: a photograph rendered with a closed mouth and a turned gaze; this frame is the portrait,
  rendered back to the pose of the photograph. Wide mouths make several detours;
- lids: a photograph with closed eyes gets the open eyes of another; this image is the portrait,
  rendered with closed eyes. Only photographs with closed eyes show sharp lids;
- video: a frame with a closed mouth is the portrait; open mouths and blinks of the clip are
  targets.

Targets are aligned with the drawing by the landmarks of both, so that the network does not learn
errors of the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from talkingface.contract.motion import ARKIT_INDEX, ARKIT_NAMES
from talkingface.renderer import geometry
from talkingface.renderer.analysis import FaceAnalyser, cut_frame, decode, frame_square
from talkingface.renderer.face.camera import Camera
from talkingface.renderer.face.fitting import track
from talkingface.renderer.face.landmarks import LIPS
from talkingface.renderer.face.model import rotation_matrix
from talkingface.renderer.geometry.eyes import RINGS
from talkingface.renderer.geometry.portrait import BLINKS
from talkingface.renderer.opencv import cv
from talkingface_research.renderer.training.dataset import KINDS, PHOTO, QUALITY, VIDEO, Pair, write

Array = NDArray[Any]

OPEN = 0.03  # height over width of the inner lips from which a mouth counts as open
WIDE = 0.2  # the same, from which it counts as wide open, of which there are few
DETOURS = {"shut": 1, "open": 1, "wide": 2}  # of a photograph
SHUT_LIDS, OPEN_LIDS = 0.2, (0.3, 0.5)  # height over width of an eye
DONORS = 3  # of open eyes, for a photograph with closed ones
FAR = 0.04  # face widths by which a target may be moved to align with its drawing
HELD_OUT_PHOTOS, HELD_OUT_CLIPS = 12, 23  # every n-th is never trained on
MANY = 50  # clips: a larger folder is of one speaker
MOUTH = [i for i, name in enumerate(ARKIT_NAMES) if name.startswith(("mouth", "jaw", "tongue"))]
MARKS = {"mouth": list(LIPS), "left": list(RINGS[1]), "right": list(RINGS[0])}

Found = list[tuple[str, Pair]]  # (kind, pair)


@dataclass(frozen=True)
class Photo:
    """A framed photograph (512, 512, 3) and its landmarks (478, 3)."""

    frame: Array
    landmarks: Array
    held_out: bool


def opening(landmarks: Array) -> Array:
    """Height over width of the inner lips, (..., 478, 2+) -> (...)."""

    def distance(a: int, b: int) -> Array:
        result: Array = np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1)
        return result

    return distance(13, 14) / distance(78, 308)


def lids(landmarks: Array) -> Array:
    """Height over width of the eyes, (..., 478, 2+) -> (..., 2): right, left."""

    def distance(a: list[int], b: list[int]) -> Array:
        result: Array = np.linalg.norm(landmarks[..., a, :2] - landmarks[..., b, :2], axis=-1)
        return result

    return distance([159, 386], [145, 374]) / distance([33, 362], [133, 263])


def aligned(
    target: Array, found: Array, wanted: Array, matrix: Array, size: int, far: float
) -> Array | None:
    """Cut a crop (size, size, 3) out of a target, aligned with a drawing.

    :param found: (N, 2) landmarks in the drawing
    :param wanted: (N, 2) the same in the target
    :param matrix: (2, 3) from the drawing's frame to the crop
    :return: None where the two are further apart than `far` pixels
    """
    middle = found.mean(0)
    offset, gap = found - middle, wanted - found
    shift = gap.mean(0)
    # Least squares for wanted = found + shift + linear (found - middle), with little stretch.
    stiff = 0.15 * (offset**2).sum() * np.eye(2)
    linear = np.linalg.solve(offset.T @ offset + stiff, offset.T @ (gap - shift)).T
    if float(np.hypot(*shift)) > far:
        return None
    full = np.eye(3)
    full[:2, :2] += linear
    full[:2, 2] = shift - linear @ middle
    cut = np.concatenate([matrix, [[0, 0, 1]]]) @ np.linalg.inv(full)
    result: Array | None = cv.warpAffine(target, cut[:2], (size, size), flags=cv.INTER_AREA)
    return result


def pairs_of(
    warped: geometry.WarpedFrame,
    target: Array,
    landmarks: Array,
    portraits: tuple[Array, ...],
    source: int,
    held_out: bool,
    analyser: FaceAnalyser,
    kinds: tuple[str, ...],
) -> Found:
    """The pairs of a rendered frame: one mouth, two eyes (the right one mirrored to a left one).

    :param target: (512, 512, 3) the frame as it should look
    :param landmarks: (478, 3) of `target`
    :param portraits: the portrait's own crops
    :param kinds: those of `KINDS` to make
    """
    points = analyser.landmarks(warped.image)
    if points is None:
        return []
    far = FAR * float(np.linalg.norm(points[454, :2] - points[234, :2]))
    found: Found = []
    for name, crop, portrait in zip(MARKS, warped.crops, portraits, strict=True):
        kind = "mouth" if name == "mouth" else "eye"
        marks = MARKS[name]
        if kind not in kinds:
            continue
        truth = aligned(
            target, points[marks, :2], landmarks[marks, :2], crop.matrix, len(crop.rgb), far
        )
        if truth is None:
            continue
        flip = slice(None, None, -1 if name == "right" else 1)
        pair = Pair(
            drawn=crop.rgb[:, flip],
            mask=crop.mask[:, flip],
            portrait=portrait[:, flip],
            target=truth[:, flip].astype(np.uint8),
            control=crop.control,
            source=source,
            held_out=held_out,
        )
        found.append((kind, pair))
    return found


def prepare(frame: Array, landmarks: Array) -> geometry.PreparedPortrait:
    """A portrait whose background does not matter."""
    return geometry.prepare(frame, landmarks, np.ones(frame.shape[:2], np.float32), frame)


def poses_of(portrait: geometry.PreparedPortrait, landmarks: Array) -> list[tuple[Array, Camera]]:
    """Coefficients and camera of frames of one person in the portrait's frame.

    :param landmarks: (1 + n, 478, 3), first those of the portrait's own frame. Coefficients are
        relative to it, so that a bias of the fit is not a movement.
    :return: n poses
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


def detour_pose(
    portrait: geometry.PreparedPortrait, turned: float, random: np.random.Generator
) -> tuple[Array, Camera]:
    """The portrait's own pose with a closed mouth, a random gaze and the head turned by up to
    `turned` degrees."""
    coefficients = portrait.fit.coefficients.copy()
    coefficients[MOUTH] = 0
    pitch, yaw = random.uniform(-0.7, 0.7, 2)
    for name, value in (
        ("UpLeft", pitch), ("UpRight", pitch), ("DownLeft", -pitch), ("DownRight", -pitch),
        ("OutLeft", yaw), ("InRight", yaw), ("InLeft", -yaw), ("OutRight", -yaw),
    ):  # fmt: skip
        coefficients[ARKIT_INDEX[f"eyeLook{name}"]] = max(value, 0)
    own = portrait.fit.camera
    angles = own.angles[0] + random.uniform(-1, 1, 3) * (0.6 * turned, turned, 0.3 * turned)
    rotation = rotation_matrix(*(float(angle) for angle in angles))[None]
    return coefficients, Camera(rotation, own.scale, own.translation)


def photo_pairs(
    photo: Photo, analyser: FaceAnalyser, random: np.random.Generator, wanted: tuple[str, ...]
) -> Found:
    """Own pairs and detours of one photograph, of the kinds that are wanted."""
    portrait = prepare(photo.frame, photo.landmarks)
    width = float(opening(photo.landmarks))
    size = "shut" if width < OPEN else "open" if width < WIDE else "wide"
    eyes_open = float(lids(photo.landmarks).min()) > SHUT_LIDS
    use = {"mouth": size != "shut", "eye": eyes_open}
    kinds = tuple(kind for kind in wanted if use[kind])
    own = geometry.render_pose(
        portrait, portrait.fit.coefficients, portrait.fit.camera, draw_always=True
    )
    found: Found = []
    for number in range(DETOURS[size] if kinds else 0):
        pose = detour_pose(portrait, 8.0 if number else 0.0, random)
        before = geometry.render_pose(portrait, *pose)
        if number == 0 and "mouth" in kinds:
            # Crops of the frame with the closed mouth, so that they do not show the open one.
            seen = tuple(
                cv.warpAffine(before.image, c.matrix, c.rgb.shape[1::-1], flags=cv.INTER_AREA)
                for c in own.crops
            )
            found += pairs_of(
                own, photo.frame, photo.landmarks, seen, PHOTO, photo.held_out, analyser, ("mouth",)
            )
        points = analyser.landmarks(before.image)
        if points is None:
            continue
        second = prepare(before.image, points)
        ((coefficients, camera),) = poses_of(second, np.stack([points, photo.landmarks]))
        back = geometry.render_pose(second, coefficients, camera)
        found += pairs_of(
            back, photo.frame, photo.landmarks, second.crops, PHOTO, photo.held_out, analyser, kinds
        )
    return found


def with_eyes_of(shut: Photo, donor: Photo) -> Array:
    """The frame with the donor's open eyes in place of the closed ones, (512, 512, 3)."""
    frame = shut.frame.copy()
    for ring in RINGS:
        marks = list(ring)
        there, here = donor.landmarks[marks, :2], shut.landmarks[marks, :2]
        # A similarity that maps corners to corners, by complex numbers.
        corners = [complex(*p) for p in (there[0], there[8], here[0], here[8])]
        turn = (corners[3] - corners[2]) / (corners[1] - corners[0])
        move = corners[2] - turn * corners[0]
        matrix = np.array([[turn.real, -turn.imag, move.real], [turn.imag, turn.real, move.imag]])
        moved = cv.warpAffine(
            donor.frame, matrix, frame.shape[1::-1], borderMode=cv.BORDER_REPLICATE
        )
        outline = cv.convexHull((there @ matrix[:, :2].T + matrix[:, 2]).astype(np.int32))
        span = max(int(0.14 * abs(corners[3] - corners[2])), 2)
        mask = cv.fillConvexPoly(np.zeros(frame.shape[:2], np.uint8), outline, 255)
        mask = cv.dilate(mask, np.ones((2 * span + 1, 2 * span + 1), np.uint8))
        x, y, w, h = cv.boundingRect(mask)
        frame = cv.seamlessClone(moved, frame, mask, (x + w // 2, y + h // 2), cv.NORMAL_CLONE)
    return frame


def lid_pairs(
    shut: Photo, photos: list[Photo], analyser: FaceAnalyser, random: np.random.Generator
) -> Found:
    """Pairs of a photograph with closed eyes, by donors among the photographs with open ones."""

    def turned(photo: Photo) -> float:
        """Position of the nose between the eyes' outer corners, 0..1."""
        right, left, nose = photo.landmarks[[33, 263, 1], 0]
        return float((nose - right) / (left - right))

    alike = sorted(photos, key=lambda photo: abs(turned(photo) - turned(shut)))[: 4 * DONORS]
    found: Found = []
    for k in random.choice(len(alike), min(DONORS, len(alike)), replace=False):
        frame = with_eyes_of(shut, alike[k])
        points = analyser.landmarks(frame)
        if points is None or lids(points).min() < 0.22:
            continue
        portrait = prepare(frame, points)
        coefficients = portrait.fit.coefficients.copy()
        closed = np.clip(1 - (lids(shut.landmarks) - 0.08) / (lids(points) - 0.08), 0, 1)
        coefficients[BLINKS] = np.maximum(closed, coefficients[BLINKS])
        warped = geometry.render_pose(portrait, coefficients, portrait.fit.camera)
        found += pairs_of(
            warped, shut.frame, shut.landmarks, portrait.crops, PHOTO, shut.held_out, analyser,
            ("eye",),
        )  # fmt: skip
    return found


def video_pairs(
    frames: Array,
    landmarks: Array,
    blinks: int,
    held_out: bool,
    analyser: FaceAnalyser,
    wanted: tuple[str, ...],
) -> Found:
    """Pairs of a clip: the first frame (n, 512, 512, 3) is the portrait, the others are targets,
    the last `blinks` of them for the eyes."""
    portrait = prepare(frames[0], landmarks[0])
    found: Found = []
    for i, pose in enumerate(poses_of(portrait, landmarks), 1):
        kinds = ("eye",) if i >= len(frames) - blinks else ("mouth",)
        if kinds[0] not in wanted:
            continue
        warped = geometry.render_pose(portrait, *pose)
        found += pairs_of(
            warped, frames[i], landmarks[i], portrait.crops, VIDEO, held_out, analyser, kinds
        )
    return found


def framed_photos(folder: Path, analyser: FaceAnalyser) -> Iterator[Photo]:
    """The photographs that hold one usable face."""
    for number, path in enumerate(sorted(folder.glob("*.jpg"))):
        photo = decode(path.read_bytes())
        faces = analyser.faces(photo)
        if not faces:
            continue
        to_photo = frame_square(faces[0].box, photo.shape[1], photo.shape[0])
        frame, _ = cut_frame(photo, to_photo)
        landmarks = (faces[0].points - np.append(to_photo[:, 2], 0)) / to_photo[0, 0]
        yield Photo(frame, landmarks.astype(np.float32), number % HELD_OUT_PHOTOS == 0)


def chosen_frames(
    path: Path, analyser: FaceAnalyser, targets: int
) -> tuple[Array, Array, int] | None:
    """(frames, landmarks, blinks) of a clip: the frame with the most closed mouth, open mouths from
    the widest down, and the frames of a blink if there is one. None where no face is found."""
    with av.open(str(path)) as video:
        video_frames = [
            f.to_ndarray(format="rgb24").astype(np.uint8) for f in video.decode(video=0)
        ][:300:2]
    faces = analyser.faces(video_frames[0])
    if not faces:
        return None
    to_photo = frame_square(faces[0].box, video_frames[0].shape[1], video_frames[0].shape[0])
    meshes = [analyser.landmarks(frame) for frame in video_frames]
    seen = [i for i, mesh in enumerate(meshes) if mesh is not None]
    points = np.stack([mesh for mesh in meshes if mesh is not None])
    mouth, eyes = opening(points), lids(points).mean(1)
    eyes /= np.median(eyes)
    resting = int(np.where(eyes > 0.9, mouth, np.inf).argmin())
    ordered = np.argsort(-mouth)[: int((mouth > OPEN).sum())]
    step = np.linspace(0, len(ordered) - 1, min(targets, len(ordered)))
    order = [resting, *ordered[np.round(step).astype(int)]]
    blinking = np.nonzero(eyes < 0.75)[0]
    blinking = blinking[np.argsort(eyes[blinking])][:targets]
    order += [int(i) for i in blinking]
    frames = np.stack([cut_frame(video_frames[seen[i]], to_photo)[0] for i in order])
    placed = (points[order] - np.append(to_photo[:, 2], 0)) / to_photo[0, 0]
    return frames, placed.astype(np.float32), len(blinking)


def clips_of(folder: Path, every: int) -> list[tuple[Path, int, bool]]:
    """(clip, targets, held out): of a large folder, which is one speaker's, every n-th clip and
    some that are held out; of a small one all, with the last third held out."""
    clips = sorted(folder.glob("*.mp4"))
    if len(clips) <= MANY:
        kept = len(clips) - (len(clips) + 1) // 3
        return [(path, 16, i >= kept) for i, path in enumerate(clips)]
    held_out = [(path, 4, True) for path in clips[:: 3 * HELD_OUT_CLIPS]]
    trained = [path for i, path in enumerate(clips) if i % HELD_OUT_CLIPS]
    return held_out + [(path, 5, False) for path in trained[::every]]


def save(found: Found, out: Path) -> None:
    """Write both kinds of pairs into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = out / f"{kind}.npz"
        pairs = [pair for name, pair in found if name == kind]
        if not pairs:
            continue
        write(path, pairs, QUALITY[kind])
        print(f"{path}: {len(pairs)} pairs, {path.stat().st_size / 2**20:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description="make the inpainter's training pairs")
    parser.add_argument("--photos", type=Path, required=True, help="folder of portraits (*.jpg)")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="folders of clips")
    parser.add_argument("--every", type=int, default=15, help="use every n-th clip of a folder")
    parser.add_argument("--shut", type=int, default=2, help="use every n-th closed mouth")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help="number, of how many")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    analyser, random = FaceAnalyser(), np.random.default_rng(options.part[0])
    part = slice(options.part[0], None, options.part[1])
    photos = list(framed_photos(options.photos, analyser))
    donors = {
        side: [
            p
            for p in photos
            if p.held_out == side
            and OPEN_LIDS[0] < lids(p.landmarks).min()
            and lids(p.landmarks).max() < OPEN_LIDS[1]
        ]
        for side in (False, True)
    }
    found: Found = []
    kinds = tuple(options.kinds)
    closed = [p for p in photos if lids(p.landmarks).max() < SHUT_LIDS] if "eye" in kinds else []
    for shut in closed[part]:
        found += lid_pairs(shut, donors[shut.held_out], analyser, random)
    talking = [p for p in photos if opening(p.landmarks) > OPEN]
    silent = [p for p in photos if opening(p.landmarks) <= OPEN] if "eye" in kinds else []
    for photo in (talking + silent[:: options.shut])[part]:
        found += photo_pairs(photo, analyser, random, kinds)
    clips = [clip for folder in options.videos for clip in clips_of(folder, options.every)]
    for path, targets, held_out in clips[part]:
        chosen = chosen_frames(path, analyser, targets)
        if chosen is not None:
            found += video_pairs(*chosen, held_out, analyser, kinds)
    save(found, options.out)


if __name__ == "__main__":
    main()
