"""What a run will cost, as it is told: seconds of each stage, bytes on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Predicted cost of one run of `distill`, with an empty store; what judges the set afterwards is not in it.

    Attributes:
        stages: seconds of each part of the run on this device, in their order. Trajectory matching has `experts`,
            `matching` (with initialisation and whitening), `selection` (0 where one candidate is offered) and
            `compilation` (with an empty cache; never measured, but a constant a kernel for two cores); the decoupled
            methods `teachers`, `patches`, `recovery` or `compensators`, and `labels`; Mirage `trees` and `mining` (what
            a budget buys at most); methods for nodes `nodes` and `selection`; baselines of real images `choice`.
        disk_bytes: what the store keeps for later runs: experts at the snapshots that the matching reads, their recipe
            included; teachers.
        set_bytes: the set with its labels; 0 where it depends on the data.
        peak_bytes: resident (CUDA) bytes over those of the libraries and the data at the highest moment of the run,
            with the compiler where the run compiles. Each stage is counted on top of what the one before leaves in the
            heap.
        rate: FLOP/s of networks, of an expert's or a teacher's step; 0 where none is trained.
        measured: whether this machine was measured.
        of: the run in words: method, data, images a class, and the preset with what was changed in it.
    """

    stages: Mapping[str, float]
    disk_bytes: int
    set_bytes: int = 0
    peak_bytes: int
    rate: float = 0.0
    measured: bool
    of: str = field(default="", compare=False)

    @property
    def seconds(self) -> float:
        """The whole run."""
        return sum(self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        how = "measured" if self.measured else "assumed"
        told = [f"{name} about {duration(s)}" for name, s in self.stages.items() if s >= 0.5]
        parts = told or [f"about {duration(self.seconds)}"]
        if self.disk_bytes:
            parts.append(f"{size_text(self.disk_bytes)} in the store")
        if self.set_bytes:
            parts.append(f"a set of {size_text(self.set_bytes)}")
        parts.append(f"peak about {size_text(self.peak_bytes)}")
        return (
            (f"{self.of}: " if self.of else "")
            + ", ".join(parts)
            + (f" ({how} {self.rate / 1e9:.0f} GFLOP/s)" if self.rate else f" ({how})")
        )


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else f"{max(seconds, 0.1):.1f} seconds"


def size_text(count: float) -> str:
    """A number of bytes for people."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB" if count >= 1e3 else f"{count:.0f} B"
