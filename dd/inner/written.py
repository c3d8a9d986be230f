"""Group norm and convolution whose second derivatives are written out; autograd's own chain them from small parts.

Torch differentiates the gradient of a group norm by some thirty operations on the map, and that of a convolution by
another convolution whose kernel is a whole map. `WrittenOut` puts these functions in the place of torch's, for any
network: values and first derivatives are torch's own, the second ones equal them to rounding. For the gradient in
pictures of few channels, which convolution libraries pad to a full vector, columns are added up instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from dd.models.images.convnet import pair

_BLOCK: Final = 2**19
"""Values of the map that a pass over the norm takes at once: 2 MB of float32."""
_FEW, _MANY = 4, 32
"""Channels of pictures, and of maps, from which on columns pay."""
_STOCK: Final[dict[str, Any]] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}


class WrittenOut(TorchFunctionMode):
    """Inside the block, 2-D convolutions and affine group norms of floats are those of this module.

    Args:
        pictures: what the network is given. A convolution of it has no part in ∇_θ by its gradient in x, which is
            therefore computed when ∇_θ is differentiated only.
        theta: θ `[P]`, where ∇_θ is wanted for its derivatives and not for its values: what convolutions add to it by
            weights that are views of θ is then 0. It has no part in the derivatives.
    """

    def __init__(self, pictures: Tensor | None = None, theta: Tensor | None = None) -> None:
        super().__init__()
        self._pictures, self._theta = pictures, theta
        self._version = 0 if pictures is None else pictures._version

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        kwargs, made = kwargs or {}, None
        if func is torch.nn.functional.group_norm:
            made = _group_norm(*args, **kwargs)
        elif func is torch.conv2d:
            made = self._conv2d(*args, **kwargs)
        return func(*args, **kwargs) if made is None else made

    def _conv2d(
        self, input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
    ) -> Tensor | None:
        given = [weight] if bias is None else [weight, bias]
        asked = {**_STOCK, **dict(zip(_STOCK, rest, strict=False)), **named}
        if not _plain(input, *given) or input.dim() != 4 or not input.numel() or isinstance(asked["padding"], str):
            return None
        stride, padding, dilation = (pair(asked[name]) for name in ("stride", "padding", "dilation"))
        values = self._theta is None or any(t._base is not self._theta for t in given)
        how = _How(stride, padding, dilation, int(asked["groups"]))
        unchanged = input is self._pictures and input._version == self._version  # a network may write into them
        return cast("Tensor", Conv2d.apply(input, weight, bias, how, unchanged, values))


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    if weight is None or bias is None or not _plain(x, weight, bias) or not x.numel():
        return None
    return cast("Tensor", GroupNorm.apply(x, weight, bias, groups, eps))


def _plain(x: Tensor, *rest: Tensor) -> bool:
    """One type of float, no autocast, no transform of `torch.func`: what the functions below compute with."""
    if torch.is_autocast_enabled(x.device.type) or torch._C._are_functorch_transforms_active():
        return False
    return x.dtype.is_floating_point and all(t.dtype == x.dtype for t in rest)


class _How(NamedTuple):
    """The options of a convolution, pairs but the last."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Conv2d(torch.autograd.Function):
    """`torch.conv2d(x, w, b)`; see `_Conv2dBack`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, how: _How, pictures: bool, values: bool) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.how, ctx.pictures, ctx.values = how, pictures, values
        return torch.conv2d(x, w, b, *how)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        to_x, to_w, to_b = ctx.needs_input_grad[:3]
        if not torch.is_grad_enabled():  # of the graph's own backward pass
            return (*_gradients(g, x, w, ctx.how, (to_x, to_w, to_b)), None, None, None)
        wanted = (to_x and not ctx.pictures, to_w, to_b)
        return (*_Conv2dBack.apply(g, x, w, ctx.how, wanted, ctx.values), None, None, None)


class _Conv2dBack(torch.autograd.Function):
    """(g_x, g_w, g_b) of a convolution. With a, B, c their cotangents, those of g, x and w are

    conv(a, w) + conv(x, B) + c,    the gradient in x of ⟨g, conv(x, B)⟩,    that in w of ⟨g, conv(a, w)⟩.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, how: _How, wanted: tuple[bool, bool, bool], values: bool
    ) -> Any:
        ctx.save_for_backward(g, x, w)
        ctx.set_materialize_grads(False)
        ctx.how = how
        if values:
            return _gradients(g, x, w, how, wanted)
        d_x = _gradients(g, x, w, how, (True, False, False))[0] if wanted[0] else None
        d_w, d_b = (w.new_zeros(1).expand(shape) for shape in (w.shape, w.shape[:1]))
        return d_x, d_w if wanted[1] else None, d_b if wanted[2] else None

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a: Tensor | None, b: Tensor | None, c: Tensor | None) -> Any:
        g, x, w = ctx.saved_tensors
        how, (to_g, to_x, to_w) = ctx.how, ctx.needs_input_grad[:3]
        d_g = d_x = d_w = None
        if to_g:
            d_g = torch.conv2d(x, b, c, *how) if b is not None else None
            if a is not None:
                part = torch.conv2d(a, w, None, *how)
                d_g = part if d_g is None else d_g.add_(part)
            if b is None and c is not None:
                spread = c.view(1, -1, 1, 1)
                d_g = spread.expand_as(g) if d_g is None else d_g.add_(spread)
        if to_x and b is not None:
            d_x = _gradients(g, x, b, how, (True, False, False))[0]
        if to_w and a is not None:
            d_w = _gradients(g, a, w, how, (False, True, False))[1]
        return d_g, d_x, d_w, None, None, None


