"""All that a GPU can show in eight minutes, in one JSON: tests, benches, every method for a minute, a published row.

    sh scripts/gpu_check.sh pack --root DATA            on a machine with a network: wheels and pictures, runs/gpu_carry
    sh scripts/gpu_check.sh                             on the one with the GPU: runs/gpu_check/gpu_check.json
    sh scripts/gpu_check.sh --device cpu --seconds 60   its rehearsal, with tiny settings

It was never run on a GPU, since none was at hand where it was made; the rehearsal is all that was tried.

Parts, with their share of the time: the tests marked `gpu`; benches, library beside plain loop; each method for images
(those for graphs and nodes use no GPU) by `dd.distill` with the preset for two cores, interrupted as by Ctrl-C after 60
seconds, `--at-once` of them beside each other, so that a second of a method is one of a shared GPU; MTT's published row
of CIFAR-10 at one image a class, as far as it comes on the pictures that are there. The file is written anew after each
result: a run that is cut off leaves what was measured. What fails is in it with its error, and the rest goes on.

It needs torch ≥ 2.9, this checkout, and what `pack` has put into `--carry`; without pictures it makes some, and says
so. The JSON is `$OUT/gpu_check.json`, or in `runs/gpu_check`; sets, experts and teachers are thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SHARES: Final = {"tests": 0.10, "benches": 0.18, "methods": 0.52, "published": 0.16}
"""Of all seconds; the rest is for starting."""
METHOD_SECONDS: Final = 60.0
GRACE: Final = 15.0
"""Seconds that a job may go on after its time: what is interrupted keeps its state first."""
START: Final = 90.0
"""Seconds that a process may take to load what it needs."""
NEEDED: Final = ("torch", "numpy", "PIL", "safetensors", "filelock", "tqdm", "scipy", "torchvision", "kornia", "pytest")
"""Told in the file by version, or as missing."""
BENCHES: Final = {
    "cuda": (
        "matching_step --width 128 --images 10 --steps 20 --repeats 2 --no-reference "
        "--rows adjoint_generic,adjoint_recorded,plain",
        "recover_step --steps 20 --repeats 2 --rows library,plain",
        "expert_epoch --width 128 --steps 40 --repeats 1 --rows eager,plain",
        "evaluate --networks 5 --images 100 --steps 200 --test 2000 --repeats 1 --rows usual,library,vmap",
        "matching_step --width 128 --images 10 --steps 20 --repeats 2 --no-reference --rows adjoint",
        "expert_epoch --width 128 --steps 40 --repeats 1 --rows compiled",
    ),
    "cpu": ("matching_step --width 4 --images 10 --steps 1 --repeats 1 --no-reference --rows adjoint_generic",),
}


class Deadline:
    """The seconds of all, and what is left of them.

    Attributes:
        total: as asked for.
    """

    def __init__(self, total: float) -> None:
        self.total, self._end = total, time.monotonic() + total

    @property
    def left(self) -> float:
        """Seconds, 0 where it is over."""
        return max(0.0, self._end - time.monotonic())

    def part(self, name: str) -> Deadline:
        """That of a part: its share, or what is left."""
        return Deadline(min(SHARES[name] * self.total, self.left))


class Found:
    """The results, written to their file at each change."""

    def __init__(self, path: Path, told: Mapping[str, Any]) -> None:
        self._path, self._lock = path, threading.Lock()
        self._start, self._all = time.monotonic(), {**told, "parts": {name: {} for name in SHARES}}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tell("complete", False)

    def tell(self, key: str, value: Any, part: str | None = None) -> None:
        """Keep a result, of all or of a part."""
        with self._lock:
            (self._all if part is None else self._all["parts"][part])[key] = value
            self._all["seconds"] = round(time.monotonic() - self._start, 1)
            fresh = self._path.with_name(f".{self._path.name}.new")
            fresh.write_text(json.dumps(self._all, indent=1, default=str) + "\n", encoding="utf-8")
            os.replace(fresh, self._path)
        print(f"{part or 'all'}: {key}: {json.dumps(value, default=str)[:200]}", file=sys.stderr, flush=True)


class Worker:
    """A process that does jobs, one after the other; one that hangs is ended, and the next job gets a new one."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._process: Any = None
        self._answers: queue.Queue[str] = queue.Queue()

    def do(self, job: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        """The answer to a job, which has until the deadline; the process starts before its time."""
        if deadline.left <= 0:
            return {"failed": "not reached: the time was over"}
        if self._process is None:
            self._start()
            ready = self._ask({"job": "hello"}, min(START, deadline.left))
            if "failed" in ready:
                return ready
        if (limit := min(job.get("seconds", deadline.left), deadline.left)) <= 0:
            return {"failed": "not reached: the time was over when its process had started"}
        return self._ask({**job, "limit": limit}, limit + GRACE)

    def _start(self) -> None:
        self._answers = queue.Queue()
        words = [sys.executable, "-m", "scripts.gpu_check", *self._arguments, "--worker"]
        pipe = subprocess.PIPE
        self._process = process = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment(), start_new_session=True
        )
        threading.Thread(target=_pass_on, args=(process, self._answers), daemon=True).start()

    def _ask(self, job: Mapping[str, Any], patience: float) -> dict[str, Any]:
        told = f"no answer within {patience:.0f} s"
        try:
            self._process.stdin.write(json.dumps(job, default=str) + "\n")
            self._process.stdin.flush()
            if found := self._answers.get(timeout=patience):
                return json.loads(found)
            told = f"its process ended with {self._process.wait(GRACE)}"
        except (OSError, queue.Empty, subprocess.TimeoutExpired):
            pass
        self.end()
        return {"failed": told}

    def end(self) -> None:
        """End the process and what it has started."""
        if self._process is not None:
            end(self._process)
            with contextlib.suppress(OSError):  # what it had not read is lost
                self._process.stdin.close()
            self._process = None


