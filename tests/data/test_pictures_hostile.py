"""Pictures that would take the memory, the time or the machine of who reads them."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

import dd
from dd.data.images.adapters import from_webdataset
from dd.data.images.folders import Files
from dd.data.images.hashes import file_hashes
from dd.data.images.pictures import MOST_PIXELS, open_picture, picture


def header_of(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be as large as that."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (60_000, 60_000), (2**31 - 1, 1), (64_000_001, 1)])
def test_a_large_picture_is_refused_by_its_header(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(header_of(width, height))
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(
        dd.InputError, match=r"at most 64,000,000 pixels; got .*Resize it, or raise the bound: set DD_MAX"
    ):
        open_picture(path, "x")
    assert Image.MAX_IMAGE_PIXELS == before


def test_the_bound_can_be_raised_and_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(header_of(20_000, 20_000))
    monkeypatch.setenv("DD_MAX_PIXELS", "400_000_000")
    with open_picture(path, "x") as image:
        assert image.size == (20_000, 20_000)
    monkeypatch.setenv("DD_MAX_PIXELS", "63")
    with pytest.raises(dd.InputError, match="a picture of at most 63 pixels; got 8 x 8 = 64"):
        picture(Image.new("RGB", (8, 8)), "x")
    monkeypatch.setenv("DD_MAX_PIXELS", "many")
    with pytest.raises(dd.InputError, match=r"`DD_MAX_PIXELS` must be a whole number"):
        picture(Image.new("RGB", (8, 8)), "x")
    assert MOST_PIXELS == 64_000_000


def test_a_file_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    for way in (lambda: open_picture(tmp_path / "fifo.png", "x"), lambda: file_hashes(tmp_path, ["fifo.png"])):
        with pytest.raises(dd.DamagedError, match="is no regular file"):
            way()
    assert isinstance(Files(tmp_path, ["fifo.png"], None)[0], dd.DamagedError)


def test_no_other_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript under the name of a PNG: Pillow would start Ghostscript."""
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(dd.DamagedError, match="cannot be read"):
        open_picture(path, "x")
    with pytest.raises(dd.DamagedError, match="cannot be read"), Image.open(path) as image:
        picture(image, "x")


def test_pictures_in_tar_shards_have_the_same_bound(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in (("a.png", header_of(20_000, 20_000)), ("a.cls", b"0")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(dd.InputError, match="at most 64,000,000 pixels"):
        from_webdataset(tmp_path / "x.tar")[0]


def test_a_shard_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(dd.DamagedError, match="it is a FIFO, not a file"):
        from_webdataset(tmp_path / "x.tar")


def test_a_shard_that_expands_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dd.data.images.adapters.MOST_MEMBER", 1000)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("a.png")
        entry.size = 1001
        tar.addfile(entry, io.BytesIO(bytes(1001)))
    with pytest.raises(dd.InputError, match=r"`a.png` in .* must be of at most 1,000 bytes; got 1,001"):
        from_webdataset(tmp_path / "x.tar.gz")
