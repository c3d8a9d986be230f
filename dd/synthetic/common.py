"""What every kind of set can do with what it holds: be shown, compared, and moved to a device."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor

from dd.base.devices import check_device
from dd.base.jsons import dump_json
from dd.base.markup import Pictures
from dd.base.process import under_own_settings
from dd.base.texts import shown
from dd.errors import DDError, InputError

if TYPE_CHECKING:
    from dd.synthetic.sets import AnySet


class Common:
    """Of a set whose `content` is the tensors and the metadata of its file, all that there is to compare."""

    classes: tuple[str, ...]

    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of its file."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def _on(self, device: torch.device) -> Self:
        """It on a device of this machine; itself where it is there."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        """Whether both are of one class and `save` would write the same for both.

        So images or trees, labels (stored ones too), classes, recipe, transform, method and provenance count: data,
        seed, protocol, how it was chosen; a set knows no time and no host. The run folder, the device and whether a
        whitening matrix is at hand do not count.
        """
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Common)
        return self is other or (hash(self) == hash(other) and _same(self.content(), other.content()))

    def __hash__(self) -> int:
        """Of class, length and class names: equal sets have one hash, and no tensor is read."""
        return hash((type(self).__name__, len(self), self.classes))

    def to(self, device: str | torch.device) -> Self:
        """It on a device, as `Tensor.to`: itself where it is there already, else a copy of its tensors.

        What is written or shown is taken to the CPU, and verbs such as `dd.evaluate` take it to where they compute, so
        only `small[i]` and `batches` differ.

        Raises:
            InputError: no device, one that this machine lacks, or `meta`, which would lose the numbers.
        """
        return self._on(check_device(device))

    @under_own_settings
    def plot(self, path: str | Path | None = None, **options: Any) -> Pictures:
        """Figures by name, which a notebook shows; also to NAME.png, NAME.svg or a folder.

        See `dd.synthetic.figures.plot`.
        """
        from dd.synthetic.figures import plot

        return plot(cast("AnySet", self), path, **options)

    @under_own_settings
    def _repr_html_(self) -> str:
        from dd.synthetic.figures import notebook

        return notebook(cast("AnySet", self))


def moved(small: Any, **tensors: Any) -> Any:
    """A copy of a set with other values for some attributes, which are not looked at again: its content is the same."""
    made = copy.copy(small)
    for name, value in tensors.items():
        object.__setattr__(made, name, value)
    return made


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, copied where they are elsewhere."""
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def one_line(small: Any, sizes: Iterable[str]) -> str:
    """A set at the prompt: its class, its method, its sizes and the bytes of its file, where they can be told."""
    method = small.method.get("name") if isinstance(small.method, Mapping) else None
    parts = [shown(method, 60), *sizes]
    try:
        parts.append(f"{small.nbytes.total:,} bytes on disk")
    except DDError:
        parts.append("not to be written")
    return f"{type(small).__name__}({', '.join(parts)})"


def narrow(values: Tensor) -> Tensor:
    """Whole numbers in the smallest type that holds them: uint8, int16, int32 or int64."""
    if values.is_floating_point():
        return values.contiguous()
    low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
    if low >= 0 and high < 2**8:
        return values.to(torch.uint8).contiguous()
    for dtype, bits in ((torch.int16, 15), (torch.int32, 31)):
        if -(2**bits) <= low and high < 2**bits:
            return values.to(dtype).contiguous()
    return values.contiguous()


def _same(ours: tuple[dict[str, Tensor], dict[str, Any]], theirs: tuple[dict[str, Tensor], dict[str, Any]]) -> bool:
    """Whether two contents would be one file."""
    try:
        told = dump_json(ours[1]) == dump_json(theirs[1])
    except InputError:  # what cannot be written can be compared all the same
        told = ours[1] == theirs[1]
    return told and ours[0].keys() == theirs[0].keys() and all(_same_bytes(t, theirs[0][n]) for n, t in ours[0].items())


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are written alike: 0 and −0 are not."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)))
