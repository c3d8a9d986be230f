"""What the benches share: reading memory, a process a row, and the setting of an outer iteration."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MB = 1e6


def read_kib(key: str) -> int | None:
    """A size in KiB from `/proc/self/status`, or None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) if found else None


def reset_high_water() -> bool:
    """Set the high-water mark of the resident size to the present size; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return read_kib("VmHWM") is not None


def high_water_mb(was_reset: bool) -> float:
    """The resident size's high-water mark in 10⁶ bytes: since the reset, or else of the whole process."""
    if was_reset:
        return (read_kib("VmHWM") or 0) * 1024 / MB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def base_mb(was_reset: bool) -> float:
    """The resident size in 10⁶ bytes that growth is counted from."""
    kib = read_kib("VmRSS")
    return high_water_mb(was_reset) if kib is None else kib * 1024 / MB


def give_back() -> None:
    """Return free heap to the kernel, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_mb(device: str, peak: bool = False) -> float:
    """Memory on a GPU in 10⁶ bytes: what is alive, from where its highest is counted anew; or the highest since."""
    import torch

    if peak:
        return torch.cuda.max_memory_allocated(device) / MB
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device) / MB


def settle() -> None:
    """Wait for the GPU, where this process has begun to use one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Clock:
    """Seconds of calls, by the wall and of the processor; a row's figure is its fastest call by each.

    Attributes:
        wall, cpu: one entry a call.
    """

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, function: Callable[[], T]) -> T:
        """What the function gives; its seconds are added, up to the end of what it has asked of a GPU."""
        settle()
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        settle()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return found

    def sum(self) -> dict[str, float]:
        """`seconds` and `cpu_seconds` of all calls together."""
        return {"seconds": sum(self.wall), "cpu_seconds": sum(self.cpu)}

    def result(self, per: float = 1) -> dict[str, Any]:
        """`seconds`, `cpu_seconds` and all calls of both, each divided by `per`."""
        wall, cpu = ([value / per for value in values] for values in (self.wall, self.cpu))
        return {"seconds": min(wall), "cpu_seconds": min(cpu), "all": wall, "all_cpu": cpu}


def ratios(base: Mapping[str, Any] | None, row: Mapping[str, Any], width: int = 8) -> str:
    """Two columns: how many times the row is faster than `base`, by the wall and by CPU seconds."""
    pairs = ("seconds", "cpu_seconds")
    return "".join(f"{f'{base[k] / row[k]:.2f}x' if base and row.get(k) else '-':>{width}}" for k in pairs)


def usual(net: Any) -> Any:
    """The network with torch's own layers, as the published loops have it; in place."""
    from torch import nn

    from dd.models.images.pool import MeanPool

    for module in list(net.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, MeanPool):
                setattr(module, name, nn.AvgPool2d(2))
    return net


