"""HTML for a notebook: tables and pictures in one piece, every text escaped; no script, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from dd.base.texts import printable
from dd.errors import refuse

ROWS: Final = 200
"""Of a table in a notebook, at most."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"


def kind_of(picture: bytes, argument: str = "picture") -> str:
    """`png` or `svg`, by how the bytes of a picture begin.

    Raises:
        InputError: neither; `argument` is named.
    """
    if picture.startswith(_PNG):
        return "png"
    if picture.lstrip().startswith((b"<?xml", b"<svg")):
        return "svg"
    raise refuse(argument, "the bytes of a PNG or SVG file", f"{picture[:8]!r}…")


def data_url(picture: bytes, argument: str = "picture") -> str:
    """The bytes of a PNG or SVG file as a URL that holds them.

    Raises:
        InputError: neither; `argument` is named.
    """
    kind = {"svg": "svg+xml"}.get(kind_of(picture, argument), "png")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def text(value: object) -> str:
    """A text as HTML that shows it as it is."""
    return escape(printable(str(value)))


def paragraph(value: object) -> str:
    """A text as a paragraph, its lines kept."""
    return f'<p style="white-space:pre-line;margin:.3em 0">{text(value)}</p>'


def image(picture: bytes, alt: str, caption: str = "") -> str:
    """A PNG or SVG file as a picture no wider than the page, with a line below it where a `caption` is given."""
    shown = f'<img alt="{text(alt)}" src="{data_url(picture)}" style="max-width:100%;height:auto">'
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure style="margin:.5em 0">{shown}{below}</figure>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table that scrolls by itself where it is wider than the page: the first `texts` columns left, numbers right.

    Args:
        heads: of the columns.
        rows: cells; beyond `ROWS` of them a last line says how many there are.
        texts: columns that are no numbers.
    """
    plain, number = (f"padding:.2em .8em .2em 0;text-align:{side}" for side in ("left", "right;white-space:nowrap"))
    styles = [plain if place < texts else number for place in range(len(heads))]

    def line(kind: str, cells: Sequence[str]) -> str:
        pairs = zip(styles, cells, strict=True)
        return "<tr>" + "".join(f'<{kind} style="{style}">{text(cell)}</{kind}>' for style, cell in pairs) + "</tr>"

    top, body = line("th", heads), "".join(line("td", row) for row in rows[:ROWS])
    rest = paragraph(f"{ROWS} of {len(rows):,} rows") if len(rows) > ROWS else ""
    whole = f"<table><thead>{top}</thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x:auto">{whole}</div>{rest}'


class Told:
    """An answer that prints as lines of text: at the prompt its first one, in a notebook all of them as they are."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({(str(self).splitlines() or [''])[0]})"

    def _repr_html_(self) -> str:
        return f'<pre style="overflow-x:auto">{text(self)}</pre>'


class Pictures(dict[str, bytes]):
    """Pictures by name, the bytes of PNG or SVG files; a notebook shows them."""

    def __init__(self, pictures: Mapping[str, bytes]) -> None:
        super().__init__(pictures)

    def __repr__(self) -> str:
        told = (f"{name}: {len(data):,} bytes of {kind_of(data).upper()}" for name, data in self.items())
        return f"Pictures({', '.join(told)})"

    def _repr_html_(self) -> str:
        return join(image(data, name, name if len(self) > 1 else "") for name, data in self.items())


def join(parts: Iterable[str]) -> str:
    """Parts as one."""
    return f"<div>{''.join(parts)}</div>"
