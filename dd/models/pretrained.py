"""torchvision's classifiers, written `tv:NAME`, untrained or with torchvision's weights."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from dd.errors import MissingError, refuse, unknown
from dd.models.convnet import Size


def torchvision_names() -> Sequence[str]:
    """Names of torchvision's image classifiers (not its detectors, segmenters, quantised or video nets)."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def check_torchvision_name(name: str) -> None:
    """Refuse a name that is none of torchvision's classifiers, and list the close ones."""
    names = torchvision_names()
    if name in names:
        return
    close = ", ".join(f"tv:{n}" for n in get_close_matches(name, names, n=5, cutoff=0.5))
    ways = f"Close: {close}." if close else f"It has {', '.join(names)}."
    raise refuse("model", "tv: and the name of an image classifier of torchvision", f"'tv:{name}'", ways)


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
    check_torchvision_name(name)
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
    sets = torchvision.models.get_model_weights(name)
    known = ["none", "default", *(w.name for w in sets)]
    if weights not in known:
        raise unknown(f"weights of tv:{name}", weights, known)
    chosen = sets.DEFAULT if weights == "default" else sets[weights]
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
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
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


def pretrained_constants(name: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) that torchvision's weights of a network were trained with."""
    import torchvision

    sets = torchvision.models.get_model_weights(name)
    chosen = sets.DEFAULT if weights == "default" else sets[weights]
    preset = chosen.transforms()
    return tuple(preset.mean), tuple(preset.std)