def _gradients(g: Tensor, x: Tensor, w: Tensor, how: _How, wanted: tuple[bool, bool, bool]) -> Any:
    """(g_x, g_w, g_b), those that are wanted."""
    d_x = _by_columns(g, x, w, how) if wanted[0] and _few_channels(g, w, how) else None
    mask = [wanted[0] and d_x is None, *wanted[1:]]
    if not any(mask):
        return d_x, None, None
    stride, padding, dilation, groups = how
    sizes = [w.shape[0]] if wanted[2] else None
    found = torch.ops.aten.convolution_backward(g, x, w, sizes, stride, padding, dilation, False, [0, 0], groups, mask)
    return (found[0] if d_x is None else d_x), found[1], found[2]


def _few_channels(g: Tensor, w: Tensor, how: _How) -> bool:
    """Whether columns are the faster way to the pictures' gradient."""
    return g.device.type == "cpu" and how.groups == 1 and w.shape[1] <= _FEW and w.shape[0] >= _MANY


def _by_columns(g: Tensor, x: Tensor, w: Tensor, how: _How) -> Tensor:
    """g_x as the columns wᵀ g `[n, C·kh·kw, pixels]`, added up over overlapping windows."""
    columns = w.flatten(1).T @ g.flatten(2)
    size, kernel = (int(x.shape[2]), int(x.shape[3])), (int(w.shape[2]), int(w.shape[3]))
    return torch.nn.functional.fold(columns, size, kernel, how.dilation, how.padding, how.stride)


