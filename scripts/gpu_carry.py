"""What `gpu_check.sh` carries to a machine without network: wheels, and 15,000 pictures of CIFAR-10, at most 64 MiB.

    sh scripts/gpu_check.sh pack --root DATA [--python 3.12] [--bare]

The pictures are the first 1,300 training and 200 test images of each class, lossless WebP in one `.npz` (25 MB). The
wheels are those that torch's own images tend to lack; most are pure Python, `safetensors` is one file for every Python
from 3.10 on, `kornia-rs` is for the Python that is named. `--bare` adds numpy and pillow. The wheel of
torchvision belongs to one version of torch and is not carried, nor is scipy: on a machine without them the parts that
need them are told as failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from scripts.gpu_check import need_folder

ROOT: Final = Path(__file__).resolve().parents[1]
MOST: Final = 64 * 2**20
WHEELS: Final = {
    "safetensors": "safetensors",
    "kornia": "kornia",
    "kornia-rs": "kornia_rs",
    "filelock": "filelock",
    "tqdm": "tqdm",
    "pytest": "pytest",
    "pluggy": "pluggy",
    "iniconfig": "iniconfig",
    "packaging": "packaging",
    "pygments": "pygments",
}
"""Distribution → the module by which it is known to be there already."""
BARE: Final = {"numpy": "numpy", "pillow": "PIL"}
PLATFORMS: Final = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
A_CLASS: Final = {"train": 1300, "test": 200}
ACROSS: Final = 50
"""Pictures in a row of a sheet."""


def sheets(images: Any) -> list[bytes]:
    """Pictures uint8 `[N, 3, H, W]`, N a multiple of `ACROSS`, as lossless WebP of up to 1,000 each."""
    from PIL import Image

    made = []
    for part in images.split(20 * ACROSS):
        grid = part.unflatten(0, (-1, ACROSS)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        into = io.BytesIO()
        Image.fromarray(grid.contiguous().numpy()).save(into, "WEBP", lossless=True, quality=50, method=3)
        made.append(into.getvalue())
    return made


def pictures_of(found: Sequence[bytes], size: int = 32) -> Any:
    """What `sheets` was given."""
    import numpy as np
    import torch
    from PIL import Image

    parts = []
    for data in found:
        with Image.open(io.BytesIO(data)) as sheet:
            grid = torch.from_numpy(np.array(sheet.convert("RGB")))
        parts.append(grid.unflatten(0, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3).flatten(0, 1))
    return torch.cat(parts).contiguous()


def pack_pictures(real: Any, path: Path, a_class: dict[str, int] = A_CLASS) -> None:
    """Keep the first pictures of each class of both splits."""
    import numpy as np
    import torch

    kept: dict[str, Any] = {}
    for name, count in a_class.items():
        split = getattr(real, name)
        rows = torch.cat([(split.labels == k).nonzero().flatten()[:count] for k in range(real.num_classes)])
        kept[f"{name}_labels"] = split.labels[rows].to(torch.uint8).numpy()
        for i, sheet in enumerate(sheets(split.subset(rows).images)):
            kept[f"{name}_{i:03d}"] = np.frombuffer(sheet, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **kept)


def unpack_pictures(path: Path, size: int = 32) -> dict[str, tuple[Any, Any]]:
    """Split → (pictures uint8 `[N, 3, H, W]`, labels int64 `[N]`)."""
    import numpy as np
    import torch

    made = {}
    with np.load(path, allow_pickle=False) as kept:
        for name in A_CLASS:
            names = sorted(key for key in kept.files if key.startswith(f"{name}_") and key != f"{name}_labels")
            images = pictures_of([kept[key].tobytes() for key in names], size)
            made[name] = images, torch.from_numpy(kept[f"{name}_labels"]).long()
    return made


def download(folder: Path, python: str, names: Sequence[str]) -> None:
    """Fetch wheels for CPython on 64-bit Linux with pip."""
    folder.mkdir(parents=True, exist_ok=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    words = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    where = ["--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *words, *platforms, *where, *names], check=True)


def install(folder: Path, target: Path) -> list[str]:
    """Install those wheels of a folder whose modules are not there, into a folder of their own; their names."""
    lacking = []
    for name, module in {**WHEELS, **BARE}.items():
        found = sorted(folder.glob(f"{name.replace('-', '_')}-*.whl"))
        if found and importlib.util.find_spec(module) is None:
            lacking.append(str(found[-1]))
    if lacking:
        words = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(target)]
        subprocess.run([sys.executable, "-m", "pip", "install", *words, *lacking], check=True)
    return lacking


def total(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, help="folder of the data set")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu_carry")
    parser.add_argument("--python", default="3.12", help="of the other machine")
    parser.add_argument("--bare", action="store_true", help="also numpy and pillow")
    parser.add_argument("--no-wheels", action="store_true", help="the pictures alone")
    parser.add_argument("--install", type=Path, help="there: the folder of wheels of which to install what is missing")
    parser.add_argument("--target", type=Path, help="into which folder")
    args = parser.parse_args(argv)
    if args.install is None:
        need_folder(parser, args.out)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Pack, or install what is missing."""
    args = parsed(argv)
    if args.install is not None:
        print("installed:", *install(args.install, args.target) or ["nothing"], file=sys.stderr)
        return 0
    import dd

    pack_pictures(dd.load_images("cifar10", root=args.root).all_train(), args.out / "pictures.npz")
    if not args.no_wheels:
        download(args.out / "wheels", args.python, [*WHEELS, *(BARE if args.bare else ())])
    size = total(args.out)
    print(f"{args.out}: {size / 2**20:.1f} MiB of at most {MOST >> 20}")
    return int(size > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
