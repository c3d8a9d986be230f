"""Arguments become values once: a device, a data set, a method with its preset."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

import torch

from dd.base.bounds import check_memory
from dd.base.devices import check_device
from dd.base.progress import Progress, announce
from dd.base.shapes import BY_CLASS, check_name, check_whole
from dd.cost.known import estimator_of
from dd.data import About, Images, Source, about, list_cards, load_images
from dd.data.graphs.card import load_graph_card
from dd.data.graphs.graphs import Graphs
from dd.data.images.resize import check_aspect
from dd.data.nodes.custom import check_edges
from dd.data.nodes.nodes import Nodes
from dd.errors import InputError, find_name, near, refuse
from dd.evaluation.selection import Protocol
from dd.methods import (
    METHODS,
    Method,
    class_of,
    kind_of,
    names_of,
    need_method,
    need_told,
    one_of,
    own_network,
)
from dd.methods.presets import DEFAULT, Preset, preset, replace_fields
from dd.methods.table import is_ours
from dd.models import MODELS, check_size, is_own_name
from dd.synthetic import AnySet, TrainRecipe

PLAIN: Final = Source()
"""Data as it is where nobody says how it is read."""
KINDS: Final = {"images": "images", "graphs": "graphs", "nodes": "one graph whose nodes have classes"}
"""Kinds of data in words."""
MEASURED: Final = "measured here"
"""How the source of a row begins that says an accuracy."""
Tier = Literal["auto", "paper", "cpu"]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the GPU where there is one; in a torchrun, `cuda` is that of the local rank."""
    if device is None and not torch.cuda.is_available():
        return torch.device("cpu")
    found = torch.device("cuda") if device is None else check_device(device)
    rank = os.environ.get("LOCAL_RANK", "")
    if str(found) == "cuda" and rank.isdecimal():
        return torch.device("cuda", int(rank) % torch.cuda.device_count())
    return found


@final
@dataclass(frozen=True)
class Opened:
    """What the arguments of a run mean, each read once.

    Attributes:
        real: the data.
        method: the value.
        row: the preset whose fields it has; `None` of a value that was given.
    """

    real: Images | Graphs | Nodes
    method: Method
    row: Preset | None


def opened(
    data: object,
    method: str | Method,
    source: Source,
    protocol: Protocol,
    tier: Tier,
    device: torch.device,
    fields: Mapping[str, Any],
    read: Callable[[object, Source, Protocol], Images | Graphs | Nodes] | None = None,
) -> Opened:
    """The method and its preset, then the data, by `read` or `load_real`, as the preset's row says where nobody does.

    Raises:
        InputError: see `resolve_method` and `load_real`; or more than the memory of the machine holds.
    """
    value, row = resolve_method(method, data, tier, device, fields, source.root)
    if source.aspect is not None:
        check_aspect(source.aspect)
    elif row is not None and about(data, source.root).card:
        source = dataclasses.replace(source, aspect=row.aspect)
    real = (read or load_real)(data, source, protocol)
    _check_fits(value, real, device)
    _check_trained(value, real)
    return Opened(real, value, row)


def announce_preset(run: Opened, device: torch.device, progress: bool | Progress | None) -> None:
    """Say which preset a run has and what it will cost, where it has one that sets something."""
    if (row := run.row) is None or row.fields.keys() <= {"ipc"}:
        return
    others = _others(run.method, row)
    measured = bool(others) and row.source.startswith(MEASURED)  # its accuracy is not that of this run
    source = "this library" if measured else row.source or "no source"
    text = f"{run.method.name} on {run.real.name}: preset `{row.tier}` ({source}"
    text += "" if row.settings else ", settings not verified"
    text += ")" if row.run or source.startswith(MEASURED) else ", never run here in full)"
    if others:
        text += f", but for {', '.join(f'`{name}`' for name in others)}"
    if row.tier == "paper" and row.fields.get("storage") == "fp32" and "storage" not in others:
        text += ", images in float32"
    text += _other_split(run.real) if row.tier == "paper" else ""
    if (predict := estimator_of(type(run.method))) is not None:
        text += f"; {predict(run.method, run.real, device, calibrate=False)}"
    announce(text, progress)


def _other_split(real: Images | Graphs | Nodes) -> str:
    """That graphs of a card are not split as in the published code, and how they are; else nothing."""
    if not isinstance(real, Graphs) or real.name not in list_cards("graphs"):
        return ""
    card = load_graph_card(real.name)
    if not card.published or real.rule == ("published" if card.published != "same" else card.rule):
        return ""
    way = "split='published' (`--split published`)"
    return f", on split {real.split} ({real.rule}): published numbers are of {way}"


