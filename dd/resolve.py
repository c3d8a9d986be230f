"""Arguments become values once: a device, a data set, a method with its preset."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Literal

import torch

from dd.bounds import check_memory
from dd.data import Images, list_cards, load_images
from dd.data.graph_load import load_graphs
from dd.data.graphs import Graphs
from dd.data.kinds import is_graph_data
from dd.data.load import FOLDER
from dd.errors import InputError, find_name, refuse
from dd.methods import METHODS, Method, class_of, kind_of, names_of, need_method, one_of
from dd.presets import Preset, preset, replace_fields
from dd.selection import Protocol
from dd.shapes import check_name
from dd.synthetic import AnySet

Tier = Literal["auto", "paper", "cpu"]


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the GPU where there is one; of several, in a torchrun, that of the local rank."""
    if device is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        rank = os.environ.get("LOCAL_RANK", "")
        return torch.device("cuda", int(rank) % torch.cuda.device_count()) if rank.isdecimal() else torch.device("cuda")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise refuse("device", "a torch device such as 'cpu' or 'cuda:0'", repr(device)) from error
    if found.type == "meta":
        raise refuse("device", "a device that keeps numbers, such as 'cpu' or 'cuda:0'", repr(device))
    if found.type == "cuda" and not torch.cuda.is_available():
        raise refuse("device", "a device of this machine", repr(device), "No CUDA device is visible to torch.")
    return found


def resolve_method(
    method: str | Method, real: Images | Graphs, tier: Tier, device: torch.device, fields: Mapping[str, Any]
) -> tuple[Method, Preset | None]:
    """A `Method` value from a name and its preset, or the value itself.

    Raises:
        InputError: an unknown name, preset row or field; fields beside a `Method` value; a method for images with
            graphs, or the other way round.
    """
    if not isinstance(method, str):
        if fields:
            raise InputError(
                f"fields ({', '.join(sorted(fields))}) go with a method's name; got a {type(method).__name__} "
                "value. Put them into the value."
            )
        check_name(need_method(method).name, "name")
        if tier != "auto":
            raise refuse(
                "preset", "left out beside a Method value, whose fields are set", repr(tier), "Or give a name."
            )
        _check_kind(method.name, method.kind, real)
        _check_fits(method, real, device)
        return method, None
    method = find_name("method", method, METHODS)
    _check_kind(method, kind_of(method), real)
    dataset = real.card.name if real.kind == "images" and real.card is not None else real.name
    row = preset_for(method, dataset, tier, device, fields)
    value = replace_fields(METHODS[method](**row.fields), one_of(method, fields))
    _check_fits(value, real, device)
    return value, row


def preset_for(name: str, dataset: str | None, tier: Tier, device: torch.device, fields: Mapping[str, Any]) -> Preset:
    """The preset of a method; for images it depends on `ipc`, and on whether there is a GPU."""
    if class_of(name).budget != "ipc":
        return preset(name, dataset, None, tier, gpu=False)
    return preset(name, dataset, fields.get("ipc", default_ipc(name)), tier, gpu=device.type == "cuda")


def _check_fits(method: Method, real: Images | Graphs, device: torch.device) -> None:
    """Refuse what would need far more memory than the machine has, as far as that is known before the run.

    Raises:
        InputError: with both figures.
    """
    ipc = getattr(method, "ipc", None)
    if real.kind != "images" or not isinstance(ipc, int):
        return
    canvas = getattr(method, "canvas", 1)
    pixels = [real.num_classes, real.channels, real.size[0] * canvas, real.size[1] * canvas]
    check_memory(f"{ipc:,} images a class and their gradient", [2, ipc, *pixels], "Lower `ipc`.")
    if (own := getattr(method, "check_fits", None)) is not None:
        own(real, device)


def default_ipc(method: str) -> int:
    """Images a class where nobody says how many: as the class of the method has it."""
    return int(getattr(class_of(method), "ipc", 0))


def published_aspect(
    data: object, method: object, tier: Tier, device: torch.device, fields: Mapping[str, Any]
) -> str | None:
    """How the preset's row wants the pictures of a card brought to one size; `None` where it says nothing.

    What is wrong with the arguments is said by those that take them.
    """
    if not isinstance(data, str) or not isinstance(method, str):
        return None
    with contextlib.suppress(InputError):
        card, name = find_name("data set", data, list_cards("images")), find_name("method", method, METHODS)
        return preset_for(name, card, tier, device, fields).aspect
    return None


def _check_kind(method: str, kind: str, real: Images | Graphs) -> None:
    """Refuse graphs for a method for images, and the other way round."""
    if kind != real.kind:
        known = ", ".join(names_of(real.kind))
        raise refuse("data", f"{kind} for the method {method!r}", repr(real.name), f"For this data there are: {known}.")


def only_images(real: Images | Graphs, what: str) -> Images:
    """The data, unless it is graphs."""
    if real.kind != "images":
        raise refuse("data", f"images for {what}", real.kind)
    return real


def source_like(small: AnySet, data: object, size: Any, aspect: str | None) -> dict[str, Any]:
    """`size` and `aspect` of `load_real` for data that a set is judged on; pictures of a folder come at its size."""
    if size is None and small.kind == "images" and isinstance(data, str) and data.startswith(FOLDER):
        size = small.size
    return {"size": size, "aspect": aspect or small.provenance.get("aspect")}


def load_real(
    data: object,
    protocol: Protocol = "clean",
    role: Literal["distill", "evaluate"] = "distill",
    split: int | str | None = 0,
    **options: Any,
) -> Images | Graphs:
    """The data argument as `Images` or `Graphs`; with protocol='paper' nothing is held out of train (of images).

    `split` is that of `load_graphs`, and 0 or `None` for images.
    """
    if protocol not in ("clean", "paper"):
        raise refuse("protocol", "`clean` or `paper`", repr(protocol))
    if is_graph_data(data, options.get("root")):
        for name in ("size", "aspect"):
            if (value := options.pop(name, None)) is not None:
                raise refuse(name, "left out for graphs", repr(value))
        return load_graphs(data, role=role, split=split, **options)
    if split not in (None, 0):
        raise refuse("split", "left out for images, which have one split", repr(split))
    real = load_images(data, role=role, **options)
    return real.all_train() if protocol == "paper" else real
