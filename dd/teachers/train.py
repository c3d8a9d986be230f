"""Training a teacher on the real images: by one process, or by all ranks of a torchrun as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.base.devices import moved
from dd.base.parallel import crew, training_group
from dd.base.progress import Progress, silent
from dd.base.seeding import child, child_seed, isolated
from dd.data import Images
from dd.errors import DivergedError, refuse
from dd.models import build, no_single_values
from dd.teachers.recipe import TeacherRecipe
from dd.transforms.whiten import Normalise


def network(recipe: TeacherRecipe, real: Images, seed: int) -> nn.Module:
    """The recipe's network for this data, not trained."""
    return build(recipe.model, channels=real.channels, classes=real.num_classes, size=real.size, seed=seed)


def train_teacher(
    recipe: TeacherRecipe,
    real: Images,
    transform: Normalise,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> nn.Module:
    """A network trained on `real.train` by the recipe, in eval mode; one of several ranks by all of `crew` at once.

    Raises:
        DivergedError: loss or weights are not finite.
        InputError: a recipe for another number of ranks.
    """
    device, (rank, size) = device or torch.device("cpu"), crew() if recipe.ranks > 1 else (0, 1)
    if size != recipe.ranks:
        wrong_ranks(recipe, size)
    net = network(recipe, real, child_seed(seed, "teacher")).to(device)
    if size == 1:
        return _train(net, net, recipe, real, transform, seed, device, progress, slice(None))
    with training_group(device.type) as group:
        place = [device.index or 0] if device.type == "cuda" else None
        whole = nn.parallel.DistributedDataParallel(net, device_ids=place, process_group=group)
        return _train(whole, net, recipe, real, transform, seed, device, progress, slice(rank, None, size), group)


def wrong_ranks(recipe: TeacherRecipe, size: int) -> NoReturn:
    """Refuse a recipe for another number of processes than these."""
    there = f"{size} processes" if size > 1 else "one process"
    way_out = (
        f"Start `teach` or `distill` by `torchrun --nproc-per-node {recipe.ranks} -m dd …`; later calls, and shares of "
        "a plan, find it in the store."
    )
    raise refuse("teacher.ranks", f"what trains teacher {recipe.model}, {there}", recipe.ranks, way_out)


def _train(
    call: nn.Module,
    net: nn.Module,
    recipe: TeacherRecipe,
    real: Images,
    transform: Normalise,
    seed: int,
    device: torch.device,
    progress: Progress,
    own: slice,
    group: Any = None,
) -> nn.Module:
    """Train `net` by calls of `call`, on the rows `own` of every batch.

    Losses are weighed so that their mean over ranks is that of the batch.
    """
    net.train()
    kind = torch.optim.SGD if recipe.optimizer == "sgd" else torch.optim.Adam
    more: dict[str, Any] = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    optimizer = kind(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, **more)
    dsa, count = recipe.dsa(), len(real.train)
    per_epoch, epochs = recipe.per_epoch(count), recipe.rounds(count)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)

    def batches() -> Iterator[Tensor]:
        for epoch in range(epochs):
            order = torch.randperm(count, generator=child(seed, "teacher", "order", epoch))
            yield from (rows[own] for rows in order.split(recipe.batch_size)[:per_epoch])

    alone = no_single_values("teacher.batch_size", str(recipe.model))
    stream = ("teacher", "layers", *([own.start] if group else []))
    with alone, isolated(seed, *stream, device=device):  # dropout draws from it
        for step, (rows, pixels) in enumerate(real.train.stream(batches())):
            epoch, place = divmod(step, per_epoch)
            whole = min(recipe.batch_size, count - place * recipe.batch_size)
            draw = dsa.draw(whole, real.size, child(seed, "teacher", "draw", epoch, place))
            x = (draw.rows(own) if group else draw)(transform.forward(moved(pixels, device)))
            loss = F.cross_entropy(call(x), moved(real.train.labels[rows], device))
            loss = loss * (len(rows) * recipe.ranks / whole) if group else loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if place + 1 < per_epoch:
                continue
            if not _all_finite((loss, *net.parameters(), *net.buffers()), group):
                raise DivergedError(
                    f"teacher {recipe.model} is not finite after {epoch + 1} epoch(s). Lower `lr` (now {recipe.lr:g})."
                )
            progress(epoch + 1, epochs, f"teacher {recipe.model}, loss {float(loss.detach()):.3f}")
    return net.eval()


def _all_finite(tensors: Sequence[Tensor], group: Any) -> bool:
    """Whether all are, on all ranks."""
    found = all(bool(torch.isfinite(t).all()) for t in tensors)
    if group is None:
        return found
    import torch.distributed as dist

    told = torch.tensor(int(found), device=tensors[0].device)
    dist.all_reduce(told, dist.ReduceOp.MIN, group)
    return bool(told)


def agreed(value: Any, group: Any) -> Any:
    """What rank 0 says."""
    import torch.distributed as dist

    told = [value]
    dist.broadcast_object_list(told, src=0, group=group)
    return told[0]
