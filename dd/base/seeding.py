"""Independent random streams by name. Nothing reseeds the global stream, nothing reads the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def child_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of run `seed`; other names give unrelated streams."""
    text = "/".join([str(int(seed)), *(str(n).replace("%", "%25").replace("/", "%2F") for n in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def child(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the stream `names` of run `seed`.

    Draws are always made on the CPU and moved, so that a run has the same draws on every device. A
    stream that is named by its iteration (`child(seed, "draw", 17)`) needs no state in a checkpoint.
    """
    return torch.Generator().manual_seed(child_seed(seed, *names))


@contextmanager
def isolated(seed: int, *names: str | int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global stream inside the block only, for code that insists on it (layer initialisers, dropout).

    Args:
        seed, names: of the stream.
        device: a GPU on which the code draws; its stream is seeded too, and that of no other GPU is touched.
    """
    drawn = [] if device is None or device.type != "cuda" else [_index(device)]
    with torch.random.fork_rng(devices=drawn):
        # Not `torch.manual_seed`: without a GPU it also notes a stack trace, 0.6 ms a call.
        torch.default_generator.manual_seed(child_seed(seed, *names))
        for index in drawn:
            torch.cuda.default_generators[index].manual_seed(child_seed(seed, *names))
        yield


def _index(device: torch.device) -> int:
    """The number of a GPU; `cuda` is the current one. Its context is made, and with it its stream."""
    torch.cuda.init()
    return torch.cuda.current_device() if str(device) == "cuda" else device.index
