"""Analysis of a client's portrait: face, frame of 512x512 pixels, landmarks, matte, background.

`FaceAnalyser.analyse` does it all from the bytes of a file; its parts are usable alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talkingface.contract.portrait import MIN_FACE
from talkingface.renderer.analysis import matting, outpainting
from talkingface.renderer.analysis.detection import Detection, FaceDetector, box_overlap
from talkingface.renderer.analysis.errors import FaceError, PortraitReason
from talkingface.renderer.analysis.framing import cut_frame, frame_square, is_tight
from talkingface.renderer.analysis.landmarks import FaceMesher, Mesh
from talkingface.renderer.analysis.photo import read_photo
from talkingface.renderer.arrays import Float32Array, Uint8Image
from talkingface.renderer.fetch_assets import MODEL_DIR, require_models
from talkingface.renderer.opencv import cv
from talkingface.renderer.pixels.layers import MARGIN

# By eye.
MAX_YAW = 45.0  # degrees
MIN_BRIGHTNESS, BRIGHT = 32, 95  # luma 0..255 of the face; percentile that has to reach it
SIDE_FACE = 0.5  # a second face smaller than fraction of the largest counts as background
MIN_SCORE = 0.9  # of the mesh network that it sees a face, 0..1
SURE_DETECTION = 0.62  # score of the detector for a second face and for one found in a tile
SAME_FACE = 0.3  # `box_overlap` above which two boxes are of one face


@dataclass(frozen=True)
class AnalysedPortrait:
    """What the renderer needs of a portrait; in pixels of the frame unless said otherwise."""

    photo: Uint8Image  # (H, W, 3) RGB, the upright photo; a very large one reduced
    photo_size: tuple[int, int]  # width and height of the upright file
    frame: Uint8Image  # (512, 512, 3) RGB
    landmarks: Float32Array  # (478, 3); z in pixels, too, growing away from the viewer
    matte: Float32Array  # (512, 512) opacity of the person, 0..1
    background: Uint8Image  # (512, 512, 3) RGB, the person removed
    pad_mask: Float32Array  # (512, 512), 1 where the frame reaches beyond the photo
    to_photo: Float32Array  # (2, 3): frame pixel -> pixel of `photo`
    rotation: tuple[float, float, float]  # pitch, yaw, roll in degrees, signs as in a motion frame
    # (704, 704, 4) of a tightly cut photo: the person alone, as RGBA, beyond the frame, too.
    surroundings: Uint8Image | None = None


def head_rotation(landmarks: Float32Array) -> tuple[float, float, float]:
    """Estimate pitch, yaw and roll from landmarks (478, 3), to a few degrees.

    Signs as in `contract.motion`: yaw > 0 looks to the viewer's right, pitch > 0 up, roll > 0 is
    clockwise. From the ear-to-ear line and the line from forehead to chin.
    """
    across = landmarks[454] - landmarks[234]
    down = landmarks[152] - landmarks[10]
    yaw = np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1])))
    pitch = np.degrees(np.arctan2(-down[2], np.hypot(down[0], down[1])))
    eyes = landmarks[263] - landmarks[33]
    return float(pitch), float(yaw), float(np.degrees(np.arctan2(eyes[1], eyes[0])))


class FaceAnalyser:
    """Detector, mesh and matte together. Thread-safe; loading takes about a second, so keep it."""

    def __init__(self, models: Path = MODEL_DIR) -> None:
        """:raises AssetError: the networks have not been fetched (`fetch_assets`)."""
        folder = require_models(models)
        self._detector = FaceDetector(folder)
        self._mesher = FaceMesher(folder)
        self._matter = matting.PersonMatter(folder)

    def faces(self, image: Uint8Image) -> list[Mesh]:
        """Find all faces in (H, W, 3) RGB, largest first, each confirmed by the mesh network."""
        found = self._confirm(image, self._detector.coarse(image))
        if found:
            return found
        sure = [d for d in self._detector.fine(image) if d.score >= SURE_DETECTION]
        return self._confirm(image, sure)

    def landmarks(self, image: Uint8Image) -> Float32Array | None:
        """Landmarks (478, 3) of the largest face, image pixels, or None; no other checks."""
        found = self.faces(image)
        return found[0].points if found else None

    def _confirm(self, image: Uint8Image, detections: list[Detection]) -> list[Mesh]:
        """Meshes of those detections that the mesh network takes for faces, largest first."""
        meshes: list[Mesh] = []
        for detection in sorted(detections, key=lambda d: -d.score):
            if meshes and detection.score < SURE_DETECTION:
                break  # chests and houses look a little like faces
            mesh = self._mesher(image, detection.box, detection.eyes)
            agrees = box_overlap(mesh.box, detection.box) > SAME_FACE
            fresh = all(box_overlap(mesh.box, other.box) < SAME_FACE for other in meshes)
            if mesh.score >= MIN_SCORE and agrees and fresh:
                meshes.append(mesh)
        return sorted(meshes, key=lambda m: -m.size)

    def matte(self, frame: Uint8Image) -> Float32Array:
        """Estimate the opacity 0..1 of the person in a square frame, (H, W)."""
        return self._matter(frame)

    def analyse(self, content: bytes) -> AnalysedPortrait:
        """Analyse an image file.

        :raises ImageError: the bytes are no usable image.
        :raises FaceError: NO_FACE, SEVERAL_FACES, FACE_TOO_SMALL, FACE_TURNED or TOO_DARK.
        """
        read = read_photo(content)
        photo = read.pixels
        height, width = photo.shape[:2]
        face = _choose(self.faces(photo), width, height)
        check(photo, face, read.width / width)
        to_photo = frame_square(face.box, width, height)
        scale = to_photo[0, 0]
        landmarks = (face.points - np.append(to_photo[:, 2], 0)) / scale
        surroundings = None
        if is_tight(face.box, width, height):
            # The person is looked for in the frame and its margin.
            canvas, beyond = cut_frame(photo, to_photo, MARGIN)
            pad_mask = np.ascontiguousarray(beyond[MARGIN:-MARGIN, MARGIN:-MARGIN])
            face_points = landmarks[:, :2] + MARGIN
            matte = matting.refined(self._matter(canvas), canvas, face_points)
            frame, matte, background, surroundings = outpainting.complete_photo(
                canvas, beyond == 0, matte, face_points
            )
        else:
            frame, pad_mask = cut_frame(photo, to_photo)
            matte = matting.refined(self._matter(frame), frame, landmarks[:, :2])
            background = matting.inpaint_background(frame, matte, pad_mask)
        return AnalysedPortrait(
            photo=photo,
            photo_size=(read.width, read.height),
            frame=frame,
            landmarks=landmarks.astype(np.float32),
            matte=matte,
            background=background,
            pad_mask=pad_mask,
            to_photo=to_photo,
            rotation=head_rotation(face.points),
            surroundings=surroundings,
        )


def _choose(faces: list[Mesh], width: int, height: int) -> Mesh:
    """The one face of a photo of width x height pixels.

    :raises FaceError: NO_FACE or SEVERAL_FACES.
    """
    if not faces:
        raise FaceError(
            PortraitReason.NO_FACE,
            f"no face was found in the image of {width}x{height} pixels",
            width=width,
            height=height,
        )
    similar = [face for face in faces if face.size >= SIDE_FACE * faces[0].size]
    if len(similar) > 1:
        boxes = [[round(v) for v in face.box] for face in similar]
        raise FaceError(
            PortraitReason.SEVERAL_FACES,
            f"{len(similar)} faces of similar size were found, one is needed",
            count=len(similar),
            boxes=boxes,
        )
    return faces[0]


def check(photo: Uint8Image, face: Mesh, reduction: float = 1.0) -> None:
    """Check a face's size, pose and light.

    :param photo: (H, W, 3) RGB.
    :param reduction: pixels of the file for one of the photo.
    :raises FaceError: FACE_TOO_SMALL, FACE_TURNED or TOO_DARK.
    """
    size = face.size * reduction
    if size < MIN_FACE:
        raise FaceError(
            PortraitReason.FACE_TOO_SMALL,
            f"the face is {size:.0f} pixels high, at least {MIN_FACE} are needed",
            pixels=round(size),
            needed=MIN_FACE,
        )
    _, yaw, _ = head_rotation(face.points)
    if abs(yaw) > MAX_YAW:
        raise FaceError(
            PortraitReason.FACE_TURNED,
            f"the face is turned sideways by {abs(yaw):.0f} degrees, at most {MAX_YAW:.0f} work",
            yaw=round(yaw, 1),
        )
    x0, y0, x1, y1 = (round(v) for v in face.box)
    skin = photo[max(y0, 0) : max(y1, 1), max(x0, 0) : max(x1, 1)]
    luma = cv.cvtColor(skin, cv.COLOR_RGB2GRAY)
    brightness = float(np.percentile(luma, BRIGHT))
    if brightness < MIN_BRIGHTNESS:
        raise FaceError(
            PortraitReason.TOO_DARK,
            f"the face is too dark: its bright parts reach {brightness:.0f} of 255, "
            f"{MIN_BRIGHTNESS} are needed",
            brightness=round(brightness),
        )
