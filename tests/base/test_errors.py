"""Names in tables: found however they are spelled, refused with those there are and one that is written alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dd
from dd.contest.contest import given_lr
from dd.data import about, load_card, load_graph_card
from dd.data.kinds import is_graph_data
from dd.errors import InputError, find_name, known_as, refuse, unknown, warn
from dd.evaluation.scores import METRICS
from dd.methods import METHODS
from dd.models.graphs.spec import GraphSpec
from dd.models.images.spec import ModelSpec


def test_names_are_found_whatever_their_capitals() -> None:
    assert find_name("method", "SRe2L++", ("sre2l", "sre2l++")) == "sre2l++"
    assert find_name("data set", "imdb-binary", ("IMDB-BINARY",)) == "IMDB-BINARY"
    for name in ("mt", "", 3, None):
        with pytest.raises(InputError, match=r"unknown method .*; known: ftd, mtt\."):
            find_name("method", name, ("mtt", "ftd"))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("CIFAR-10", "cifar10"),
        ("Cifar_10", "cifar10"),
        ("cifar 100", "cifar100"),
        ("Fashion_MNIST", "fashion-mnist"),
        ("FashionMNIST", "fashion-mnist"),
        ("TinyImageNet", "tiny-imagenet"),
        ("nci-1", "NCI1"),
        ("imdb_binary", "IMDB-BINARY"),
        ("Digits Graphs", "digits-graphs"),
    ],
)
def test_data_is_called_by_its_card_however_it_is_spelled(given: str, name: str) -> None:
    known = about(given)
    assert known.name == name
    assert known.card == (known.kind == "images")
    assert is_graph_data(given) == (known.kind == "graphs")
    card = load_graph_card(given) if known.kind == "graphs" else load_card(given)
    assert card.name == name


@pytest.mark.parametrize("name", ["", "-", "++", "\0", "\U0001f431", "a" * 10_000, "../cifar10/..", "digits/"])
def test_what_is_no_name_is_refused_as_one(name: str) -> None:
    with pytest.raises(InputError, match="unknown data set"):
        about(name)
    assert not is_graph_data(name)


def test_two_names_that_are_spelled_alike_are_told_apart_or_not_at_all() -> None:
    names = ("a-b", "ab", "c-d", "c_d")
    assert [known_as(name, names) for name in ("A-B", "AB", "a_b", "c-d", "CD")] == ["a-b", "ab", None, "c-d", None]
    assert known_as("", ("-",)) is None
    assert known_as("--", ("-",)) is None
    assert known_as(None, names) is None
    assert known_as("sre2lpp", METHODS) == "sre2l++"
    assert known_as("SRE2L", METHODS) == "sre2l"
    assert known_as("K-Center", METHODS) == "k_center"


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: about("cifra10"), "cifar10"),
        (lambda: about("mutagg"), "MUTAG"),
        (lambda: about("digitgraph"), "digits-graphs"),
        (lambda: dd.describe("rdde"), "rded"),
        (lambda: dd.cite("mirag"), "mirage"),
        (lambda: ModelSpec.parse("resent18"), "resnet18"),
        (lambda: ModelSpec.parse("convnet(widht=3)"), "width"),
        (lambda: GraphSpec.parse("saeg"), "sage"),
        (lambda: dd.load_recipe("cpu-digit-mtt"), "cpu-digits-mtt"),
        (lambda: dd.distill("digits", "ftd", preset="papr"), "paper"),
        (lambda: dd.distill("digits", "random", protocol="papper"), "paper"),  # type: ignore[arg-type]
        (lambda: dd.distill("digits", "ftd", iteration=3), "iterations"),
        (lambda: dd.distill("digits", "random", train={"stepz": 3}), "steps"),
        (lambda: dd.benchmark("digits", ["ftdd"]), "ftd"),
        (lambda: given_lr("tunde"), "tuned"),
        (lambda: find_name("metric", "acuracy", METRICS), "accuracy"),
    ],
)
def test_what_was_meant_is_offered_wherever_a_word_is_asked_for(call: Callable[[], object], hint: str) -> None:
    with pytest.raises(InputError, match=rf"Did you mean {hint}\?"):
        call()


def test_networks_and_recipes_are_found_however_they_are_spelled() -> None:
    assert ModelSpec.parse("ConvNet(width=32)") == ModelSpec.parse("convnet(width=32)")
    assert ModelSpec.of("ResNet-18") == ModelSpec("resnet18")
    assert GraphSpec.parse("GIN(width=32)") == GraphSpec.parse("gin(width=32)")
    assert dd.load_recipe("CPU_digits_MTT") == dd.load_recipe("cpu-digits-mtt")


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


def test_an_article_goes_with_its_word() -> None:
    got = {
        "a Images": "an Images",
        "a int": "an int",
        "a uint8 array": "a uint8 array",
        "a one-hot row": "a one-hot row",
    }
    for text, told in {**got, "a Tensor": "a Tensor", "an array": "an array"}.items():
        assert str(refuse("x", "a set", text)).endswith(f"; got {told}.")
