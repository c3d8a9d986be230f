"""Files made to harm who reads them: of every kind that the library reads, its own and others'."""

from __future__ import annotations

import atexit
import functools
import gzip
import io
import json
import os
import pickle
import shutil
import socket
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

import dd
from dd.base.files import json_text
from dd.base.jsons import BY_HAND, SEAL
from dd.data.images.adapters import from_webdataset
from dd.experts import load_recipe
from dd.synthetic import LabelStore
from scripts.campaigns import jobs
from scripts.campaigns.hostile import MARK, STEERING, Trial

CONSTANTS: Final = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
NAMES: Final = (
    *("red\x1b[31m", "two\nlines", "tab\tname", "return\rname", "\udcff\udcfe", "evil\u202egnp", "\u2028", "=1+1"),
    *("@x", "-1", "<script>", "a|b", " ", "x" * 255, "..x", "CON", "a\x9b"),
)
DEEP: Final = 100_000


class Evil:
    """Unpickling it leaves a mark."""

    def __reduce__(self) -> Any:
        return (open, (MARK, "w"))


# --- JSON of a wrong shape ------------------------------------------------------------------------------------------


def texts() -> dict[str, bytes]:
    """What is no file of ours, whatever its name."""
    deep = "[" * DEEP + "]" * DEEP
    return {
        "empty": b"",
        "null": b"null",
        "list": b"[]",
        "number": b"3",
        "text": b'"x"',
        "object": b"{}",
        "deep": deep.encode(),
        "deep in an object": f'{{"a": {deep}, "sha256": "by hand"}}'.encode(),
        "NaN": b'{"a": NaN, "sha256": "by hand"}',
        "digits": b'{"a": ' + b"9" * 10_000 + b', "sha256": "by hand"}',
        "bytes": bytes(range(256)),
        "controls": b'{"\\u001b[31m": 1, "sha256": "\\u001b[31m"}',
        "by hand": b'{"sha256": "by hand"}',
    }


_MADE: Final = Path(tempfile.mkdtemp(prefix="campaign-made-"))
atexit.register(shutil.rmtree, _MADE, ignore_errors=True)


def _once(make: Callable[[], object], name: str) -> None:
    """What `make` leaves in the current folder, with `OUT` under this name; made by the first trial that asks."""
    kept = _MADE / name
    if not kept.exists():
        make()
        jobs.OUT.rename(name)
        shutil.copytree(".", kept)
    else:
        shutil.copytree(kept, ".", dirs_exist_ok=True)


def _run() -> None:
    """A finished run with its report."""
    _once(jobs._reported, "run")


def _bench() -> None:
    _once(jobs.benchmarked, "board")


def _of_run() -> None:
    dd.load("run")
    dd.verify("run")
    dd.report("run")


def _again() -> object:
    Path("run").rename(jobs.OUT)
    return jobs.distilled(jobs.method("mtt"))()


READERS: Final[dict[str, tuple[Callable[[], None], Callable[[], object]]]] = {
    "run/run.json": (_run, _of_run),
    "run/report.json": (_run, _of_run),
    "run/log.jsonl": (_run, _of_run),
    "board/leaderboard.json": (_bench, lambda: (dd.verify("board"), dd.report("board"))),
}


def wrong_json() -> list[Trial]:
    """Other JSON in the place of each of the library's own, then single values of another type in it."""
    made = []
    for name, (before, call) in READERS.items():
        for kind, data in texts().items():
            harmless = name.endswith("jsonl")  # lines that end early are a killed run's
            made.append(Trial(f"JSON in {Path(name).name}", kind, call, _put(before, name, data), refused=not harmless))
        if not name.endswith("jsonl"):
            for kind in ("list", "text", "null", "number", "huge"):
                changed = _changed(before, name, kind)
                made.append(Trial(f"JSON in {Path(name).name}", f"every value a {kind}", call, changed, refused=False))
    for kind, data in texts().items():
        made.append(Trial("JSON in run.json", f"{kind}, gone on from", _again, _put(_run, "run/run.json", data), False))
        made.append(Trial("JSON of a manifest", kind, _labels, _put(_store, "labels/manifest.json", data)))
    for kind in ("list", "text", "null", "number", "huge"):
        changed = _changed(_store, "labels/manifest.json", kind)
        made.append(Trial("JSON of a manifest", f"every value a {kind}", _labels, changed))
    return made


