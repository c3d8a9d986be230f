"""Small trees of pictures on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dd.data import Images, load_images


def paint(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """Write one random picture of (H, W) and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 4 if mode in ("CMYK", "RGBA") else 3)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.frombytes(mode, (size[1], size[0]), values.tobytes()).save(path)
    return values


def tree(base: Path, splits: dict[str, int], classes: tuple[str, ...] = ("cat", "dog", "owl")) -> Path:
    """An ImageFolder of 8×8 PNG files, so that pixels are exact."""
    for split, n in splits.items():
        for k, name in enumerate(classes):
            for i in range(n):
                paint(
                    base / split / name / f"{i}.png",
                    seed=100 * k + i + 1000 * (split == "test"),
                )
    return base


def folder(base: Path, **options: object) -> Images:
    return load_images(f"imagefolder:{base}", **options)  # type: ignore[arg-type]