class GroupNorm(torch.autograd.Function):
    """`torch.group_norm` of `[N, C, *]` with γ, β `[C]`; see `_GroupNormBack`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
        n, c = x.shape[:2]
        y, m, r = torch.native_group_norm(x.contiguous(), gamma, beta, n, c, x[0, 0].numel(), groups, eps)
        ctx.save_for_backward(x, gamma, m, r)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return (*_GroupNormBack.apply(g, *ctx.saved_tensors, ctx.groups), None, None)


class _GroupNormBack(torch.autograd.Function):
    """(g_x, g_γ, g_β) of a group norm.

    With n = (x − m) r, the mean and 1/std of a group, ⟨·⟩ a mean over the K values of a group and h = γ g:

        g_x = r (h − ⟨h⟩ − n ⟨n h⟩),    g_γ = Σ n g,    g_β = Σ g.

    Let a, b, c be their cotangents, s = a·g_x + b·g_γ + c·g_β and q = ⟨a h⟩ − ⟨a⟩⟨h⟩ − ⟨a n⟩⟨n h⟩. Then

        ∂s/∂g = γ r (a − ⟨a⟩ − n ⟨a n⟩) + b n + c,    ∂s/∂γ = Σ r g (a − ⟨a⟩ − n ⟨a n⟩),
        ∂s/∂x = r (d − ⟨d⟩ − n ⟨d n⟩) − r² q n,       d = g (b − γ r ⟨a n⟩) − a r ⟨n h⟩.

    m and r are those of the forward pass and constants here: their dependence on x is in ∂s/∂x.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, gamma: Tensor, m: Tensor, r: Tensor, groups: int) -> Any:
        sizes = (x.shape[0], x.shape[1], x[0, 0].numel(), groups)
        ctx.save_for_backward(g, x, gamma, m, r)
        ctx.groups = groups
        g, x = g.contiguous(), x.contiguous()
        return torch.ops.aten.native_group_norm_backward(g, x, m, r, gamma, *sizes, [True, True, True])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> Any:
        g, x, gamma, m, r = ctx.saved_tensors
        maps, groups = (len(x), x.shape[1], x[0, 0].numel()), (len(x), ctx.groups, 1)
        d_g, d_x = torch.empty(maps, dtype=x.dtype, device=x.device), torch.empty(maps, dtype=x.dtype, device=x.device)
        a, g, wide, m, r = a.reshape(maps), g.reshape(maps), x.reshape(maps), m.view(groups), r.view(groups)
        d_gamma, size = torch.zeros_like(gamma), max(1, _BLOCK // (maps[1] * maps[2]))
        for start in range(0, len(x), size):
            at = slice(start, start + size)
            part = _Norm(a[at], g[at], wide[at], m[at], r[at], gamma, b, c)
            d_gamma += _norm_tangents(part, d_g[at], d_x[at])
        return d_g.view(x.shape), d_x.view(x.shape), d_gamma, None, None, None


class _Norm(NamedTuple):
    """Some pictures: a, g, x `[N, C, pixels]`; m, r `[N, groups, 1]`; γ and the cotangents b, c `[C]`."""

    a: Tensor
    g: Tensor
    x: Tensor
    m: Tensor
    r: Tensor
    gamma: Tensor
    b: Tensor
    c: Tensor


def _norm_tangents(part: _Norm, d_g: Tensor, d_x: Tensor) -> Tensor:
    """∂s/∂γ `[C]`; ∂s/∂g and ∂s/∂x are written into `d_g` and `d_x` `[N, C, pixels]`."""
    a, g, x, m, r, *_ = part
    groups, channels, pixels = m.shape[1], x.shape[1], x.shape[2]
    many = channels // groups
    gamma, b, c = (t.view(1, -1, 1) for t in part[5:])

    def each(value: Tensor) -> Tensor:
        """One value a group `[N, G, 1]` as one a channel."""
        return value if many == 1 else value.repeat_interleave(many, 1)

    def mean(sums: Tensor) -> Tensor:
        """The group mean of channel sums, one a channel."""
        return each(sums.view(len(x), groups, many).sum(2, keepdim=True) / (many * pixels))

    m, r = each(m), each(r)
    n = (x - m).mul_(r)
    sum_a, sum_g = a.sum(2, keepdim=True), g.sum(2, keepdim=True)
    sum_an, sum_gn, sum_ga = _dot(a, n), _dot(g, n), _dot(g, a)
    mean_a, mean_an, mean_h, mean_hn = mean(sum_a), mean(sum_an), mean(gamma * sum_g), mean(gamma * sum_gn)
    q = mean(gamma * sum_ga) - mean_a * mean_h - mean_an * mean_hn
    scale = gamma * r
    of_n = b - scale * mean_an
    torch.mul(n, of_n, out=d_g).addcmul_(a, scale.expand_as(a)).add_(c - scale * mean_a)
    of_a = r * mean_hn
    mean_d, mean_dn = mean(of_n * sum_g - of_a * sum_a), mean(of_n * sum_gn - of_a * sum_an)
    torch.mul(g, r * of_n, out=d_x).addcmul_(a, (-r * of_a).expand_as(a))
    d_x.addcmul_(n, (-r * (mean_dn + r * q)).expand_as(n)).sub_(r * mean_d)
    return (r * (sum_ga - mean_a * sum_g - mean_an * sum_gn)).sum((0, 2))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Products summed over pixels `[N, C, 1]`."""
    return torch.linalg.vecdot(a, b).unsqueeze(2)