def _put(before: Callable[[], object], name: str, data: bytes) -> Callable[[], object]:
    def work() -> None:
        before()
        Path(name).write_bytes(data)

    return work


def _changed(before: Callable[[], object], name: str, kind: str) -> Callable[[], object]:
    """A file in which all values but the format are of another type, knowingly."""
    value: Any = {"list": [[]], "text": "x\x1b", "null": None, "number": -1, "huge": 10**30}[kind]

    def work() -> None:
        before()
        told = json.loads(Path(name).read_text(encoding="utf-8"))
        told = {key: old if key == "format" else value for key, old in told.items()}
        Path(name).write_text(json.dumps({**told, SEAL: BY_HAND}), encoding="utf-8")

    return work


def _store() -> None:
    store = jobs.labelled(0).store
    assert store is not None
    store.save("labels")


def _labels() -> object:
    return LabelStore.load("labels")


# --- pickles, bombs and headers that lie ----------------------------------------------------------------------------


def _write(name: str, data: bytes) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)


def pickles() -> list[Trial]:
    """Code in files of each name that is read."""
    made = []
    readers: dict[str, Callable[[str], object]] = {
        "import_pt": lambda name: dd.import_pt(name, **CONSTANTS),
        "import_buffer": _buffered,
        "load": dd.load,
        "verify": dd.verify,
        "recipe": load_recipe,
    }
    ways: dict[str, Callable[[str], object]] = {
        f"protocol {p}": lambda name, p=p: _write(name, pickle.dumps(Evil(), protocol=p)) for p in range(6)
    }
    ways["torch, zipped"] = lambda name: torch.save([torch.zeros(1), Evil()], name)
    ways["torch, old"] = lambda name: torch.save([Evil()], name, _use_new_zipfile_serialization=False)
    for reader, read in readers.items():
        name = {"load": "x.safetensors", "verify": "x.safetensors", "recipe": "x.toml"}.get(
            reader, "replay_buffer_0.pt"
        )
        for way, write in ways.items():
            made.append(Trial("pickles", f"{way} for {reader}", _call(read, name), _call(write, name)))
    return made


def _call(function: Callable[[str], object], name: str) -> Callable[[], object]:
    return lambda: function(name)


