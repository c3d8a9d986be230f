"""Classifiers of torchvision, `tv:NAME`, and of timm, `timm:NAME`, untrained or with those packages' weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from torch import nn

from dd.errors import MissingError, not_installed, refuse, unknown
from dd.models.images.convnet import Size, pair


@dataclass(frozen=True)
class Trained:
    """What travels with a set of weights.

    Attributes:
        mean, std: of the pixels in [0, 1] that they were trained on, one a channel.
        outputs: of their last layer.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: int


@dataclass(frozen=True)
class Zoo:
    """A package of classifiers.

    Attributes:
        title: for people.
        names: the names of its classifiers.
        make: `f(name, channels, classes, size, *, weights="none") -> nn.Module`.
        trained: `f(name, weights)`: what belongs to a set of weights.
    """

    title: str
    names: Callable[[], Sequence[str]]
    make: Callable[..., nn.Module]
    trained: Callable[[str, str], Trained]


def split_zoo(name: str) -> tuple[str, str]:
    """(`tv:` or `timm:`, the name after it), or ("", the name)."""
    prefix, colon, short = name.partition(":")
    return (prefix + colon, short) if prefix + colon in ZOOS else ("", name)


def check_zoo_name(prefix: str, name: str) -> None:
    """Refuse a name that is none of the zoo's classifiers, and list the close ones.

    Raises:
        InputError: it is none.
        MissingError: the zoo's package is not installed.
    """
    zoo = ZOOS[prefix]
    names = zoo.names()
    if name in names:
        return
    base, dot, tag = name.partition(".")
    if dot and base in names:
        ways = f"Weights are an option: {prefix}{base}(weights={tag})."
    elif close := get_close_matches(name, names, n=5, cutoff=0.5):
        ways = f"Close: {', '.join(prefix + n for n in close)}."
    else:
        ways = f"It has {', '.join(names)}." if len(names) < 200 else f"It has {len(names):,} names."
    raise refuse("model", f"{prefix} and the name of an image classifier of {zoo.title}", f"'{prefix}{name}'", ways)


def torchvision_names() -> Sequence[str]:
    """Names of torchvision's image classifiers (not its detectors, segmenters, quantised or video nets)."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def torchvision_model(name: str, channels: int, classes: int, size: Size, *, weights: str = "none") -> nn.Module:
    """A network of torchvision's zoo with `classes` outputs.

    * Untrained nets take any number of channels: the first convolution is made anew when it is not 3, with
      PyTorch's initialiser. Transformers are made for `size`; auxiliary heads are left out.
    * With weights the last layer is the pretrained one if it has `classes` outputs; **otherwise it is a
      fresh, untrained layer** on the pretrained body, to be trained before the net can be a teacher. The
      weights were trained on pictures normalised with ImageNet's mean and std.

    These nets were drawn for about 224 px; many run on less, but of 32 px their first stages leave 1×1.

    Args:
        name: torchvision's name, without `tv:`.
        channels: C.
        classes: K.
        size: height and width in pixels.
        weights: `none` (untrained), `default`, or the name of a weight set such as `IMAGENET1K_V1`.

    Raises:
        InputError: unknown name or weights, weights with other than 3 channels, or a size that a transformer
            cannot cut into patches.
        MissingError: the weights are not in torch's cache and cannot be downloaded.
    """
    check_zoo_name("tv:", name)
    import torchvision

    if weights == "none":
        try:
            net = torchvision.models.get_model(name, weights=None, num_classes=classes, **_extra(name, size))
        except (ValueError, AssertionError) as error:  # the transformers' patches and windows
            cause = str(error).splitlines()[0]
            raise refuse("size", f"one that tv:{name} takes", f"{size[0]}x{size[1]}: {cause}") from error
        return net if channels == 3 else _with_channels(net, channels)
    if channels != 3:
        raise refuse("channels", "3 for pretrained weights", channels, "Use `weights=none`, or colour pictures.")
    chosen = _torchvision_weights(name, weights)
    try:
        net = torchvision.models.get_model(name, weights=chosen)
    except OSError as error:
        raise MissingError(
            f"the weights {chosen} of tv:{name} are not here and cannot be fetched ({error}). "
            f"Put {chosen.url} into the folder checkpoints of torch.hub.get_dir(), or use `weights=none`."
        ) from error
    if name == "inception_v3":  # GoogLeNet's builder drops the auxiliary heads by itself
        net.aux_logits, net.AuxLogits = False, None
    return _with_classes(net, classes)


def _extra(name: str, size: Size) -> dict[str, Any]:
    """What some untrained nets need: no auxiliary heads or slow initialiser; the size for transformers."""
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        if size[0] != size[1]:
            raise refuse("size", f"one that tv:{name} takes", f"{size[0]}x{size[1]}: not square")
        return {"image_size": size[0]}
    return {"input_size": size} if name.startswith("maxvit") else {}


def _with_channels(net: nn.Module, channels: int) -> nn.Module:
    """`net` with a fresh first convolution for `channels` channels."""
    path, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    fresh = nn.Conv2d(
        channels,
        first.out_channels,
        pair(first.kernel_size),
        pair(first.stride),
        first.padding if isinstance(first.padding, str) else pair(first.padding),
        bias=first.bias is not None,
    )
    return _replaced(net, path, fresh)


def _with_classes(net: nn.Module, classes: int) -> nn.Module:
    """`net` with a fresh last layer if it has another number of outputs than `classes`."""
    path, last = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    outputs = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    if outputs == classes:
        return net
    fresh = (
        nn.Linear(last.in_features, classes)
        if isinstance(last, nn.Linear)
        else nn.Conv2d(last.in_channels, classes, kernel_size=1)  # SqueezeNet classifies by a 1×1 convolution
    )
    return _replaced(net, path, fresh)


def _replaced(net: nn.Module, path: str, fresh: nn.Module) -> nn.Module:
    """`net` with the layer at `path` replaced in place."""
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, fresh)
    return net


def _torchvision_weights(name: str, weights: str) -> Any:
    """torchvision's record of a set of weights, or refuse a name that it does not know."""
    import torchvision

    sets = torchvision.models.get_model_weights(name)
    known = ["none", "default", *(w.name for w in sets)]
    if weights not in known:
        raise unknown(f"weights of tv:{name}", weights, known)
    return sets.DEFAULT if weights == "default" else sets[weights]


