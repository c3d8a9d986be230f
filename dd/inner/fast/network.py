"""A ConvNet as a list of layers, each with its forward, backward, tangent forward and tangent backward."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.inner.fast.compile import Kernels
from dd.inner.fast.native import suits, weight_gradient
from dd.inner.student import Student
from dd.models.images.convnet import Block, ConvNet
from dd.models.images.pool import MeanPool

_PAIR = [1, 1]


class Map(NamedTuple):
    """The output of a convolution: channels, height, width, and weights of a channel."""

    channels: int
    height: int
    width: int
    weights: int


def maps(module: nn.Module, size: tuple[int, int]) -> list[Map] | None:
    """Those of a network that the fast path knows, for pictures of `size`, and `None` of any other.

    It knows a ConvNet with instance norm and 2×2 average pools on maps with even sides.
    """
    if type(module) is not ConvNet or not _as_written(module):
        return None
    (height, width), found = size, []
    for block in module.blocks:
        assert isinstance(block, Block)
        weight = block.conv.weight
        grow = 2 * int(block.conv.padding[0]) - 2
        height, width = height + grow, width + grow
        if height % 2 or width % 2:
            return None
        found.append(Map(weight.shape[0], height, width, weight[0].numel()))
        height, width = height // 2, width // 2
    return found


def _as_written(module: ConvNet) -> bool:
    """Whether a ConvNet is what its class makes of it: nobody has exchanged a layer or a method of it."""
    head = module.classifier
    if any("forward" in vars(part) for part in module.modules()) or type(head) is not nn.Linear or head.bias is None:
        return False
    return all(type(block) is Block and _known(block) for block in module.blocks)


def _known(block: Block) -> bool:
    conv, norm = block.conv, block.norm
    if type(conv) is not nn.Conv2d or type(norm) is not nn.GroupNorm:
        return False
    if type(block.act) is not nn.ReLU or type(block.pool) is not MeanPool:
        return False
    how = (conv.kernel_size, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    if how != ((3, 3), (1, 1), (1, 1), 1, "zeros") or conv.padding not in ((1, 1), (3, 3)):
        return False
    groups = norm.num_groups == norm.num_channels == conv.out_channels
    return groups and norm.weight is not None and norm.bias is not None


def supported(module: nn.Module, size: tuple[int, int]) -> bool:
    """Whether the fast path knows it; see `maps`."""
    return maps(module, size) is not None


class BlockWeights(NamedTuple):
    """W `[C, C', 3, 3]` in channels-last memory, γ and β `[1, C, 1, 1]`."""

    conv: Tensor
    gamma: Tensor
    beta: Tensor


Weights = tuple[list[BlockWeights], Tensor, Tensor]
"""Blocks, classifier weight `[K, D]` and bias `[K]`."""


@dataclass
class Tape:
    """What a block keeps of one forward pass: its input, z, m, r, and the gradient of its output."""

    x: Tensor
    z: Tensor
    m: Tensor
    r: Tensor
    g_out: Tensor | None = None


@dataclass
class Kept:
    """What pass 1 leaves for pass 2 of one micro-batch: z and output gradients of blocks two and later."""

    z: list[Tensor] = field(default_factory=list)
    g_out: list[Tensor] = field(default_factory=list)


class FastNet:
    """The student's ConvNet on flat θ `[P]`: first-order gradients and their derivatives along a direction in θ.

    Args:
        student: its module must be `supported`.
        kernels: plain or compiled.
        tangent_dtype: precision of the convolutions that are linear in the tangent; bfloat16 is the hybrid.
    """

    def __init__(self, student: Student, kernels: Kernels, tangent_dtype: torch.dtype | None = None) -> None:
        module = student.module
        assert isinstance(module, ConvNet)
        self.student, self.kernels, self.tangent_dtype = student, kernels, tangent_dtype
        blocks: list[Any] = list(module.blocks)
        self.padding = [int(block.conv.padding[0]) for block in blocks]
        self.eps = [float(block.norm.eps) for block in blocks]

    def weights(self, theta: Tensor) -> Weights:
        """(blocks, classifier weight `[K, D]`, classifier bias `[K]`) of θ."""
        v = self.student.views(theta)
        blocks = []
        for i in range(len(self.padding)):
            name = f"blocks.{i}."
            conv = v[name + "conv.weight"].contiguous(memory_format=torch.channels_last)
            gamma, beta = (v[name + key].view(1, -1, 1, 1) for key in ("norm.weight", "norm.bias"))
            blocks.append(BlockWeights(conv, gamma, beta))
        return blocks, v["classifier.weight"], v["classifier.bias"]

    def conv(self, i: int, x: Tensor, w: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The convolution of block i."""
        return conv2d_in(x, w, self.padding[i], dtype)

    def back(self, i: int, g: Tensor, x: Tensor, w: Tensor, want: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """(gradient of x, gradient of w) of a convolution, those asked for."""
        own = want[1] and self.kernels.compiled and suits(g, x, w)
        mask, pad = [want[0], want[1] and not own, False], [self.padding[i]] * 2
        d_x = d_w = w  # not asked for: nobody's
        if any(mask):
            found = torch.ops.aten.convolution_backward(g, x, w, None, _PAIR, pad, _PAIR, False, [0, 0], 1, mask)
            d_x, d_w = found[0], found[1]
        return d_x, weight_gradient(g, x, self.padding[i]) if own else d_w

    def _tangent_back(self, i: int, g: Tensor, x: Tensor, w: Tensor, want: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        dtype = self.tangent_dtype
        if dtype is None:
            return self.back(i, g, x, w, want)
        dx, dw = self.back(i, g.to(dtype), x.to(dtype), w.to(dtype), want)
        return dx.to(g.dtype) if want[0] else dx, dw.to(g.dtype) if want[1] else dw

    def _image_tangent(self, gd: Tensor, w: Tensor, g: Tensor, v: Tensor, size: torch.Size) -> Tensor:
        """The first layer's `back(gd, w) + back(g, v)` for the pictures.

        As two 1×1 convolutions to C·9 channels, whose sum is then added up over overlapping windows: convolution
        libraries pad three output channels to a full vector, which makes the direct form twice as slow.
        """
        channels = w.shape[1] * 9
        w, v = (k.reshape(k.shape[0], channels).T[:, :, None, None].contiguous() for k in (w, v))
        columns = conv2d_in(gd, w, 0, self.tangent_dtype) + conv2d_in(g, v, 0, self.tangent_dtype)
        return F.fold(columns.flatten(2), tuple(size[2:]), 3, padding=self.padding[0])

    def forward(self, blocks: list[BlockWeights], x: Tensor, kept: Kept | None = None) -> tuple[list[Tape], Tensor]:
        """Tapes of the blocks and the features `[n, D]`; z of the later blocks comes from `kept` where given."""
        tapes = []
        for i, w in enumerate(blocks):
            z = kept.z[i - 1] if kept is not None and i else self.conv(i, x, w.conv)
            out, m, r = self.kernels.run("forward", z, w.gamma, w.beta, self.eps[i])
            tapes.append(Tape(x, z, m, r))
            x = out
        return tapes, x

    def gradient(
        self, weights: Weights, x: Tensor, y: Tensor, weight: Tensor, total: Tensor, keep: bool
    ) -> Kept | None:
        """Pass 1 of a micro-batch: adds ∇_θ Σ_j w_j ℓ(θ; x_j, y_j) to `total` `[P]`."""
        blocks, head, bias = weights
        sums = self.student.views(total)
        tapes, out = self.forward(blocks, x)
        features = out.flatten(1)
        g = logit_gradient(F.linear(features, head, bias), y, weight)
        sums["classifier.weight"] += g.T @ features
        sums["classifier.bias"] += g.sum(0)
        g_out = (g @ head).view(out.shape).contiguous(memory_format=torch.channels_last)
        kept = Kept() if keep else None
        for i in reversed(range(len(blocks))):
            w, tape, name = blocks[i], tapes[i], f"blocks.{i}."
            g_z, d_gamma, d_beta = self.kernels.run("backward", tape.z, tape.m, tape.r, w.gamma, w.beta, g_out)
            if kept is not None:
                kept.g_out.insert(0, g_out)
                if i:
                    kept.z.insert(0, tape.z)
            g_out, d_conv = self.back(i, g_z, tape.x, w.conv, (i > 0, True))
            sums[name + "conv.weight"] += d_conv
            sums[name + "norm.weight"] += d_gamma.sum(0).flatten()
            sums[name + "norm.bias"] += d_beta.sum(0).flatten()
        return kept

    def second(
        self,
        weights: Weights,
        along: Weights,
        x: Tensor,
        y: Tensor,
        weight: Tensor,
        total: Tensor | None,
        kept: Kept | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pass 2 of a micro-batch: the derivative along the direction `along` in θ of Σ_j w_j ℓ and of its gradients.

        Adds H·along to `total` `[P]` unless it is `None`; returns (⟨along, g⟩, its gradient in x, that in y's
        probabilities `[n, K]`).
        """
        (blocks, head, bias), (along_blocks, head_d, bias_d) = weights, along
        tapes, out = self.forward(blocks, x, kept)
        tangents: list[tuple[Tensor | None, Tensor, Tensor, Tensor]] = []  # ẋ, ż, mean ż, mean n ż
        xd: Tensor | None = None
        for i, (w, v, tape) in enumerate(zip(blocks, along_blocks, tapes, strict=True)):
            zd = self.conv(i, tape.x, v.conv, self.tangent_dtype)
            if xd is not None:
                zd += self.conv(i, xd, w.conv, self.tangent_dtype)
            args = (zd, tape.m, tape.r, w.gamma, w.beta, v.gamma, v.beta)
            out_d, md, q = self.kernels.run("tangent_forward", tape.z, *args)
            tangents.append((xd, zd, md, q))
            xd = out_d
        assert xd is not None
        f, fd = out.flatten(1), xd.flatten(1)
        logits, logits_d = F.linear(f, head, bias), F.linear(f, head_d, bias_d) + F.linear(fd, head)
        g, gd, dy = head_tangents(logits, logits_d, y, weight)
        sums = None if total is None else self.student.views(total)
        if sums is not None:
            sums["classifier.weight"] += gd.T @ f + g.T @ fd
            sums["classifier.bias"] += gd.sum(0)
        shape = out.shape
        g_out = (g @ head).view(shape).contiguous(memory_format=torch.channels_last)
        gd_out = (gd @ head + g @ head_d).view(shape).contiguous(memory_format=torch.channels_last)
        for i in reversed(range(len(blocks))):
            w, v, tape, (xd, zd, md, q) = blocks[i], along_blocks[i], tapes[i], tangents[i]
            if kept is not None:
                g_out = kept.g_out[i]
            stats = (tape.m, tape.r, md, q)
            found = self.kernels.run("tangent_backward", tape.z, zd, stats, w.gamma, w.beta, v.gamma, g_out, gd_out)
            g_z, gd_z, dd_gamma, dd_beta = found
            if sums is not None:
                name = f"blocks.{i}."
                sums[name + "norm.weight"] += dd_gamma.sum(0).flatten()
                sums[name + "norm.bias"] += dd_beta.sum(0).flatten()
            if xd is None:  # the first block: the pictures have no tangent
                gd_out = self._image_tangent(gd_z, w.conv, g_z, v.conv, tape.x.shape)
                if sums is not None:
                    sums[name + "conv.weight"] += self._tangent_back(i, gd_z, tape.x, w.conv, (False, True))[1]
                break
            gd_out, d_conv = self._tangent_back(i, gd_z, tape.x, w.conv, (True, sums is not None))
            mixed, d_conv_2 = self._tangent_back(i, g_z, xd, v.conv, (True, sums is not None))
            gd_out += mixed
            if sums is not None:
                sums[name + "conv.weight"] += d_conv + d_conv_2
            if kept is None:
                g_out, _ = self.back(i, g_z, tape.x, w.conv, (True, False))
        return (g * logits_d).sum(), gd_out, dy


def conv2d_in(x: Tensor, w: Tensor, padding: int, dtype: torch.dtype | None) -> Tensor:
    """A convolution computed in `dtype`; `None` is that of x."""
    if dtype is None:
        return F.conv2d(x, w, padding=padding)
    return F.conv2d(x.to(dtype), w.to(dtype), padding=padding).to(x.dtype)


def logit_gradient(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """∂ Σ_j w_j ℓ_j / ∂ logits of the cross-entropy with labels `[n]` or probabilities `[n, K]`."""
    p = logits.softmax(1)
    if y.dtype == torch.int64:
        return weight[:, None] * (p - F.one_hot(y, p.shape[1]).to(p.dtype))
    return weight[:, None] * (y.sum(1, keepdim=True) * p - y)


def head_tangents(logits: Tensor, logits_d: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(g, ġ, ∂⟨g, logits'⟩/∂y), with g = `logit_gradient` and P its softmax: ġ = w Σy · P ⊙ (l' − ⟨P, l'⟩)."""
    p = logits.softmax(1)
    centred = logits_d - (p * logits_d).sum(1, keepdim=True)
    mass = weight[:, None] if y.dtype == torch.int64 else weight[:, None] * y.sum(1, keepdim=True)
    return logit_gradient(logits, y, weight), mass * p * centred, -weight[:, None] * centred
