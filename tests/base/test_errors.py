"""Names in tables: found whatever their capitals, refused with those there are and one that is written alike."""

from __future__ import annotations

from typing import Any

import pytest

import dd
from dd.data import load_card, load_graph_card
from dd.errors import InputError, find_name, unknown, warn


def test_names_are_found_whatever_their_capitals() -> None:
    assert find_name("method", "SRe2L++", ("sre2l", "sre2l++")) == "sre2l++"
    assert find_name("data set", "imdb-binary", ("IMDB-BINARY",)) == "IMDB-BINARY"
    for name in ("mt", "", 3, None):
        with pytest.raises(InputError, match=r"unknown method .*; known: ftd, mtt\."):
            find_name("method", name, ("mtt", "ftd"))


def test_an_unknown_name_offers_one_that_is_written_alike() -> None:
    assert (
        str(unknown("data set", "nci2", ("NCI1", "DD")))
        == "unknown data set 'nci2'; known: DD, NCI1. Did you mean NCI1?"
    )
    assert str(unknown("norm", "xyz", ("batch",), "Or none.")) == "unknown norm 'xyz'; known: batch. Or none."


def test_capitals_of_data_and_methods_do_not_matter() -> None:
    assert load_card("CIFAR10") == load_card("cifar10")
    assert load_graph_card("nci1").name == "NCI1"
    made = dd.distill("Digits", "Random", ipc=1, progress=False)
    assert (made.provenance["dataset"], made.method["name"]) == ("digits", "random")


def test_a_warning_names_the_line_outside_the_library() -> None:
    inner: dict[str, Any] = {"__name__": "dd.inner", "warn": warn}
    exec(compile("def deep():\n    warn('so it is')\ndef verb():\n    deep()", "inner.py", "exec"), inner)
    with pytest.warns(UserWarning, match="so it is") as seen:
        inner["verb"]()
    assert seen[0].filename == __file__
