"""Any PIL image as pixels: orientation, transparency, depth, frames; the same through every door."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps, features
from reference.folders import folder
from reference.pictures import Items
from torch import Tensor
from torchvision.datasets import ImageFolder

from dd.data import Images, load_images
from dd.data.images.adapters import from_hf, from_webdataset
from dd.data.images.pictures import extensions, picture, shown_size
from dd.errors import DamagedError, InputError
from dd.exchange.importers import import_folder

NOISE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def stored(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def opened_path(path: str) -> Image.Image:
    return opened(Path(path).read_bytes())


def oriented(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


# --- orientation


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_pillow_turns_it(kind: str, turn: int) -> None:
    data = stored(Image.fromarray(NOISE), kind, exif=oriented(turn))
    expected = np.array(ImageOps.exif_transpose(opened(data)))
    found = picture(opened(data), "x")
    assert torch.equal(found, torch.from_numpy(expected).movedim(-1, 0))
    assert shown_size(opened(data)) == found.shape[1:] == ((6, 4) if turn > 4 else (4, 6))


def test_the_corner_of_a_picture_on_its_side() -> None:
    """Orientation 6: the viewer turns it clockwise, so that the stored lower left corner is shown at the upper left."""
    found = picture(opened(stored(Image.fromarray(NOISE), "PNG", exif=oriented(6))), "x")
    assert found[:, 0, 0].tolist() == NOISE[-1, 0].tolist()
    assert found[:, 0, -1].tolist() == NOISE[0, 0].tolist()


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0", oriented(9), oriented(0)])
def test_a_damaged_orientation_says_nothing(exif: bytes | Image.Exif) -> None:
    found = picture(opened(stored(Image.fromarray(NOISE), "PNG", exif=exif)), "x")
    assert torch.equal(found, torch.from_numpy(NOISE).movedim(-1, 0))


# --- transparency


def test_transparent_parts_are_white_whatever_colour_they_hide() -> None:
    alpha = np.array([[0, 255, 128, 0, 1, 254]] * 4, dtype=np.uint8)
    image = Image.fromarray(np.dstack([NOISE, alpha]))
    a = alpha[..., None] / 255
    expected = torch.from_numpy(NOISE * a + 255 * (1 - a)).movedim(-1, 0)
    for each in (image, image.convert("RGBa"), opened(stored(image, "PNG")), opened(stored(image, "TIFF"))):
        exact = each.mode == "RGBA"  # RGBa has multiplied and rounded before
        assert float((picture(each, "x") - expected).abs().max()) <= (0.51 if exact else 1.51)
    other = np.where(alpha[..., None] == 0, 255 - NOISE, NOISE)
    assert torch.equal(picture(image, "x"), picture(Image.fromarray(np.dstack([other, alpha])), "x"))


def test_grey_with_transparency_stays_grey() -> None:
    values = np.dstack([NOISE[..., 0], np.where(NOISE[..., 1] < 128, 0, 255).astype(np.uint8)])
    expected = torch.from_numpy(np.where(values[..., 1] == 0, 255, values[..., 0]))[None]
    for image in (Image.fromarray(values, "LA"), Image.frombytes("La", (6, 4), values.tobytes())):
        found = picture(image, "x")
        assert found.shape == (1, 4, 6)
        assert torch.equal(found[values[None, ..., 1] == 255], expected[values[None, ..., 1] == 255])
    assert torch.equal(picture(Image.fromarray(values, "LA"), "x"), expected)


def palette(size: tuple[int, int] = (2, 1)) -> Image.Image:
    """Entry 0 red, entry 1 blue, in turns."""
    image = Image.new("P", size)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([i % 2 for i in range(size[0] * size[1])])
    return image


def keyed(png: bytes, grey: int) -> bytes:
    """A grey PNG with a transparent value, which old Pillows read and do not write."""
    chunk = b"tRNS" + struct.pack(">H", grey)
    key = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + key + png[33:]  # after the header


WHITE, BLUE = [255, 255, 255], [0, 0, 255]
KEYED: dict[str, tuple[bytes, list[list[int]]]] = {
    "palette, one entry": (stored(palette(), "PNG", transparency=0), [WHITE, BLUE]),
    "palette, alphas": (stored(palette(), "PNG", transparency=b"\x00\xff"), [WHITE, BLUE]),
    "GIF": (stored(palette(), "GIF", transparency=0), [WHITE, BLUE]),
    "colour": (stored(palette().convert("RGB"), "PNG", transparency=(255, 0, 0)), [WHITE, BLUE]),
    "grey": (stored(Image.fromarray(np.array([[7, 9]], np.uint8)), "PNG", transparency=7), [[255], [9]]),
    "one bit": (stored(Image.new("1", (2, 1)), "PNG", transparency=0), [[255], [255]]),
    "16 bits": (keyed(stored(Image.fromarray(np.array([[70, 2570]], np.uint16)), "PNG"), 70), [[255], [10]]),
}


@pytest.mark.parametrize("case", KEYED)
def test_a_transparent_colour_is_white(case: str) -> None:
    data, expected = KEYED[case]
    assert picture(opened(data), "x")[:, 0].T.tolist() == expected


def test_a_palette_with_alpha_is_on_white() -> None:
    image = palette().convert("PA")
    image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
    assert image.mode == "PA"
    assert picture(image, "x")[:, 0].T.tolist() == [WHITE, BLUE]


# --- depth


def tiff_of_12_bits(values: tuple[int, int]) -> bytes:
    """A grey TIFF of two pixels, 12 bits each."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags)
    pixels = (values[0] << 12 | values[1]).to_bytes(3, "big")
    return b"II*\0" + struct.pack("<I", 12) + pixels + b"\0" + struct.pack("<H", len(tags)) + directory + bytes(4)


