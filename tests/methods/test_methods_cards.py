"""Every method has a whole card, and what is no card is refused by name and place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dd
from dd.base.schema import KINDS
from dd.errors import DamagedError, InputError, MissingError
from dd.methods import METHODS, RandomReal, cards, kind_of
from dd.methods.cards import COSTS, card
from dd.methods.presets import preset

FOLDER = Path(dd.__file__).parent / "methods" / "_cards"
GOOD = """
title = "Own"
paper = { authors = "One, Two", title = "Own", venue = "ICML", year = 2024, url = "https://example.org/own" }
bibtex = "@misc{own, title = {Own}}"
when = "Take this when you try the card."
cost = "nothing"
role = "method"
tiny = { ipc = 1 }
rows = [{ dataset = "default", tier = "cpu", settings = true, run = "no", source = "none", train = { steps = 7 } }]
"""


def test_every_method_has_a_card_and_every_card_a_method() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_a_card_has_every_entry(name: str) -> None:
    known = card(name)
    assert known.name == name
    assert known.title
    assert known.when.startswith("Take this when ")
    assert ". " not in known.when  # one sentence
    assert known.cost in COSTS
    assert known.kind == kind_of(name)
    assert preset(name, None, None if kind_of(name) != "images" else known.rows[-1].get("ipc", 5), "cpu")
    if known.paper is None:
        assert (known.role, known.bibtex) == ("baseline", "")
        return
    entry = known.bibtex
    assert entry.count("{") == entry.count("}")
    assert f"title = {{{known.paper.title}}}" in entry
    assert f"year = {{{known.paper.year}}}" in entry
    authors = re.search(r"author = \{(.*)\}", entry)
    assert authors is not None
    assert known.paper.authors.split(", ") == [one.split(",")[0] for one in authors.group(1).split(" and ")]


def test_who_are_the_baselines() -> None:
    assert [name for name in METHODS if card(name).role == "baseline"] == [
        "random",
        "class_mean",
        "herding",
        "k_center",
    ]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the card of a method `own`, in a folder of its own."""

    def make(**fields: Any) -> RandomReal:
        return RandomReal(**{"name": "own", **fields})

    monkeypatch.setitem(METHODS, "own", make)
    monkeypatch.setattr(cards, "FOLDERS", [*cards.FOLDERS, tmp_path])
    cards._read.cache_clear()
    return tmp_path / "own.toml"


def test_the_card_of_a_further_folder_is_read(own: Path) -> None:
    own.write_text(GOOD)
    assert str(card("OWN").paper) == "One, Two: Own. ICML 2024. https://example.org/own"
    assert METHODS["own"](**preset("own", "digits", 3).fields).train.steps == 7  # type: ignore[attr-defined]


def test_a_method_without_a_card_says_what_is_missing(own: Path) -> None:
    text = r"the method 'own' has no card .*own\.toml\. Write it as CONTRIBUTING\.md says, or give `dd\.distill` the M"
    for call in (dd.describe, dd.cite, lambda name: dd.distill("digits", name, ipc=1)):
        with pytest.raises(MissingError, match=text):
            call("own")
    assert len(dd.distill("digits", RandomReal(name="theirs", ipc=1), progress=False)) == 10


REQUIRED = ("title", "when", "cost", "role", "tiny", "rows")


@pytest.mark.parametrize("name", REQUIRED)
def test_a_card_without_a_required_entry_is_refused(own: Path, name: str) -> None:
    assert set(REQUIRED) == {key for key in KINDS["method"].form.form.form.form if not key.endswith("?")}
    own.write_text("\n".join(line for line in GOOD.splitlines() if not line.startswith(f"{name} =")))
    with pytest.raises(
        DamagedError, match=rf"own\.toml is no card of a method: `{name}` must be .*; got nothing\. CON"
    ):
        card("own")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('when = "Take this', 'when = "Use it', "`when` must be a sentence of the form `Take this when …"),
        ('cost = "nothing"', 'cost = "cheap"', "`cost` must be 'nothing' or 'teachers' or 'experts'; got 'cheap'"),
        ("year = 2024", 'year = "2024"', "`paper.year` must be a whole number in 1900…2100; got '2024'"),
        ("https://", "", "`paper.url` must be an address that begins with https://; got 'example.org/own'"),
        ("@misc{", "{", "`bibtex` must be an entry of BibTeX"),
        ("run = ", "ran = ", "`rows[0].run` must be a text; got nothing"),
        ('tier = "cpu"', 'tier = "gpu"', "`rows[0].tier` must be 'paper' or 'cpu'; got 'gpu'"),
        ('dataset = "default"', 'dataset = "digits"', 'have one for two cores and any data: dataset = "default"'),
        ("train = {", "trian = {", "`rows[0].trian` must be a field of own (factor, mirror, storage, train, whiten)"),
        ("tiny = { ipc", "tiny = { icp", "`tiny.icp` must be a field of own (factor, mirror, storage, train, whiten)"),
        ("role =", 'kind = "graphs"\nrole =', "`kind` must be 'images', that of own; got 'graphs'"),
        ("role =", 'kind = "sounds"\nrole =', "`kind` must be 'images' or 'graphs' or 'nodes'; got 'sounds'"),
        ("role =", 'whan = "x"\nrole =', "no other entries than title, paper, bibtex, when"),
        ("bibtex = ", "# ", "a card with `paper` and `bibtex`; only a baseline may have neither"),
        ("title = ", "title ", "is not TOML"),
    ],
)
def test_a_faulty_card_is_refused_by_name_and_place(own: Path, old: str, new: str, text: str) -> None:
    assert old in GOOD
    own.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(DamagedError) as refused:
        card("own")
    assert text in str(refused.value)
    assert "own.toml" in str(refused.value)


def test_a_card_is_asked_for_by_the_name_of_a_method() -> None:
    with pytest.raises(InputError, match=r"unknown method 'mtta'; known: .* Did you mean mtt\?"):
        card("mtta")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return tomllib.loads(path.read_text(encoding="utf-8"))["rows"]


def test_only_published_rows_have_published_figures() -> None:
    for path in FOLDER.glob("*.toml"):
        assert all(row["tier"] == "paper" for row in rows_of(path) if "published" in row)
