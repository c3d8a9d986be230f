"""A value that an option cannot have, in the one line in which every other refusal is."""

from __future__ import annotations

import ast
import re
from typing import Final

from dd.errors import InputError, refuse

_FRAME: Final = re.compile("[╭╮╰╯│]|─{2,}")
_OPTION: Final = r"Error parsing (?:-\w/)?(\S+): "
_EITHER: Final = re.compile(_OPTION + r"no type matching (.+?) could be instantiated from (\[.*?\])\.")
_ALONE: Final = re.compile(
    _OPTION + r"(?:invalid literal for (int)\(\) with base 10|could not convert string to (float)): ('.*?'|\".*?\")"
)
_CHOICE: Final = re.compile(
    r"invalid choice ('.*?'|\".*?\") for argument '(?:-\w/)?(\S+?)'\. Expected one of (\(.+?\))\."
)
_KINDS: Final = {"INT": "a whole number", "FLOAT": "a number", "int": "a whole number"}
_KINDS_OF: Final = {"INT": "whole numbers", "FLOAT": "numbers"}


def fault_of(text: str, prog: str) -> InputError | None:
    """What a framed text of tyro says of a value, as an `InputError`; `None` where it says another thing.

    Args:
        text: what tyro has written.
        prog: the words that `--help` is written behind.
    """
    plain = " ".join(_FRAME.sub(" ", re.sub("\x1b\\[[0-9;]*m", "", text)).split())
    way_out = f"`{prog} --help` tells what it is."
    if found := _EITHER.search(plain):
        kinds = [_told(kind) for kind in re.split(r"\|(?![^{]*\})", found[2])]
        return refuse(found[1], " or ".join(kinds), " ".join(ast.literal_eval(found[3])), way_out)
    if found := _ALONE.search(plain):
        return refuse(found[1], _KINDS.get(found[2] or "", "a number"), ast.literal_eval(found[4]), way_out)
    if found := _CHOICE.search(plain):
        known = " or ".join(f"`{word}`" for word in ast.literal_eval(found[3]))
        return refuse(found[2], known, ast.literal_eval(found[1]), way_out)
    return None


def _told(kind: str) -> str:
    """A metavariable of tyro in words: `{[INT INT [INT INT ...]]}`."""
    if many := re.fullmatch(r"\{\[(\w+)( \1)? \[\1(?: \1)? \.\.\.\]\]\}", kind):
        whole = _KINDS_OF.get(many[1], f"some {many[1]}")
        return f"pairs of {whole}" if many[2] else whole
    if words := re.fullmatch(r"\{(\w+(?:,\w+)*)\}", kind):
        return " or ".join("None" if word == "None" else f"`{word}`" for word in words[1].split(","))
    return _KINDS.get(kind, kind)
