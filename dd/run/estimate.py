"""`estimate`: what a run will cost, of the arguments of `distill`."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.process import under_own_settings
from dd.base.progress import announce
from dd.base.shapes import filled
from dd.cost.estimate import Estimate
from dd.cost.known import estimated, estimator_of
from dd.data import Graphs, Images, Nodes, Source, about
from dd.data.card import list_cards
from dd.data.graphs.blank import blank_graphs
from dd.data.graphs.card import load_graph_card
from dd.data.images.blank import blank
from dd.data.images.load import card_of
from dd.data.images.resize import check_aspect
from dd.data.nodes.card import load_node_card
from dd.data.nodes.load import blank_nodes
from dd.errors import MissingError, find_name, known_as, refuse
from dd.evaluation.selection import Protocol
from dd.methods import METHODS, Method, class_of, need_method
from dd.run.resolve import Tier, load_real, opened, resolve_device, told_of


@under_own_settings
def estimate(
    data: object,
    method: str | Method,
    *,
    preset: Tier = "auto",
    protocol: Protocol = "clean",
    calibrate: bool = False,
    device: str | torch.device | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    **fields: Any,
) -> Estimate:
    """Disk, memory and time of a run before it starts; nothing is written.

    Of a card its counts are enough: no file of the data needs to be there. For data of one's own that are not there
    yet see `dd.blank_images`.

    Args:
        calibrate: measure this machine for about ten seconds, in place of assumed rates. Counted are processor seconds,
            and the quickest of several trials, so that other programs do not matter; on the card's data where they are
            there, which tells what it takes to read them, else on noise of their shape.
        method: as in `distill`, or a value of one's own with a method `estimate(real, device, calibrate)`.
        data, preset, protocol, device, root, download, size, aspect, **fields: as in `distill`.

    Raises:
        InputError: a method of one's own without an estimate; and as `distill`.
        MissingError: graphs that are not there and whose card does not count their nodes, or to be calibrated on.
    """
    given, target = locals(), resolve_device(device)
    name = find_name("method", method, METHODS) if isinstance(method, str) else need_method(method).name
    predict = estimator_of(class_of(name) if isinstance(method, str) else type(method))
    if predict is None:
        known = f"one of {', '.join(estimated())}, or one with a method `estimate(real, device, calibrate)`"
        raise refuse("method", known, name)
    read = partial(_counted, calibrate=calibrate)
    asked = opened(data, method, filled(Source, given), protocol, preset, target, fields, read)
    made = predict(asked.method, asked.real, target, calibrate)
    return dataclasses.replace(made, of=told_of(asked)) if isinstance(made, Estimate) else made


def _counted(data: object, source: Source, protocol: Protocol, calibrate: bool) -> Images | Graphs | Nodes:
    """The data; of a card's that are not there, or need not be read, as much as is counted there."""
    known = about(data, source.root)
    if not isinstance(data, str) or not (known.card or known.kind != "images"):
        return load_real(data, source, protocol)
    counted: Images | Graphs | Nodes | None = _of_card(data, source, protocol) if known.kind == "images" else None
    if counted is not None and not calibrate:
        return counted
    try:
        return load_real(data, source, protocol)
    except MissingError:
        card, own = known_as(data, list_cards("graphs")), known_as(data, list_cards("nodes"))
        if card is not None and not calibrate:
            counted = blank_graphs(load_graph_card(card))
        if own is not None:
            counted = blank_nodes(load_node_card(own))
        if counted is None:
            raise
    if calibrate:
        announce(f"{known.name} is not here: measured on noise of its shape")
    return counted


def _of_card(name: str, source: Source, protocol: Protocol) -> Images | None:
    """Noise of a card's shape and counts; `None` where it does not count its training images, or they come with us."""
    card = card_of(name)
    count = card.counts.get("train")
    if count is None or card.kind == "embedded":
        return None
    check_aspect(source.aspect or "crop")
    test = card.counts.get("test", 0)
    real = blank(
        card.classes, count, test, card.channels, card.size if source.size is None else source.size, card.name, card
    )
    return real.all_train() if protocol == "paper" else real
