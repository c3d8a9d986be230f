"""Pictures of pixels: rows with their names on one sheet, as PNG and SVG. Equal input gives equal bytes.

Backgrounds are transparent and text is a middle grey, so that both read on a white and on a dark page.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

INK: Final = "#7f848c"
"""Contrast of at least 3.7 on white and on #16181d."""
SIDE: Final = (48, 128)
"""In px: sides below the first are enlarged by a whole number, above the second reduced to it."""

_GAP: Final = 3
_LETTERS: Final = 18


def preview_png(pixels: Tensor, classes: Sequence[str]) -> bytes:
    """Pixels in [0, 1] or uint8 `[K, n, C, H, W]` as a PNG like `grid`'s: at most ten images of a hundred classes."""
    shown = pixels[:100, :10]
    scale = default_scale(max(shown.shape[3:]))
    cell = (max(1, round(shown.shape[4] * scale)), max(1, round(shown.shape[3] * scale)))
    rows = [[picture(x, cell) for x in row] for row in shown]
    return as_png(paste(rows, classes[: len(rows)], cell, shown.shape[1], ""))


def paste_rows(rows: Sequence[Sequence[Tensor]], names: Sequence[str], left_out: str, together: int = 1) -> Image.Image:
    """Pixels in [0, 1] `[C, H, W]`, a row a class with its name, every `together` of them side by side."""
    height, width = next(x for row in rows for x in row).shape[1:]
    scale = default_scale(max(height, width))
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    joined = []
    for row in rows:
        pictures = [picture(x, cell) for x in row]
        joined.append([_side_by_side(pictures[i : i + together]) for i in range(0, len(pictures), together)])
    whole = (cell[0] * together, cell[1])
    return paste(joined, names, whole, max(len(row) for row in joined), left_out)


def paste(
    rows: Sequence[Sequence[Image.Image]],
    names: Sequence[str],
    cell: tuple[int, int],
    columns: int,
    left_out: str,
) -> Image.Image:
    """The rows with their names, folded into blocks, and a last line where something is left out."""
    font = _font(max(11, min(16, cell[1] // 3)))
    texts = [short(name) for name in names]
    margin = math.ceil(max(font.getlength(text) for text in texts)) + 8
    line = max(cell[1], math.ceil(font.size) + 2) + _GAP
    block = margin + columns * (cell[0] + _GAP) + 8
    blocks = max(1, round(math.sqrt(len(rows) * line / block)))
    deep = -(-len(rows) // blocks)
    blocks = -(-len(rows) // deep)
    foot = math.ceil(font.size) + 10 if left_out else 0
    width = max(blocks * block, math.ceil(font.getlength(left_out)) + 8)
    sheet = Image.new("RGBA", (width, deep * line + foot), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    for k, (text, row) in enumerate(zip(texts, rows, strict=True)):
        x, y = k // deep * block, k % deep * line
        draw.text((x + margin - 5, y + (line - _GAP) // 2), text, fill=INK, font=font, anchor="rm")
        for i, part in enumerate(row):
            sheet.paste(part, (x + margin + i * (cell[0] + _GAP), y))
    if left_out:
        draw.text((4, deep * line + 4), left_out, fill=INK, font=font, anchor="lt")
    return sheet


def picture(x: Tensor, cell: tuple[int, int]) -> Image.Image:
    """Pixels `[C, H, W]` in [0, 1] or uint8 at `cell` = (width, height)."""
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    x = x if len(x) == 3 else x.mean(0, keepdim=True).expand(3, -1, -1)
    values = (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    larger = cell[0] >= values.shape[1]
    how = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return Image.fromarray(values).resize(cell, how)


def default_scale(side: int) -> float:
    """Size on a sheet in units of the picture's own, see `SIDE`."""
    low, high = SIDE
    return max(1, round(low / side)) if side <= high else high / side


def short(name: str, most: int = _LETTERS) -> str:
    """A name of at most so many letters; by default, those for which there is room beside a picture."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    for place, part in enumerate(pictures):
        sheet.paste(part, (place * part.width, 0))
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters everywhere, Greek and Cyrillic too."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)


def as_png(sheet: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file without time or software."""
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_svg(sheet: Image.Image | bytes) -> bytes:
    """A raster picture (or the bytes of its PNG) inside an SVG file of its size, its pixels kept sharp."""
    if isinstance(sheet, Image.Image):
        sheet = as_png(sheet)
    width, height = Image.open(io.BytesIO(sheet)).size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{base64.b64encode(sheet).decode()}"/></svg>\n'
    ).encode()