def told_of(run: Opened) -> str:
    """A run in words: method, data, images a class, and the preset with what was changed in it."""
    text, ipc, row = f"{run.method.name} on {run.real.name}", getattr(run.method, "ipc", None), run.row
    text += f", ipc {ipc}" if isinstance(ipc, int) else ""
    if row is None:
        return f"{text}, fields as given"
    text += f", preset `{row.tier}` of {'any data' if row.dataset == DEFAULT else row.dataset}"
    others = [f"`{name}`" for name in _others(run.method, row)]
    return text + (f", but for {', '.join(others)}" if others else "")


def _others(value: Any, row: Preset) -> list[str]:
    """Fields in which a method of a preset was changed."""
    whole: Any = METHODS[row.method](**row.fields)
    names = [field.name for field in dataclasses.fields(whole)]
    return [name for name in names if getattr(value, name) != getattr(whole, name)]


def resolve_method(
    method: str | Method,
    data: object,
    tier: Tier,
    device: torch.device,
    fields: Mapping[str, Any],
    root: str | Path | None = None,
) -> tuple[Method, Preset | None]:
    """A `Method` value from a name and its preset, or the value itself, for data that need not be read yet.

    Raises:
        InputError: an unknown name, preset row or field; fields beside a `Method` value; a method for images with
            graphs, or the other way round.
    """
    if isinstance(method, str):
        name = find_name("method", method, METHODS)
        known = about(data, root)
        _check_kind(name, kind_of(name), known, data)
        row = preset_for(name, known.name, tier, device, fields)
        made = replace_fields(METHODS[name](**row.fields), one_of(name, fields))
        check_name(made.name, "name")
        return made, row
    need_method(method)
    if fields:
        raise InputError(
            f"fields ({', '.join(sorted(fields))}) go with a method's name; got a {type(method).__name__} "
            "value. Put them into the value."
        )
    check_name(method.name, "name")
    need_told(method)
    if tier != "auto":
        raise refuse("preset", "left out beside a Method value, whose fields are set", repr(tier), "Or give a name.")
    _check_kind(method.name, method.kind, about(data, root), data)
    return method, None


def preset_for(name: str, dataset: str | None, tier: Tier, device: torch.device, fields: Mapping[str, Any]) -> Preset:
    """The preset of a method; for images it depends on `ipc`, and on whether there is a GPU."""
    if class_of(name).budget != "ipc":
        return preset(name, dataset, None, tier, gpu=False)
    ipc = fields.get("ipc", default_ipc(name))
    if isinstance(ipc, Mapping) and name in BY_CLASS:  # of rows, that of the largest class
        ipc = max([1, *(count for count in ipc.values() if type(count) is int)])  # what is wrong is said later
    return preset(name, dataset, check_whole(ipc, "ipc"), tier, gpu=device.type == "cuda")


def check_precision(precision: str, method: Method) -> None:
    """Refuse what would do nothing; of a method of one's own nobody can say.

    Raises:
        InputError: a precision beside `fp32` for a method that matches neither trajectories nor distributions.
    """
    from dd.methods import DistributionMatching, TrajectoryMatching

    matching = isinstance(method, TrajectoryMatching | DistributionMatching)
    if precision != "fp32" and not matching and is_ours(method):
        told = "left out but for methods that match trajectories or distributions"
        raise refuse("precision", told, f"{precision!r} for `{method.name}`")


def _check_fits(method: Method, real: Images | Graphs | Nodes, device: torch.device) -> None:
    """Refuse what the method knows to be wrong with the data, or would need far more memory than the machine has.

    Raises:
        InputError: with both figures, or as the method's `check_fits` says.
    """
    ipc = getattr(method, "ipc", None)
    if real.kind == "images" and isinstance(ipc, int):
        _check_images_fit(method, real, ipc)
    if (own := getattr(method, "check_fits", None)) is not None:
        own(real, device)


def _check_trained(method: Method, real: Images | Graphs | Nodes) -> None:
    """Refuse a network that nobody could train on the set of a method, before the set is made.

    Raises:
        InputError: no such network, one that does not take such pictures, or a name that is none of the library's and
            not that of the method's own network.
    """
    recipe = getattr(method, "train", None)
    if not (isinstance(recipe, TrainRecipe) and isinstance(real, Images) and is_ours(method)):
        return
    if not is_own_name(recipe.model):
        channels, *size = real.train.shape
        check_size(recipe.model, channels, len(real.classes), (size[0], size[1]))
    elif str(own_network(method)) != recipe.model:
        way_out = near(recipe.model, MODELS) + "A network of your own is given where the set is trained, as `models`."
        raise refuse("train", "with the name of a network as `model`", f"{recipe.model!r}, which is none", way_out)


