"""`ddistill list`, and what the command line says of methods and data by their cards alone: torch is not loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from dd.base.progress import say
from dd.data.card import list_cards
from dd.errors import refuse
from dd.experts.names import recipe_names
from dd.methods.cards import read_card
from dd.methods.table import METHODS
from dd.methods.telling import cite, describe
from dd.models.table import GNNS, MODELS, NODE_NETS

if TYPE_CHECKING:
    from dd.cli.options import Answer

HELP: Final = ("-h", "--help")


def methods_for(kind: str) -> list[str]:
    """The methods for data of a kind, in the order of `METHODS`."""
    return [name for name in METHODS if read_card(name).kind == kind]


def run_list(argv: Sequence[str]) -> Answer:
    """The verb: names of all there is, or what one method is, or how it is cited."""
    method, citing, json = _read(list(argv))
    if citing and not method:
        raise refuse("--cite", "given with a method", "none", "Try `ddistill list mtt --cite`.")
    if method:
        text = cite(method) if citing else describe(method)
        if not json:
            say(text)
        return {"method": method, "text": text, "json": json}
    tables: dict[str, Any] = {
        "methods": sorted(METHODS),
        "datasets": list(list_cards()),
        "graphs": list(list_cards("graphs")),
        "nodes": list(list_cards("nodes")),
        "models": sorted(MODELS),
        "graph models": sorted(GNNS),
        "node models": sorted(NODE_NETS),
        "recipes": recipe_names(),
    }
    if not json:
        say("\n".join(f"{kind}: {', '.join(names)}" for kind, names in tables.items()))
    return {**tables, "json": json}


def _read(words: list[str]) -> tuple[str, bool, bool]:
    """(METHOD or empty, `--cite`, `--json`); all but these plain words is read, and refused, by tyro."""
    switches = {word for word in words if word in ("--cite", "--json")}
    names = [word for word in words if word not in switches]
    if len(names) > 1 or any(name.startswith("-") for name in names) or len(words) > len(switches) + len(names):
        from dd.cli.verbs import list_options

        options = list_options(words)
        return options.method, options.cite, options.json
    return "".join(names), "--cite" in switches, "--json" in switches
