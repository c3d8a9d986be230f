"""The verbs of `ddistill` (also `python -m dd`), each also a function `dd.X`; options come from the dataclasses.

Exit codes: 0 done; 1 the work failed (missing or damaged file, full disk, divergence); 2 a wrong argument or data set;
130 interrupted (the checkpoint is written). With `--json` stdout holds one JSON object and nothing else. An error is a
message on stderr; what looks like a fault of this library is code 1 too, in one line that says where to report it.
`DD_DEBUG=1` shows the traceback of either.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import dd
from dd.base.jsons import dump_json
from dd.base.parallel import is_main
from dd.base.progress import say
from dd.cli.faults import open_streams, said, short_warnings
from dd.cli.listing import HELP, run_list
from dd.errors import InputError, find_name


def _in(module: str, name: str) -> Callable[[Sequence[str]], dict[str, Any]]:
    """A verb whose module, and torch or tyro with it, is loaded when it is run."""
    return lambda argv: getattr(import_module(module), name)(argv)


VERBS: dict[str, tuple[Callable[[Sequence[str]], dict[str, Any]], str]] = {
    "buffer": (_in("dd.cli.verbs", "run_buffer"), "make the expert trajectories that are missing"),
    "distill": (
        _in("dd.cli.distill", "run_distill"),
        "turn a data set into a few synthetic images a class, or a summary of trees",
    ),
    "evaluate": (_in("dd.cli.verbs", "run_evaluate"), "train fresh networks on a set and test them, beside baselines"),
    "benchmark": (
        _in("dd.cli.benchmark", "run_benchmark"),
        "every method of a data set under one protocol, beside baselines",
    ),
    "merge": (_in("dd.cli.verbs", "run_merge"), "join sets of images, such as those of several parties, into one"),
    "report": (
        _in("dd.cli.report", "run_report"),
        "one HTML page on runs or a benchmark: images, neighbours, curves, tables",
    ),
    "measure": (
        _in("dd.cli.measure", "run_measure"),
        "robustness, calibration, privacy, attacks, nearest real images, downstream use",
    ),
    "teach": (_in("dd.cli.teach", "run_teach"), "train the teachers that decoupled methods need"),
    "work": (_in("dd.cli.work", "run_work"), "list the units of a plan, or make a share of them"),
    "estimate": (_in("dd.cli.distill", "run_estimate"), "disk, memory and time of a run, before it starts"),
    "list": (run_list, "methods, data sets, models, recipes; or describe a method"),
    "verify": (_in("dd.cli.verbs", "run_verify"), "check every checksum of a set, a run or a store"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _speak_to_any_terminal()
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    argv = argv or [""]
    with open_streams(), _stopped_by_sigterm(), short_warnings(argv[0]):
        return _run(argv)


def _speak_to_any_terminal() -> None:
    """Letters that the encoding of a terminal does not have are written as escapes, and end nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _without_verb(word: str) -> str | None:
    """What is answered where the first word is no verb."""
    if word == "--version":
        return f"ddistill {dd.__version__}"
    if word and word not in HELP:
        return None
    verbs = "\n".join(f"  {name:<10}{text}" for name, (_, text) in VERBS.items())
    return f"usage: ddistill VERB …\n\n{verbs}\n\n`ddistill VERB --help` shows its options; --version the version."


def _run(argv: Sequence[str]) -> int:
    try:
        if (told := _without_verb(argv[0])) is not None:
            print(told, flush=True)
            return 0 if argv[0] else 2
        verb = find_name("verb", argv[0], VERBS, "The verb comes first." if argv[0].startswith("-") else "")
        answer = VERBS[verb][0](argv[1:])
        if answer.pop("json") and is_main():  # of the processes of a torchrun one says it
            print(dump_json(answer))
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader of stdout is gone, as in `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it is no second error
        return 141
    except KeyboardInterrupt:
        resumable = argv[0] in ("benchmark", "buffer", "distill", "teach", "work")
        way_on = "; the same command goes on from what was kept" if resumable else ""
        say(f"interrupted{way_on}", sys.stderr)
        return 130
    except Exception as error:
        say(f"ddistill {argv[0]}: {said(error)}", sys.stderr)
        if os.environ.get("DD_DEBUG", "0") not in ("", "0"):
            traceback.print_exc(file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM as a KeyboardInterrupt, so that a checkpoint is written; in the main thread, which alone has signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