def _buffered(name: str) -> object:
    store = dd.experts.ExpertStore(jobs.STORE, jobs.EXPERTS, jobs.pictures().all_train())
    return dd.import_buffer(name, store)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: bool = False) -> bytes:
    """A PNG of a header and some chunks; with `rows` its pixels are there, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b""
    if rows:
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(bytes(width * 3 + 1)) for _ in range(height)) + packer.flush()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, part) for kind, part in parts)


def _picture(kind: str, size: tuple[int, int] = (16, 16), **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind, **how)
    return stream.getvalue()


def _frames(count: int) -> bytes:
    stream, frames = io.BytesIO(), [Image.new("L", (16, 16), i % 256) for i in range(count)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def bombs() -> dict[str, Callable[[], bytes]]:
    """Pictures that are small files."""
    bomb = zlib.compress(bytes(300 * 2**20), 9)
    bmp = bytearray(_picture("BMP"))
    struct.pack_into("<ii", bmp, 18, 2**30, 2**30)
    tiff = _picture("TIFF").replace(struct.pack("<HHIH", 256, 4, 1, 16), struct.pack("<HHIH", 256, 4, 1, 65535))
    jpeg = bytearray(_picture("JPEG"))
    place = jpeg.find(b"\xff\xc0") + 5
    struct.pack_into(">HH", jpeg, place, 65_500, 65_500)
    gif = bytearray(_picture("GIF"))
    struct.pack_into("<HH", gif, 6, 65_535, 65_535)
    return {
        "a PNG that says 60,000 x 60,000": lambda: png(60_000, 60_000),
        "a PNG of 13,000 x 13,000": lambda: png(13_000, 13_000, rows=True),
        "a PNG of 1 x 64,000,001": lambda: png(64_000_001, 1),
        "a PNG with a text of 300 MB": lambda: png(16, 16, (b"zTXt", b"a\0\0" + bomb)),
        "a PNG with a profile of 300 MB": lambda: png(16, 16, (b"iCCP", b"a\0\0" + bomb)),
        "a PNG of 0 x 0": lambda: png(0, 0),
        "a BMP that says 2^30 x 2^30": lambda: bytes(bmp),
        "a TIFF that says more": lambda: tiff,
        "a JPEG that says 65,500 x 65,500": lambda: bytes(jpeg),
        "a GIF that says 65,535 x 65,535": lambda: bytes(gif),
        "PostScript": lambda: f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n({MARK}) (w) file\n%%EOF\n".encode(),
        "a PPM that says more": lambda: b"P6 60000 60000 255\n" + bytes(100),
        "a pickle": lambda: pickle.dumps(Evil()),
        "a zip": lambda: b"PK\x05\x06" + bytes(18),
        "nothing": lambda: b"",
        "zeros": lambda: bytes(10**6),
        "a PNG cut off": lambda: _picture("PNG")[:40],
    }


def _tree(
    extra: Callable[[Path], object] = lambda path: None, names: tuple[str, ...] = ("a", "b")
) -> Callable[[], None]:
    """Class folders with good pictures, and one that is not."""

    def work() -> None:
        for split in ("train", "test"):
            for k, name in enumerate(names):
                folder = Path("data") / split / name
                folder.mkdir(parents=True)
                for i in range(3):
                    Image.new("RGB", (16, 16), (10 * k, 10 * i, len(split))).save(folder / f"{i}.png")
        extra(Path("data/train") / names[0] / "x.png")

    return work


def _images() -> object:
    return dd.load_images("imagefolder:data", size=8)


def pictures() -> list[Trial]:
    """In class folders, in folders that are imported, and in tar shards."""
    made = []
    for name, data in bombs().items():
        before = _tree(lambda path, data=data: path.write_bytes(data()))
        made.append(Trial("pictures", name, _images, before))
        made.append(Trial("pictures", f"{name}, imported", _imported, before))
        made.append(
            Trial("pictures", f"{name}, in a shard", _shard, lambda data=data: _tar({"x.png": data(), "x.cls": b"0"}))
        )
    animated = _tree(lambda path: path.write_bytes(_frames(3000)))
    made.append(Trial("pictures", "3,000 frames", _images, animated, refused=False))
    alpha = _tree(lambda path: Image.new("RGBA", (7900, 8000)).save(path, compress_level=1))
    made.append(Trial("pictures", "as large as is read, transparent", _images, alpha, refused=False))
    return made


def _imported() -> object:
    return dd.import_folder("data/train", size=8, **CONSTANTS)


def _shard() -> object:
    return dd.load_images(from_webdataset("x.tar"))


def _tar(files: dict[str, bytes], name: str = "x.tar", mode: str = "w") -> None:
    with tarfile.open(name, mode) as tar:  # type: ignore[call-overload]
        for key, data in files.items():
            entry = tarfile.TarInfo(key)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


# --- tensors, archives, texts ---------------------------------------------------------------------------------------


def tensors() -> list[Trial]:
    """`.pt` files that are small on disk or hold no plain numbers, and headers of safetensors that lie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values: dict[str, Any] = {
            "stride 0": torch.zeros(1).expand(500_000, 3, 32, 32),
            "stride 0 in a list": [torch.zeros(1).expand(10**12)],
            "overlapping": torch.zeros(4000).as_strided((2000, 3, 30, 30), (1, 1, 1, 1)),
            "sparse": torch.sparse_coo_tensor(torch.zeros(4, 1, dtype=torch.int64), torch.ones(1), (10**4, 3, 99, 99)),
            "meta": torch.zeros(10**6, 3, 32, 32, device="meta"),
            "quantised": torch.quantize_per_tensor(torch.zeros(2, 3, 4, 4), 1.0, 0, torch.qint8),
            "complex": torch.zeros(2, 3, 4, 4, dtype=torch.complex64),
            "nested": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            "empty": torch.zeros(0, 3, 4, 4),
            "NaN": torch.full((2, 3, 4, 4), torch.nan),
            "a number": torch.tensor(3.0),
            "words": {"a\x1b": "b\x1b"},
        }
    made = [Trial("tensors", name, _pt, functools.partial(torch.save, v, "x.pt")) for name, v in values.items()]
    made.append(Trial("tensors", "packed", _pt, _packed))
    heads: dict[str, bytes] = {
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
        "a header of 90 MB": struct.pack("<Q", 90 * 2**20) + b'{"a":' + b" " * (90 * 2**20 - 6) + b"1}",
        "more than the file": _head({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}),
        "offsets below 0": _head({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
        "overlapping offsets": _head(
            {k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, bytes(4)
        ),
        "a shape of 10^30": _head({"a": {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4]}}, bytes(4)),
        "an unknown type": _head({"a": {"dtype": "X\x1b", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        "no metadata": _head({}),
        "deep metadata": _head({"__metadata__": {"dd": "[" * DEEP + "]" * DEEP}}),
        "metadata that is a list": _head({"__metadata__": {"dd": "[]"}}),
        "metadata with controls": _head({"__metadata__": {"dd": "\x1b[31m"}}),
    }
    for name, data in heads.items():
        for reader, read in (("load", dd.load), ("verify", dd.verify)):
            before = functools.partial(_write, "x.safetensors", data)
            made.append(Trial("headers", f"{name}, {reader}", _call(read, "x.safetensors"), before))
    return made


def _head(told: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + data


def _pt() -> object:
    return dd.import_pt("x.pt", ipc=1, lr=0.01, **CONSTANTS)


def _packed() -> None:
    torch.save(torch.zeros(100, 3, 999, 999), "y.pt")
    with zipfile.ZipFile("y.pt") as old, zipfile.ZipFile("x.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            with old.open(entry) as source, new.open(entry.filename, "w", force_zip64=True) as target:
                while part := source.read(2**20):
                    target.write(part)


def large() -> list[Trial]:
    """Texts that are large, or become so."""
    lists = b'{"a": [' + b"[]," * (35 * 2**20) + b'[]], "sha256": "by hand"}'
    toml = b"a" + b".a" * 50_000 + b" = 1\n"

    def run_json() -> None:
        _run()
        Path("run/run.json").write_bytes(lists)

    def log() -> None:
        _run()
        Path("run/log.jsonl").write_bytes(lists + b"\n")

    def bomb() -> None:
        with gzip.open("x.tar", "wb", 9) as file:
            entry = tarfile.TarInfo("x.png")
            entry.size = 2 * 2**30
            file.write(entry.tobuf())
            for _ in range(2048):
                file.write(bytes(2**20))
            file.write(bytes(1024))

    return [
        Trial("large texts", "100 MB of lists in run.json", _of_run, run_json),
        Trial("large texts", "100 MB of lists in a log", _of_run, log, refused=False),
        Trial("large texts", "100 MB of lists, verified", _call(dd.verify, "x.json"), lambda: _write("x.json", lists)),
        Trial("large texts", "deep TOML", _call(load_recipe, "./x.toml"), lambda: _write("x.toml", toml)),
        Trial("large texts", "TOML of 100 MB", _call(load_recipe, "./x.toml"), lambda: _write("x.toml", b"#" * 10**8)),
        Trial(
            "large texts",
            "TOML of lists",
            _call(load_recipe, "./x.toml"),
            lambda: _write("x.toml", b"a=" + b"[" * DEEP),
        ),
        Trial("large texts", "a shard of 2 GB in 2 MB", _shard, bomb),
        Trial("large texts", "a table of one line", _molecules, lambda: _write("x.csv", b"smiles,y\n" + b"C" * 10**7)),
        Trial(
            "large texts", "a table of quotes", _molecules, lambda: _write("x.csv", b'smiles,y\n"' + b"C,1\n" * 10**6)
        ),
    ]


def _molecules() -> object:
    return dd.load_graphs("smiles:x.csv")


# --- what is no file, and paths that lead elsewhere -----------------------------------------------------------------


def _special(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a socket":
        made = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(path.parent)
        made.bind(path.name)
        os.chdir(here)
        made.close()
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a circle":
        path.symlink_to(path.name)
    else:
        path.symlink_to({"a device": "/dev/zero", "a link to nothing": "nothing"}[kind])


KINDS: Final = ("a FIFO", "a socket", "a folder", "a circle", "a device", "a link to nothing")


def no_files() -> list[Trial]:
    """FIFOs, sockets, folders, links and devices in the place of each file."""
    made = []
    readers: dict[str, tuple[str, Callable[[], object], Callable[[], object]]] = {
        "a set": ("x.safetensors", jobs.nothing, _call(dd.load, "x.safetensors")),
        "what is verified": ("x.json", jobs.nothing, _call(dd.verify, "x.json")),
        "a .pt": ("x.pt", jobs.nothing, _pt),
        "a recipe": ("x.toml", jobs.nothing, _call(load_recipe, "./x.toml")),
        "a table": ("x.csv", jobs.nothing, _molecules),
        "a shard": ("x.tar", jobs.nothing, _shard),
        "a manifest": ("labels/manifest.json", _store, _labels),
        "a run.json": ("run/run.json", _run, _again),
    }
    for name, (path, before, call) in readers.items():
        for kind in KINDS:
            made.append(
                Trial("no files", f"{kind} for {name}", call, _replaced(before, path, kind), name != "a run.json")
            )
    for kind in KINDS:
        before = _tree(functools.partial(_special, kind=kind))
        made.append(Trial("no files", f"{kind} for a picture", _images, before, refused=False))
    return made


def _replaced(before: Callable[[], object], path: str, kind: str) -> Callable[[], object]:
    def work() -> None:
        before()
        _special(Path(path), kind)

    return work


def escapes() -> list[Trial]:
    """Names in files that lead out of their folder."""

    def manifest(name: str) -> Callable[[], object]:
        def work() -> None:
            _store()
            path = Path("labels/manifest.json")
            told = json.loads(path.read_text(encoding="utf-8"))
            told.pop(SEAL)
            text = json.dumps(told)
            shard = sorted(p.name for p in Path("labels").glob("*.safetensors"))[0]
            path.write_text(json_text(json.loads(text.replace(shard, name))), encoding="utf-8")

        return work

    names = ("../../canary", "/etc/passwd", "a/../../x.safetensors", "x\\u0000.safetensors", "", "\\u001b[31m")
    made = [Trial("escapes", f"a shard {name!r}", _labels, manifest(name)) for name in names]
    for name in ("../../canary", "/tmp/../x", "a\0", "..", "a\x1b/b"):
        made.append(Trial("escapes", f"a recipe {name!r}", functools.partial(dd.ExpertRecipe, name=name)))
    for name in ("../../../canary.png", "/canary.png"):
        files = {name: _picture("PNG"), name.replace("png", "cls"): b"0", "b.png": _picture("PNG"), "b.cls": b"1"}
        made.append(Trial("escapes", f"in a shard {name!r}", _shard, functools.partial(_tar, files), refused=False))
    return made


def names() -> list[Trial]:
    """Names of classes and of data: a run with each one is finished, loaded, told and exported."""

    def whole(data: Any) -> None:
        small = dd.distill(data, "random", ipc=1, out=jobs.OUT, progress=False)
        dd.evaluate(jobs.OUT, data, models=["mlp"], repeats=1, steps=1, baselines=(), progress=False)
        dd.report(jobs.OUT)
        dd.to_imagefolder(small, "tree")
        for path in jobs.OUT.rglob("*"):
            if path.suffix in (".html", ".json", ".jsonl"):
                text = path.read_text(encoding="utf-8")
                assert not STEERING.search(text)

    def pair(name: str) -> None:
        images = torch.rand(12, 3, 8, 8), torch.arange(12) % 2
        test = torch.rand(4, 3, 8, 8), torch.arange(4) % 2
        whole(dd.Images(train=images, test=test, classes=[name, "b"], name=name))

    made = [Trial("names", f"{_told(n)} from Python", functools.partial(pair, n), refused=False) for n in NAMES]
    for name in ("", "x" * 10_000, "nul\0"):
        made.append(Trial("names", f"{_told(name)} from Python", functools.partial(pair, name), refused=False))
    for name in NAMES:
        before = _tree(names=(name, "b"))
        made.append(Trial("names", f"{_told(name)} of a folder", lambda: whole(_images()), before, refused=False))
    return made


def _told(name: str) -> str:
    from dd.base.texts import shown

    return shown(name, 20)


def every() -> list[Trial]:
    """All of them."""
    parts = (wrong_json, pickles, pictures, tensors, large, no_files, escapes, names)
    return [trial for part in parts for trial in part()]
