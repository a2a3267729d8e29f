"""Face analysis: what a client may send, and what is found in it.

Needs the networks and the NASA portrait; both are fetched once (`fetch_assets`).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from talkingface.contract.motion import ARKIT_DIM
from talkingface.contract.portrait import MAX_BYTES, MIN_FACE
from talkingface.renderer import fetch_assets
from talkingface.renderer.analysis import (
    FRAME,
    AnalysedPortrait,
    FaceAnalyser,
    FaceError,
    ImageError,
    PortraitError,
    PortraitReason,
    cut_frame,
    decode,
    matting,
)
from talkingface.renderer.analysis.analyser import MAX_YAW, check
from talkingface.renderer.analysis.completion import complete
from talkingface.renderer.analysis.landmarks import Mesh
from talkingface.renderer.analysis.photo import WORKING_PIXELS, read_photo
from talkingface.renderer.face.model import FaceModel, rotation_matrix
from talkingface.renderer.face.pyramid_fill import fill_outside
from talkingface.renderer.opencv import cv

# Eye centres and mouth corners of the portrait as a person sees them, pixels of the 512x512 file.
EYES = np.array([[203, 101], [246.5, 103]])
MOUTH_CORNERS = np.array([[203, 140], [246, 140]])


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    fetch_assets.fetch("models", fetch_assets.MODEL_DIR)
    return FaceAnalyser()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    (path,) = fetch_assets.fetch("portrait", tmp_path_factory.mktemp("portrait"))
    return Image.open(path).convert("RGB")


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def in_photo(found: AnalysedPortrait, indices: list[int]) -> NDArray[np.float32]:
    """Mean of some landmarks in pixels of the file."""
    at: NDArray[np.float32] = found.landmarks[indices, :2].mean(0)
    scale = found.photo_size[0] / found.photo.shape[1]
    return (found.to_photo[:, :2] @ at + found.to_photo[:, 2]) * scale


def check_landmarks(found: AnalysedPortrait, scale: float = 1.0) -> None:
    """Irises and mouth corners lie where a person sees them, within 3 % of the face."""
    tolerance = 4.0 * scale
    for iris, eye in ((468, EYES[0]), (473, EYES[1])):
        assert np.linalg.norm(in_photo(found, [iris]) - eye * scale) < tolerance
    for corner, place in ((61, MOUTH_CORNERS[0]), (291, MOUTH_CORNERS[1])):
        assert np.linalg.norm(in_photo(found, [corner]) - place * scale) < tolerance


def test_photo_is_framed_and_cut_out(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    found = analyser.analyse(encode(portrait))
    check_landmarks(found)
    assert found.frame.shape == (FRAME, FRAME, 3)
    x, y = found.landmarks[:468, :2].T
    share = max(np.ptp(x), np.ptp(y)) / FRAME
    assert 0.45 < share < 0.66
    assert found.matte[round(y.mean()), round(x.mean())] > 0.95
    assert found.matte[:20, :20].max() < 0.1
    assert max(abs(angle) for angle in found.rotation) < 20
    # Where nobody stands, the background is the photo's own.
    clear = found.matte[:40, :40].max() == 0 and found.pad_mask[:40, :40].max() == 0
    assert clear
    difference = np.abs(found.background[:20, :20].astype(int) - found.frame[:20, :20])
    assert difference.max() <= 1
    # ... and the person is gone from it.
    face = np.s_[round(y.min()) : round(y.max()), round(x.min()) : round(x.max())]
    assert np.abs(found.background[face].astype(int) - found.frame[face]).mean() > 20


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("L", "PNG", {}),
        ("LA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("P", "PNG", {}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("RGB", "JPEG", {"quality": 40}),
        ("RGB", "WEBP", {"quality": 60}),
        ("I;16", "PNG", {}),
    ],
)
def test_every_form_of_picture(
    analyser: FaceAnalyser,
    portrait: Image.Image,
    mode: str,
    form: str,
    options: dict[str, object],
) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.asarray(portrait.convert("L"), np.uint16) * 257)
    else:
        image = portrait.convert(mode)
    found = analyser.analyse(encode(image, form, **options))
    check_landmarks(found)
    brightness = found.frame.mean() / analyser.analyse(encode(portrait)).frame.mean()
    assert 0.85 < brightness < 1.15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_honoured(
    analyser: FaceAnalyser, portrait: Image.Image, orientation: int
) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpose methods
    stored = portrait
    if orientation > 1:
        stored = portrait.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(stored, "JPEG", quality=95, exif=exif.tobytes())
    restored = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.abs(np.asarray(restored, int) - np.asarray(portrait, int)).mean() < 4
    check_landmarks(analyser.analyse(content))


@pytest.mark.parametrize("side", [384, 1500, 4000])
def test_any_size(analyser: FaceAnalyser, portrait: Image.Image, side: int) -> None:
    content = encode(portrait.resize((side, side)), "JPEG", quality=90)
    check_landmarks(analyser.analyse(content), side / 512)


@pytest.mark.parametrize("angle", [-35, 35])
def test_tilted_head(analyser: FaceAnalyser, portrait: Image.Image, angle: int) -> None:
    turned = portrait.rotate(-angle, fillcolor=(200, 195, 190))  # Pillow turns anticlockwise
    found = analyser.analyse(encode(turned))
    upright = analyser.analyse(encode(portrait))
    assert found.rotation[2] - upright.rotation[2] == pytest.approx(angle, abs=3)


@pytest.mark.parametrize(
    ("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("1", "PNG")]
)
def test_a_very_large_photo_is_reduced(portrait: Image.Image, mode: str, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    large = portrait.convert("L").rotate(90).resize((4600, 4100)).convert(mode)
    read = read_photo(encode(large, form, exif=exif.tobytes()))
    assert (read.width, read.height) == (4100, 4600)
    assert read.pixels.shape == (2300, 2050, 3)
    assert read.pixels.shape[0] * read.pixels.shape[1] <= WORKING_PIXELS
    small = np.asarray(Image.fromarray(read.pixels).convert("L").resize((64, 64)), int)
    assert np.abs(small - np.asarray(portrait.convert("L").resize((64, 64)), int)).mean() < 12


def test_small_face_in_a_large_photo(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    canvas = Image.new("RGB", (3000, 2000), (120, 140, 130))
    canvas.paste(portrait, (2200, 1300))
    found = analyser.analyse(encode(canvas, "JPEG"))
    assert np.linalg.norm(in_photo(found, [468]) - EYES[0] - (2200, 1300)) < 4


def test_face_that_fills_the_photo(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    found = analyser.analyse(encode(portrait.crop((170, 62, 280, 182)).resize((440, 480))))
    assert found.pad_mask.mean() > 0.1
    assert found.frame[found.pad_mask > 0].std() > 1
    assert found.surroundings is not None
    assert analyser.analyse(encode(portrait)).surroundings is None


def refusal(analyser: FaceAnalyser, content: bytes) -> PortraitError:
    with pytest.raises((ImageError, FaceError)) as caught:
        analyser.analyse(content)
    return caught.value


def test_no_face(analyser: FaceAnalyser) -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (512, 640, 3), np.uint8))
    clouds = noise.resize((12, 9)).resize((640, 480), Image.Resampling.BICUBIC)
    for image in (noise, clouds, Image.new("RGB", (600, 400), (90, 120, 200))):
        error = refusal(analyser, encode(image))
        assert error.reason == PortraitReason.NO_FACE
        assert error.details["width"] == image.width


def test_several_faces_but_not_small_ones(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    pair = Image.new("RGB", (1024, 512))
    pair.paste(portrait, (0, 0))
    pair.paste(ImageOps.mirror(portrait), (512, 0))
    error = refusal(analyser, encode(pair))
    assert error.reason == PortraitReason.SEVERAL_FACES
    assert error.details["count"] == 2
    boxes = np.array(error.details["boxes"])
    assert sorted(boxes[:, 0] // 512) == [0, 1]

    pair.paste((180, 180, 180), (512, 0, 1024, 512))
    pair.paste(portrait.resize((200, 200)), (700, 200))  # a photo on the wall
    check_landmarks(analyser.analyse(encode(pair)))


def test_face_too_small(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    for side in (192, 340):
        error = refusal(analyser, encode(portrait.resize((side, side))))
        assert error.reason == PortraitReason.FACE_TOO_SMALL
        assert error.details["pixels"] == pytest.approx(113 * side / 512, rel=0.15)
        assert f"at least {MIN_FACE} are needed" in str(error)


@pytest.mark.parametrize("yaw", [-60, -50, -40, 40, 50, 60])
def test_face_turned(yaw: float) -> None:
    model = FaceModel.load()
    none = np.zeros(len(model.identity), np.float32)
    face = model.landmarks(none, np.zeros(ARKIT_DIM, np.float32)) @ rotation_matrix(5, yaw, 0).T
    # Pixels of a image: y down, z growing away from the viewer.
    mesh = Mesh((face * (200, -200, -200) + 256).astype(np.float32), 1.0)
    photo = np.full((512, 512, 3), 128, np.uint8)
    if abs(yaw) < MAX_YAW:
        check(photo, mesh)
        return
    with pytest.raises(FaceError, match=f"turned sideways by {abs(yaw)} degrees") as caught:
        check(photo, mesh)
    assert caught.value.reason == PortraitReason.FACE_TURNED
    assert caught.value.details["yaw"] == pytest.approx(yaw, abs=0.5)


def test_face_too_dark(analyser: FaceAnalyser, portrait: Image.Image) -> None:
    dark = portrait.point(lambda value: value // 10)
    error = refusal(analyser, encode(dark))
    assert error.reason == PortraitReason.TOO_DARK


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_not_an_image(content: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.reason == PortraitReason.NOT_AN_IMAGE


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_truncated_image(portrait: Image.Image, form: str) -> None:
    content = encode(portrait, form)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError) as caught:
            decode(content[: int(len(content) * share)])
        assert caught.value.reason == PortraitReason.NOT_AN_IMAGE


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_unsupported_format(portrait: Image.Image, form: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(encode(portrait, form))
    assert caught.value.reason == PortraitReason.UNSUPPORTED_FORMAT
    assert caught.value.details["format"] == form


def test_decompression_bomb() -> None:
    content = encode(Image.new("1", (30000, 30000)))
    assert len(content) < 200_000
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.reason == PortraitReason.IMAGE_TOO_LARGE


def test_file_too_large() -> None:
    with pytest.raises(ImageError) as caught:
        decode(bytes(MAX_BYTES + 1))
    assert caught.value.reason == PortraitReason.IMAGE_TOO_LARGE


def test_a_hole_fills_smoothly_and_keeps_what_is_known() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.float32)
    image = np.repeat(np.broadcast_to(ramp, (64, 64))[..., None], 3, 2).copy()
    weight = np.ones((64, 64), np.float32)
    weight[20:44, 20:44] = 0
    filled = fill_outside(np.where(weight[..., None] > 0, image, 999), weight)
    assert np.array_equal(filled[:10], image[:10])
    assert np.abs(filled - image).max() < 40


def test_frame_inside_the_photo_has_no_padding() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (700, 800, 3), np.uint8)
    to_photo = np.array([[1, 0, 100], [0, 1, 50]], np.float32)
    frame, pad_mask = cut_frame(photo, to_photo)
    assert not pad_mask.any()
    assert np.array_equal(frame, photo[50 : 50 + FRAME, 100 : 100 + FRAME])


def test_missing_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(fetch_assets.AssetError, match="fetch_assets models"):
        FaceAnalyser(tmp_path)


def test_fetching_is_idempotent_and_mends_damage(tmp_path: Path) -> None:
    (path,) = fetch_assets.fetch("portrait", tmp_path)
    stamp = path.stat().st_mtime_ns
    fetch_assets.fetch("portrait", tmp_path)
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(b"damaged")
    fetch_assets.fetch("portrait", tmp_path)
    assert not fetch_assets.missing(fetch_assets.ASSETS["portrait"], tmp_path)


def test_unexpected_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = fetch_assets.AssetSet("scikit-image==0.26.0", {"skimage/data/astronaut.png": "0" * 64})
    monkeypatch.setitem(fetch_assets.ASSETS, "portrait", wrong)
    with pytest.raises(fetch_assets.AssetError, match="unexpected content"):
        fetch_assets.fetch("portrait", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_guessed_shoulder_that_looks_like_the_background_is_not_the_person() -> None:
    frame = np.full((512, 512, 3), (20, 18, 40), np.uint8)
    matte = np.zeros((512, 512), np.float32)
    angles = np.linspace(0, 2 * np.pi, 40)
    face = np.stack([256 + 80 * np.cos(angles), 220 + 100 * np.sin(angles)], 1)
    cv.ellipse(frame, (256, 220), (80, 100), 0, 0, 360, (200, 160, 140), -1)
    cv.ellipse(matte, (256, 220), (80, 100), 0, 0, 360, 1, -1)
    frame[330:, 300:] = (150, 120, 30)  # a coat
    matte[330:, 300:] = 1
    matte[330:, :210] = 0.7  # a guess
    matte[200:260, 230:280] = 0  # a hole in the face
    found = matting.refined(matte, frame, face)
    assert found[360:, :180].max() < 0.05
    assert found[350:, 320:].min() > 0.95
    assert found[200:260, 230:280].min() > 0.95


def test_a_hole_in_a_pattern_is_filled_with_the_pattern() -> None:
    ys, xs = np.mgrid[:256, :256]
    pattern = np.where((xs // 8 + ys // 8) % 2, 200, 60).astype(np.uint8)
    image = np.repeat(pattern[..., None], 3, 2)
    hole = np.zeros((256, 256), np.uint8)
    hole[100:160, 90:150] = 1
    holed = np.where(hole[..., None], 128, image).astype(np.uint8)
    filled, agreement = complete(holed, holed.astype(np.float32), hole)
    assert np.array_equal(filled[hole == 0], holed[hole == 0])
    assert np.abs(filled - image)[hole == 1].mean() < 25, "a smooth fill misses by 70"
    assert agreement[100:160, 90:150].mean() > 0.9
    again, _ = complete(holed, holed.astype(np.float32), hole)
    assert np.array_equal(filled, again)


def test_patches_of_what_does_not_repeat_are_told_to_fit_badly() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 6, 3), np.uint8)
    image = cv.resize(coarse, (256, 256), interpolation=cv.INTER_CUBIC)
    hole = np.zeros((256, 256), np.uint8)
    hole[80:180, 80:180] = 1
    _, agreement = complete(image, np.full((256, 256, 3), 128, np.float32), hole)
    assert agreement[80:180, 80:180].mean() < 0.5
