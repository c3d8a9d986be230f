"""HTML for a notebook: what others wrote is text, tables and pictures are bounded."""

from __future__ import annotations

import dataclasses
import io
import typing

import pytest
from PIL import Image

import dd
from dd.base.markup import ROWS, Pictures, Told, data_url, image, paragraph, table
from dd.errors import InputError

EVIL = '<script>alert(\'1\')</script>" onload="x" & \x1b[31m'


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, format="PNG")
    return stream.getvalue()


def test_every_text_is_escaped() -> None:
    made = paragraph(EVIL) + image(png(), EVIL, EVIL) + table([EVIL, "n"], [[EVIL, EVIL]])
    assert "<script" not in made
    assert 'onload="x"' not in made
    assert "\x1b" not in made
    assert made.count("&lt;script&gt;") == 6


def test_a_table_shows_so_many_rows_and_says_how_many_there_are() -> None:
    made = table(["a", "b"], [[str(i), "1"] for i in range(ROWS + 5)])
    assert made.count("<tr>") == ROWS + 1
    assert f"{ROWS} of {ROWS + 5} rows" in made
    assert "of" not in table(["a", "b"], [["1", "2"]]).replace("overflow", "")
    assert "overflow-x:auto" in made


def test_pictures_are_a_dict_that_a_notebook_shows() -> None:
    made = Pictures({"grid": png(), "loss": b"<svg xmlns='http://www.w3.org/2000/svg'/>"})
    assert made["grid"] == png()
    assert repr(made) == f"Pictures(grid: {len(png()):,} bytes of PNG, loss: 41 bytes of SVG)"
    shown = made._repr_html_()
    assert shown.count("<img") == 2
    assert "data:image/png;base64," in shown
    assert "data:image/svg+xml;base64," in shown
    assert "<figcaption>loss</figcaption>" in shown
    assert "figcaption" not in Pictures({"grid": png()})._repr_html_()


def test_other_bytes_are_no_picture() -> None:
    with pytest.raises(InputError, match="`curve` must be the bytes of a PNG or SVG file; got b'GIF89a'"):
        data_url(b"GIF89a", "curve")


def test_an_answer_is_its_first_line_at_the_prompt_and_all_lines_in_a_notebook() -> None:
    @dataclasses.dataclass(repr=False)
    class Answer(Told):
        words: str

        def __str__(self) -> str:
            return self.words

    assert repr(Answer("mtt on digits\n0.5 <b>")) == "Answer(mtt on digits)"
    assert repr(Answer("")) == "Answer()"
    assert Answer("mtt\n0.5 <b>")._repr_html_() == '<pre style="overflow-x:auto">mtt\n0.5 &lt;b&gt;</pre>'


def test_every_answer_of_a_measure_is_one() -> None:
    verbs = (
        dd.adversarial,
        dd.calibration,
        dd.continual,
        dd.membership,
        dd.neighbours,
        dd.rank_architectures,
        dd.robustness,
    )
    answers = [typing.get_type_hints(verb)["return"] for verb in verbs]
    assert all(answer.__repr__ is Told.__repr__ for answer in answers), answers