class Child:
    """A row of a bench in a process of its own, which waits for word before each of its timed passes (`rounds`).

    Args:
        script: the bench, which knows `--child ROW`.
        row: the row.
        arguments: the rest of the command line.
        environment: added to that of this process.
    """

    def __init__(self, script: str, row: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        command = [sys.executable, str(Path(script).resolve()), *arguments, "--child", row]
        pipe, env = subprocess.PIPE, {**os.environ, **environment}
        self._row, self._process = row, subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)

    def wait(self) -> None:
        """Until its next pass is due."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == READY:
                return
        self._fail()

    def go(self) -> None:
        """One timed pass, to its end."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.wait()

    def result(self) -> dict[str, Any]:
        """No more passes; the last line it prints."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            self._fail()
        return json.loads(output.splitlines()[-1])

    def _fail(self) -> None:
        raise SystemExit(f"row {self._row} failed with exit code {self._process.wait()}")


READY = "ready"


def rounds() -> Iterator[None]:
    """In a child: once for each word of the parent."""
    print(READY, flush=True)
    for _ in sys.stdin:
        yield
        print(READY, flush=True)


def take_turns(children: Mapping[str, Child], repeats: int) -> dict[str, dict[str, Any]]:
    """The results of waiting children, by row, after `repeats` rounds in which each does one timed pass in turn."""
    for i in range(repeats):
        print(f"round {i + 1} of {repeats} …", file=sys.stderr, flush=True)
        for child in children.values():
            child.go()
    return {row: child.result() for row, child in children.items()}


def run_child(script: str, row: str, arguments: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """A row of a bench without timed rounds, in a process of its own."""
    return Child(script, row, arguments, environment).result()


def launched(script: str, rows: Sequence[str], arguments: list[str]) -> dict[str, Child]:
    """Rows in processes of their own, each up to its first timed pass before the next one starts."""
    children = {}
    for row in rows:
        print(f"{row} …", file=sys.stderr, flush=True)
        children[row] = Child(script, row, arguments, {})
        children[row].wait()
    return children


def whole_numbers(text: str) -> list[int]:
    """`5,20,80` → [5, 20, 80]."""
    return [int(part) for part in text.split(",") if part]


def command_line(
    text: str | None, rows: Sequence[str] = (), usual: str = "", threads: int | None = None, device: bool = False
) -> argparse.ArgumentParser:
    """A command line with what benches share.

    Args:
        text: the bench's docstring.
        rows: it can measure; none: there is no `--rows`.
        usual: rows by default, by commas; all where it is empty.
        threads: by default; all cores where it is `None`.
        device: whether there is a `--device`.
    """
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    told = "default: all cores" if threads is None else f"default: {threads}"
    parser.add_argument("--threads", type=int, default=threads or cores(), help=f"intra-op; {told}")
    if device:
        parser.add_argument("--device", default="cpu", help="where it computes; seconds wait for a GPU")
    if rows:
        known, usual = ",".join(rows), usual or ",".join(rows)
        parser.add_argument("--rows", default=usual, help=f"some of {known}; default: {usual}")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, the rest on stderr")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def parsed(
    parser: argparse.ArgumentParser, arguments: list[str], rows: Sequence[str] = (), **least: int
) -> argparse.Namespace:
    """The command line as it was read, `rows` as a list; an unknown row, or a number below its least, is refused."""
    args = parser.parse_args(arguments)
    for name, value in {"threads": 1, **least}.items():
        if getattr(args, name) < value:
            parser.error(f"--{name.replace('_', '-')} must be at least {value}; got {getattr(args, name)}")
    if rows:
        args.rows = args.rows.split(",")
        for row in args.rows:
            if row not in rows:
                parser.error(f"unknown row {row!r}; known: {', '.join(rows)}")
    return args


def tell(text: str, found: object, args: argparse.Namespace) -> None:
    """The table, or with `--json` the object, and the table on stderr."""
    print(text, file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print(json.dumps(found))


ALONE = ("convolutions", "convolutions_last")
"""Rows of the convolutions alone: contiguous maps, as the plain loop has them, and channels-last ones."""


def convolutions(net: Any, x: Any, last: bool, backward: bool = True) -> Callable[[], None]:
    """A function that does what a ConvNet's convolutions do for a batch, and nothing else.

    Args:
        net: a ConvNet.
        x: pictures `[n, C, H, W]`.
        last: whether maps and weights are in channels-last memory.
        backward: also the gradients of weights, of biases and, but for pictures, of the maps.
    """
    import torch

    layout = torch.channels_last if last else torch.contiguous_format
    layers = []
    with torch.no_grad():
        for block in net.blocks:
            z = block.conv(x)
            maps = (t.contiguous(memory_format=layout) for t in (torch.randn_like(z), x, block.conv.weight.detach()))
            layers.append((*maps, block.conv.bias.detach(), list(block.conv.padding)))
            x = block(x)

    def run() -> None:
        for place, (g, x, w, b, padding) in enumerate(layers):
            torch.conv2d(x, w, b, 1, padding)
            if backward:
                mask, ones = [place > 0, True, True], [1, 1]
                torch.ops.aten.convolution_backward(g, x, w, [len(b)], ones, padding, ones, False, [0, 0], 1, mask)

    return run


def bound(plain: float, alone: Mapping[str, float]) -> str:
    """How far any rearrangement of all but the convolutions could go; nothing where they were not measured.

    Args:
        plain: CPU seconds of the plain loop.
        alone: those of rows of `ALONE`, for the same work.
    """
    if not alone:
        return ""
    shares = ", ".join(f"{row} {100 * seconds / plain:.0f} %" for row, seconds in alone.items())
    most = plain / min(alone.values())
    return f"share of the plain loop's CPU seconds: {shares}; with all else for nothing {most:.2f}x"


class Setting:
    """An outer iteration of ConvNet on 3×32×32 pictures of ten classes, every image in every step, one target.

    Pictures are seeded noise and θ* is near θ_0: neither time nor memory depends on the values.

    Attributes:
        net, student: the network and its function of θ.
        theta, target: θ_0 and θ* `[P]`.
        images, labels, lr: x `[n, 3, 32, 32]`, y `[n]`, β.
    """

    def __init__(self, images: int, width: int, augment: str, double: bool = False, device: str = "cpu") -> None:
        import torch

        from dd.base.seeding import child
        from dd.inner import Student
        from dd.models import build
        from dd.transforms.dsa import DSA

        dtype = torch.float64 if double else torch.float32
        self.net = build(f"convnet(width={width})", channels=3, classes=10, size=(32, 32), seed=0).to(device, dtype)
        self.student = Student(self.net)
        self.theta = self.student.initial
        noise = torch.randn(self.theta.shape, generator=child(0, "target")).to(device, dtype)
        self.target = self.theta + 0.1 * self.theta.std() * noise
        self.images = torch.randn(images, 3, 32, 32, generator=child(0, "images")).to(device, dtype)
        self.labels = (torch.arange(images) % 10).to(device)
        self.lr = torch.tensor(0.01, dtype=dtype, device=device)
        self._dsa, self._device = DSA(augment), device

    def steps(self, count: int, n: int) -> list[Any]:
        """n student steps, each on the first `count` pictures in an order and a draw of its own."""
        import torch

        from dd.base.seeding import child
        from dd.inner import InnerStep

        draws = [self._dsa.draw(count, (32, 32), child(0, "draw", i)) for i in range(n)]
        orders = [torch.randperm(count, generator=child(0, "order", i)).to(self._device) for i in range(n)]
        return [InnerStep(order, draw) for order, draw in zip(orders, draws, strict=True)]

    def problem(self, count: int, n: int) -> Any:
        """The outer iteration on the first `count` pictures with n student steps."""
        from dd.inner import Problem, Target

        target, steps = Target(n, self.target), self.steps(count, n)
        return Problem(self.student, self.theta, [target], self.images[:count], self.labels[:count], self.lr, steps)