def torchvision_trained(name: str, weights: str) -> Trained:
    """What belongs to torchvision's weights of a network, all of them ImageNet's.

    Raises:
        InputError: unknown weights.
    """
    preset = _torchvision_weights(name, weights).transforms()
    return Trained(tuple(preset.mean), tuple(preset.std), 1000)


def _timm() -> Any:
    """The package, or how to get it."""
    try:
        import timm
    except ImportError as error:
        raise not_installed("`timm:NAME`", "timm", error) from error
    return timm


def timm_names() -> Sequence[str]:
    """Names of timm's networks, without the tags of their weights.

    Raises:
        MissingError: timm is not installed.
    """
    return _timm().list_models()


def timm_model(name: str, channels: int, classes: int, size: Size, *, weights: str = "none") -> nn.Module:
    """A network of timm with `classes` outputs; see `torchvision_model`, whose rules these are.

    With weights the last layer is the pretrained one if it has `classes` outputs, else a fresh one. Transformers are
    made for `size`, their pretrained places interpolated.

    Args:
        name: timm's name, without `timm:` and without a tag.
        channels: C.
        classes: K.
        size: height and width in pixels.
        weights: `none` (untrained), `default`, or the tag of a weight set such as `a1_in1k`.

    Raises:
        InputError: unknown name or weights, weights for another number of channels, or a size that a transformer
            cannot cut into patches.
        MissingError: timm is not installed, or the weights are not in its cache and cannot be downloaded.
    """
    timm = _timm()
    check_zoo_name("timm:", name)
    fields: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        fields["img_size"] = size
    if weights != "none":
        held = _timm_config(name, weights)
        if channels != held.input_size[0]:
            way_out = "Use `weights=none`, or other pictures."
            raise refuse("channels", f"{held.input_size[0]} for pretrained weights", channels, way_out)
        fields["pretrained"] = True
    try:
        return timm.create_model(name if weights in ("none", "default") else f"{name}.{weights}", **fields)
    except OSError as error:
        raise MissingError(
            f"the weights of timm:{name} are not here and cannot be fetched ({error}). "
            f"Put them into the cache of huggingface_hub, or use `weights=none`."
        ) from error
    except AssertionError as error:  # some transformers' patches; `build` finds the others
        cause = (str(error).splitlines() or [""])[0]
        raise refuse("size", f"one that timm:{name} takes", f"{size[0]}x{size[1]}: {cause}") from error


def _timm_config(name: str, weights: str) -> Any:
    """timm's record of a set of weights, or refuse a tag that it does not know."""
    timm = _timm()
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    known = ["none", *(["default", *tags] if tags else ())]
    if weights not in known:
        raise unknown(f"weights of timm:{name}", weights, known)
    return timm.get_pretrained_cfg(name if weights == "default" else f"{name}.{weights}")


def timm_trained(name: str, weights: str) -> Trained:
    """What belongs to timm's weights of a network.

    Raises:
        InputError: unknown weights, or weights without a last layer for classes.
        MissingError: timm is not installed.
    """
    held = _timm_config(name, weights)
    if not held.num_classes:
        way_out = "Choose weights that were trained or tuned on classes."
        raise refuse("weights", f"of timm:{name} with a last layer for classes", weights, way_out)
    return Trained(tuple(held.mean), tuple(held.std), held.num_classes)


ZOOS: Final[dict[str, Zoo]] = {
    "tv:": Zoo("torchvision", torchvision_names, torchvision_model, torchvision_trained),
    "timm:": Zoo("timm", timm_names, timm_model, timm_trained),
}
"""Prefix → package. To add one: its four functions here, and a line."""