def _check_images_fit(method: Method, real: Images, ipc: int) -> None:
    canvas, (channels, height, width) = getattr(method, "canvas", 1), real.train.shape
    copies = getattr(getattr(method, "layout", None), "copies", 1)
    pixels = [len(real.classes), copies, channels, height * canvas, width * canvas]
    check_memory(f"{ipc:,} images a class and their gradient", [2, ipc, *pixels], "Lower `ipc`.")


def default_ipc(method: str) -> int:
    """Images a class where nobody says how many: as the class of the method has it."""
    return int(getattr(class_of(method), "ipc", 0))


def published_aspect(
    data: object, method: object, tier: Tier, device: torch.device, fields: Mapping[str, Any]
) -> Literal["crop", "squash"] | None:
    """How the preset's row wants the pictures of a card brought to one size; `None` where it says nothing.

    What is wrong with the arguments is said by those that take them.
    """
    with contextlib.suppress(InputError):
        if isinstance(method, str) and (known := about(data)).card:
            return preset_for(find_name("method", method, METHODS), known.name, tier, device, fields).aspect
    return None


def _check_kind(method: str, kind: str, data: About, given: object) -> None:
    """Refuse data of another kind than the method is for."""
    if kind != data.kind:
        if data.kind == "images":  # which is what is not known as anything else
            check_edges(given)
        known, got = ", ".join(names_of(data.kind)), repr(data.name)
        if "nodes" in (kind, data.kind):
            got += f", which is {KINDS[data.kind]}"
        way_out = f"For this data there are: {known}."
        raise refuse("data", f"{KINDS.get(kind, kind)} for the method {method!r}", got, way_out)


def only_images(real: Images | Graphs | Nodes, what: str) -> Images:
    """The data, unless it is graphs."""
    if real.kind != "images":
        raise refuse("data", f"images for {what}", real.kind)
    return real


def source_like(small: AnySet, data: object, source: Source) -> Source:
    """How data that a set is judged on is read: as the set's was; pictures of one's own come at its size.

    A card and `Images` have a size of their own, and keep it.
    """
    size = source.size
    if size is None and small.kind == "images" and not isinstance(data, Images):
        known = about(data, source.root)
        size = small.size if known.kind == "images" and not known.card else None
    if source.aspect is not None:
        check_aspect(source.aspect)
    return dataclasses.replace(source, size=size, aspect=source.aspect or small.provenance.get("aspect"))


def protocol_of(small: AnySet) -> Protocol:
    """The protocol that a set was made under; the data that it is judged on are held out alike."""
    return "paper" if small.provenance.get("protocol") == "paper" else "clean"


def load_real(
    data: object,
    source: Source = PLAIN,
    protocol: Protocol = "clean",
    role: Literal["distill", "evaluate"] = "distill",
    like: Sequence[str] | None = None,
) -> Images | Graphs | Nodes:
    """The data argument as `Images`, `Graphs` or `Nodes`; of images protocol='paper' holds nothing out.

    Args:
        data, source, protocol, role: see `load_images`, `load_graphs` and `load_nodes`.
        like: classes of the set that the data is to test.

    Raises:
        InputError, MissingError, DamagedError: see those.
    """
    if protocol not in ("clean", "paper"):
        raise refuse("protocol", "`clean` or `paper`", repr(protocol), near(protocol, ("clean", "paper")))
    files: dict[str, Any] = {"role": role, "root": source.root, "download": source.download, "like": like}
    if (kind := about(data, source.root).kind) != "images":
        for name, value in (("size", source.size), ("aspect", source.aspect)):
            if value is not None:
                raise refuse(name, "left out for graphs", repr(value))
        if kind == "nodes":
            from dd.data.nodes.load import load_nodes

            return load_nodes(data, split=source.split, **files)
        from dd.data.graphs.load import load_graphs

        return load_graphs(data, split=source.split, **files)
    if source.split not in (None, 0):
        raise refuse("split", "left out for images, which have one split", repr(source.split))
    real = load_images(data, size=source.size, aspect=source.aspect, **files)
    return real.all_train() if protocol == "paper" else real
