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
def isolated(seed: int, *names: str | int) -> Iterator[None]:
    """Seed the global stream inside the block only, for code that insists on it (layer initialisers)."""
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        # Not `torch.manual_seed`: without a GPU it also notes a stack trace, 0.6 ms a call.
        torch.default_generator.manual_seed(child_seed(seed, *names))
        if cuda:
            torch.cuda.manual_seed_all(child_seed(seed, *names))
        yield