def test_sixteen_bits_are_scaled() -> None:
    values = np.array([[0, 257, 128 * 257, 65535, 128, 129]], dtype=np.uint16)
    expected = [0, 1, 128, 255, 0, 1]
    image = Image.fromarray(values)
    pgm = b"P5 6 1 65535\n" + values.astype(">u2").tobytes()
    big = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    for each in (image, opened(stored(image, "PNG")), opened(stored(image, "TIFF")), opened(pgm), big):
        assert picture(each, "x").tolist() == [[expected]]
    on_its_side = opened(stored(image, "PNG", exif=oriented(6)))
    assert picture(on_its_side, "x").tolist() == [[[v] for v in expected]]
    assert picture(opened(tiff_of_12_bits((4095, 1000))), "x").tolist() == [[[255, 62]]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_an_unknown_full_scale_is_refused_for_its_true_reason(mode: str, tmp_path: Path) -> None:
    values = Image.fromarray(np.array([[0.0, 200.0]], dtype=np.float32 if mode == "F" else np.int32))
    for i in range(4):
        path = tmp_path / f"train/{'ab'[i % 2]}/{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        values.save(path)
    reason = rf"must be of 8 or 16 bits a channel; got .* \(PIL mode '{mode}'\), whose full scale no file says\. Scale"
    with pytest.raises(InputError, match=r"`image .*train/a/0\.tif` " + reason):
        folder(tmp_path)
    with pytest.raises(InputError, match=r"`data\[0\] image` " + reason):
        load_images(Items([values] * 4, [0, 1, 0, 1]))
    assert picture(values.convert("L"), "x").tolist() == [[[0, 200]]]  # the way out, from 0 … 255


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_colours_become_rgb(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    assert torch.equal(picture(image, "x"), torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0))


# --- files


def test_the_first_frame_is_the_picture() -> None:
    first, second = (Image.new("RGB", (3, 2), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "PNG", "TIFF"):
        data = stored(first, kind, save_all=True, append_images=[second])
        assert opened(data).n_frames == 2  # type: ignore[attr-defined]
        assert picture(opened(data), "x")[:, 0, 0].tolist() == [255, 0, 0]


def test_extensions_are_those_that_this_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".tif", ".ppm"} <= extensions()
    assert not {".ps", ".eps", ".h5", ".mpg", ".wmf", ".pdf", ".txt", ".heic", ""} & extensions()
    for name in ("avif", "webp"):
        assert (f".{name}" in extensions()) == (name in features.get_supported())
    monkeypatch.setattr(features, "check", lambda name: False)
    assert not {".avif", ".webp", ".jp2"} & extensions()
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")  # what a plugin does
    assert ".heic" in extensions()


def test_half_a_picture_is_none_whatever_the_caller_lets_pillow_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / part).mkdir(parents=True)
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / part / "0.png")
    whole = (tmp_path / "train/a/0.png").read_bytes()
    (tmp_path / "train/a/0.png").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DamagedError, match=r"0\.png"):
        load_images(f"imagefolder:{tmp_path}", size=8)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_truncated_picture_of_a_dataset_is_named() -> None:
    data = stored(Image.fromarray(np.tile(NOISE, (9, 9, 1))), "PNG")
    with pytest.raises(DamagedError, match=r"^data\[0\] image cannot be read \(.*\)\. Restore it from the source"):
        load_images(Items([opened(data[: len(data) // 2])] * 4, [0, 1, 0, 1]))


# --- the same picture through every door

DOORS: dict[str, Callable[[Path], Tensor]] = {
    "imagefolder:": lambda base: folder(base).all_train().train.pixels(),
    "imagefolder:, read when asked for": lambda base: folder(base, limit=1).all_train().train.pixels(),
    "torchvision's ImageFolder": lambda base: whole(
        ImageFolder(str(base / "train"), loader=opened_path, is_valid_file=os.path.isfile)
    ),
    "Dataset of PIL": lambda base: whole(Items([opened(path.read_bytes()) for path in paths(base)], [0, 0, 1, 1])),
    "from_hf": lambda base: whole(
        from_hf([{"image": opened(p.read_bytes()), "label": int(p.parent.name)} for p in paths(base)])
    ),
    "from_webdataset": lambda base: whole(from_webdataset(shard(base))),
    "import_folder": lambda base: import_folder(base / "train", mean=(0.0,) * 3, std=(1.0,) * 3).pixels(),
}


def paths(base: Path) -> list[Path]:
    return sorted((base / "train").rglob("*.*"))


def whole(data: object) -> Tensor:
    return load_images(Images(train=data)).all_train().train.pixels()


def shard(base: Path) -> Path:
    with tarfile.open(base / "all.tar", "w") as tar:
        for path in paths(base):
            for name, data in ((path.name, path.read_bytes()), (f"{path.stem}.cls", path.parent.name.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return base / "all.tar"


def colours() -> tuple[list[bytes], list[np.ndarray]]:
    alpha = np.where(NOISE[..., :1] < 128, 0, 255).astype(np.uint8)
    turned = np.rot90(NOISE, -1)
    files = [
        stored(Image.fromarray(np.dstack([NOISE, alpha])), "PNG"),
        stored(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=oriented(8)),
        stored(palette((6, 4)), "GIF", transparency=0),
        stored(Image.fromarray(NOISE), "TIFF"),
    ]
    blue = np.array([i % 2 for i in range(24)]).reshape(4, 6, 1)
    return files, [np.where(alpha == 0, 255, NOISE), NOISE, np.where(blue == 1, [0, 0, 255], 255), NOISE]


def greys() -> tuple[list[bytes], list[np.ndarray]]:
    grey, alpha = NOISE[..., 0], np.where(NOISE[..., 1] < 128, 0, 255).astype(np.uint8)
    files = [
        stored(Image.fromarray(np.dstack([grey, alpha]), "LA"), "PNG"),
        stored(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        stored(Image.fromarray(grey > 127), "PNG"),
        stored(Image.fromarray(np.ascontiguousarray(np.rot90(grey, -1))), "PNG", exif=oriented(8)),
    ]
    return files, [np.where(alpha == 0, 255, grey), grey, np.where(grey > 127, 255, 0), grey]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("made", [colours, greys])
def test_a_picture_is_the_same_through_every_door(
    made: Callable[[], tuple[list[bytes], list[np.ndarray]]], door: str, tmp_path: Path
) -> None:
    files, expected = made()
    for i, data in enumerate(files):
        path = tmp_path / f"train/{i // 2}/{i}.{opened(data).format.lower()}"  # type: ignore[union-attr]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = (DOORS[door](tmp_path).expand(-1, 3, -1, -1) * 255).round().to(torch.uint8)
    for row, values in zip(found, expected, strict=True):
        shown = torch.tensor(values).reshape(4, 6, -1).expand(4, 6, 3)
        assert torch.equal(row, shown.to(torch.uint8).movedim(-1, 0))