def _pass_on(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            answers.put(line)
    answers.put("")


def end(process: subprocess.Popen[str]) -> None:
    """End a process that leads its session, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    """That of child processes: this checkout is what they import."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def command(words: Sequence[str], seconds: float, **more: str) -> dict[str, Any]:
    """A command's exit code, seconds, and the ends of what it wrote; it is ended with its children after `seconds`."""
    if seconds <= 0:
        return {"failed": "not reached: the time was over"}
    start, pipe = time.monotonic(), subprocess.PIPE
    process = subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env={**environment(), **more}, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
        found: dict[str, Any] = {} if not process.returncode else {"failed": f"exit code {process.returncode}"}
    except subprocess.TimeoutExpired:
        end(process)
        output, errors = process.communicate()
        found = {"failed": f"cut off after {seconds:.0f} s"}
    return {**found, "seconds": round(time.monotonic() - start, 1), "output": output[-6000:], "errors": errors[-3000:]}


def run_tests(found: Found, deadline: Deadline, args: argparse.Namespace) -> None:
    """The tests marked `gpu`; with `--device cpu` their code is tried there."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "--run-gpu",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-rA",
        "tests/accelerator",
    ]
    found.tell("pytest", command(words, deadline.left, DD_TEST_DEVICE=args.device), "tests")


def run_benches(found: Found, deadline: Deadline, args: argparse.Namespace) -> None:
    """Each bench with its table and its object."""
    for bench in BENCHES[args.device.partition(":")[0]]:
        script, *options = bench.split()
        words = [sys.executable, f"scripts/bench/{script}.py", *options, "--device", args.device, "--json"]
        told = command(words, deadline.left)
        if "failed" not in told:
            told = {"seconds": told["seconds"], "table": told["errors"], "results": json.loads(told["output"])}
        found.tell(bench, told, "benches")


def run_methods(found: Found, deadline: Deadline, args: argparse.Namespace) -> None:
    """Each method for its seconds, some beside each other."""
    waiting: queue.Queue[str] = queue.Queue()
    for name in args.methods:
        waiting.put(name)
    rounds = -(-len(args.methods) // args.at_once)
    seconds = min(METHOD_SECONDS, deadline.left / max(1, rounds))
    found.tell("told", {"at_once": args.at_once, "seconds_each": round(seconds, 1)}, "methods")

    def drain(_: int) -> None:
        worker = Worker(arguments_of(args))
        with contextlib.suppress(queue.Empty):
            while True:
                name = waiting.get_nowait()
                try:
                    told = worker.do({"job": "method", "method": name, "seconds": seconds}, deadline)
                except Exception as error:  # the others go on
                    told = {"failed": f"{type(error).__name__}: {error}"}
                found.tell(name, told, "methods")
        worker.end()

    with ThreadPoolExecutor(args.at_once) as pool:
        list(pool.map(drain, range(args.at_once)))


def run_published(found: Found, deadline: Deadline, args: argparse.Namespace) -> None:
    """The published row, as far as it comes."""
    worker = Worker(arguments_of(args))
    found.tell("mtt cifar10 ipc 1", worker.do({"job": "published"}, deadline), "published")
    worker.end()


PARTS: Final[dict[str, Callable[[Found, Deadline, argparse.Namespace], None]]] = {
    "tests": run_tests,
    "benches": run_benches,
    "methods": run_methods,
    "published": run_published,
}


def arguments_of(args: argparse.Namespace) -> list[str]:
    """The command line of a worker."""
    return ["--device", args.device, "--carry", str(args.carry), "--scratch", str(args.scratch)]


def work(args: argparse.Namespace) -> None:
    """In a worker: a JSON line in, one out; what the work prints goes to the errors."""
    from scripts.gpu_jobs import JOBS

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        job = json.loads(line)
        start = time.monotonic()
        try:
            told = JOBS[job["job"]](job, args)
        except BaseException as error:
            told = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        told.setdefault("seconds", round(time.monotonic() - start, 1))
        print(json.dumps(told, default=str), file=answers, flush=True)


@contextlib.contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block after so many seconds, as Ctrl-C does."""

    def ring(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; `methods` are all for images where none are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    out = Path(os.environ.get("OUT") or ROOT / "runs" / "gpu_check")
    parser.add_argument("--device", default="cuda", help="`cpu` is the rehearsal, with tiny settings")
    parser.add_argument("--seconds", type=float, default=480.0, help="of all parts together")
    parser.add_argument("--carry", type=Path, default=ROOT / "runs" / "gpu_carry", help="what `pack` has made")
    parser.add_argument("--out", type=Path, default=out, help="folder of the JSON; default: $OUT or runs/gpu_check")
    parser.add_argument("--parts", default=",".join(SHARES), help="some of them, by commas")
    parser.add_argument("--methods", default="", help="some of them, by commas; default: all for images")
    parser.add_argument("--at-once", type=int, help="methods beside each other; default: 4, or 1 on a CPU")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.parts = [part for part in args.parts.split(",") if part]
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; known: {', '.join(PARTS)}")
    if args.device.partition(":")[0] not in BENCHES:
        parser.error(f"--device must be `cuda`, `cuda:N` or `cpu`; got {args.device!r}")
    if args.at_once is None:
        args.at_once = 1 if args.device == "cpu" else 4
    if args.at_once < 1 or not args.seconds >= 0:
        parser.error("--at-once must be at least 1 and --seconds at least 0")
    args.methods = [name for name in args.methods.split(",") if name]
    if not args.worker:
        need_folder(parser, args.out)
    return args


def need_folder(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Make the folder of the results, or refuse it before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        parser.error(f"--out must be a folder that can be written; {folder}: {error.strerror}")


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """What this is: versions of what is needed, or that it is missing; and the GPU."""
    import importlib.metadata as metadata

    told: dict[str, Any] = {"python": sys.version.split()[0], "packages": {}, "cores": os.cpu_count()}
    for name in NEEDED:
        try:
            told["packages"][name] = metadata.version({"PIL": "pillow"}.get(name, name))
        except metadata.PackageNotFoundError:
            told["packages"][name] = "missing"
    if told["packages"]["torch"] == "missing":
        return told
    import torch

    if args.device != "cpu" and torch.cuda.is_available():
        card = torch.cuda.get_device_properties(args.device)
        told |= {"gpu": card.name, "bytes": card.total_memory, "capability": f"{card.major}.{card.minor}"}
        told["cuda"] = torch.version.cuda
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Measure part after part; 0 where each has an answer, be it that it failed."""
    args = parsed(argv)
    if args.worker:
        work(args)
        return 0
    deadline = Deadline(args.seconds)
    told = {"format": 1, "device": args.device, "asked_seconds": args.seconds, "machine": machine(args)}
    found = Found(args.out / "gpu_check.json", told)
    if args.device != "cpu" and "gpu" not in told["machine"]:
        found.tell("failed", f"torch sees no {args.device} here; `--device cpu --seconds 60` is the rehearsal")
        return 1
    if not args.methods:
        from scripts.gpu_jobs import image_methods

        args.methods = image_methods()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        args.scratch = Path(scratch)
        for name in args.parts:
            start = time.monotonic()
            try:
                PARTS[name](found, deadline.part(name), args)
            except Exception as error:  # the other parts go on
                found.tell("failed", f"{type(error).__name__}: {error}", name)
            found.tell("part_seconds", round(time.monotonic() - start, 1), name)
    found.tell("complete", True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
