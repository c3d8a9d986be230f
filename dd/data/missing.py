"""What is said of the files of a card that are not there, whatever the card is of."""

from __future__ import annotations

from pathlib import Path

from dd.data.card import Card
from dd.data.graphs.card import GraphCard
from dd.data.nodes.card import NodeCard


def missing_files(card: Card | GraphCard | NodeCard, store: Path, places: list[Path], download: bool) -> str:
    """Where was looked, the layout, and the way to get them."""
    if card.downloadable:
        way = "Give `download=True` (`--download`) to fetch it"
    else:
        asked = " (`download` was given)" if download else ""
        where = (
            "PyG does that, as the last line of that layout says"
            if isinstance(card, NodeCard)
            else f"get it from {card.url}"
        )
        way = f"It is not fetched by this library{asked}: {where}"
    looked = ", ".join(str(place) for place in places)
    return (
        f"the files of {card.name!r} are not there; looked for {card.marker} in {looked}. Expected layout:\n"
        f"{card.layout}\n(ROOT is {store}). {way}, or give the folder that has it as `root=`."
    )
