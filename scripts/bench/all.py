"""All benches in one run, their records, and the page that shows them.

    python -m scripts.bench.all            run them (ten minutes on two quiet cores), keep the record, write the page
    python -m scripts.bench.all --page     write the page from the record
    python -m scripts.bench.all --only evaluate,start     run these, and keep the others as they are

The record is `scripts/records/performance.json`, the page `docs/performance.md`. A bench prints a table for people and
one JSON object; both are kept, with its command, its seconds, and the load of the machine before it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RECORD: Final = ROOT / "scripts" / "records" / "performance.json"
PAGE: Final = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Bench:
    """A command, and what its table says.

    Attributes:
        name: in the record.
        title: on the page.
        script: in this folder.
        options: of the command line.
        says: what is compared; one paragraph.
    """

    name: str
    title: str
    script: str
    options: str
    says: str


_MATCHING = (
    "`adjoint` is the library's engine where there is a compiler, `adjoint_generic` everywhere else and "
    "for every other network, `plain` the usual create-graph loop. Seconds of one outer iteration; "
    "`speed-up` and `CPU` are how many times faster than `plain` a row is, by the clock and by processor "
    "seconds; `of plain` is its share of the memory."
)
_ALONE = "convolutions,convolutions_last"
_BOUND = (
    "The last rows are the convolutions alone, forward and both gradients at the same shapes, contiguous and "
    "channels-last; the last line says what share of the plain loop they are, and so how many times faster it could "
    "become by any rearrangement of the rest."
)
BENCHES: Final = (
    Bench(
        "matching-32",
        "An outer iteration of trajectory matching, width 32",
        "matching_step",
        "--width 32 --images 50 --steps 15 --repeats 3 --no-reference --rows "
        "adjoint,adjoint_generic,plain,plain_untuned",
        f"The CIFAR-10 preset for two cores at ten images a class. {_MATCHING} `plain_untuned` is `plain` "
        "without `dd.tune_process()`.",
    ),
    Bench(
        "matching-128",
        "An outer iteration of trajectory matching, width 128",
        "matching_step",
        "--width 128 --images 100 --steps 3 --repeats 1 --no-reference --rows "
        "adjoint,adjoint_generic,adjoint_hybrid,plain",
        f"The published width. {_MATCHING} `adjoint_hybrid` has bfloat16 in the convolutions that are linear "
        "in the tangent.",
    ),
    Bench(
        "expert-32",
        "Training an expert, width 32",
        "expert_epoch",
        f"--width 32 --steps 12 --repeats 2 --rows compiled,eager,plain,{_ALONE}",
        "`compiled` is the road where there is a compiler, `eager` the one without, `plain` the usual loop. Pictures"
        " a second, higher is better.",
    ),
    Bench(
        "expert-128",
        "Training an expert, width 128",
        "expert_epoch",
        f"--width 128 --steps 3 --repeats 1 --rows compiled,eager,plain,{_ALONE}",
        "The same at the published width.",
    ),
    Bench(
        "evaluate-32",
        "Evaluating a synthetic set, width 32",
        "evaluate",
        f"--model convnet(width=32) --networks 3 --steps 40 --repeats 2 --rows usual,library,layers,{_ALONE}",
        "Fresh networks trained on 100 images and tested on 2,000. `library` is the default of `dd.evaluate`,"
        " `layers` its `compile=False`, `usual` the published loop.",
    ),
    Bench(
        "evaluate-128",
        "Evaluating a synthetic set, width 128",
        "evaluate",
        f"--networks 1 --steps 12 --test 1000 --repeats 1 --rows usual,library,layers,{_ALONE}",
        "The same at the published width.",
    ),
    Bench(
        "recover",
        "An iteration of recovery",
        "recover_step",
        "--repeats 2",
        "Two members with batch norms, as SRe2L's successors have them; `members` is their passes alone, "
        "which no loop can leave out.",
    ),
    Bench(
        "start",
        "Starting",
        "start",
        "--repeats 5",
        "`import dd` loads torch when something is used, the command line once the options of a verb are read. Medians "
        "of fresh processes.",
    ),
    Bench(
        "copies",
        "Memory of big sets",
        "copies",
        "--images 100,200,400 --records 50,100,200",
        "High-water mark beyond the base, as a multiple of the set in float32 or of the label store, at three sizes, "
        "and the exponent of its growth.",
    ),
    Bench(
        "lazy",
        "Reading JPEG files",
        "lazy",
        "--pictures 512 --repeats 1",
        "An epoch over a folder: `stream` reads ahead with processes started once an epoch, `thread` in the calling "
        "thread, `anew` with processes started for each large batch; `kept` is a second pass over test pictures.",
    ),
    Bench(
        "mirage",
        "Mirage on made graphs",
        "mirage",
        "--rows small,star --small 20000",
        "Refinement, mining and summary of graphs like molecules, and of one star of degree 100,000.",
    ),
    Bench(
        "nodes",
        "One graph of 200,000 nodes",
        "nodes",
        "",
        "A generated graph of 2 million edges and 100 features, 20,000 training nodes: the whole call of `dd.distill`, "
        "with the choice among the sets of `node_means` by networks.",
    ),
)


_LOG: Final = re.compile(r"[IWE]\d{4} ")  # how torch's log begins a line


def run(bench: Bench) -> dict[str, Any]:
    """The bench's record.

    Raises:
        SystemExit: it failed.
    """
    words = [sys.executable, str(ROOT / "scripts" / "bench" / f"{bench.script}.py"), *bench.options.split(), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    load, start = os.getloadavg()[0], time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{bench.name} failed:\n{done.stderr}")
    lines = [line for line in done.stderr.splitlines() if not line.rstrip().endswith("…") and not _LOG.match(line)]
    return {
        "command": f"python scripts/bench/{bench.script}.py {bench.options}",
        "load": round(load, 2),
        "seconds": round(time.monotonic() - start, 1),
        "table": "\n".join(lines).strip(),
        "results": json.loads(done.stdout.splitlines()[-1]),
        "origin": origin(),
    }


def origin() -> dict[str, Any]:
    """Machine, versions and commit."""
    import torch

    from dd.evaluation import origin as of

    told = of(0, torch.device("cpu"))
    return {**told, "cores": os.cpu_count(), "vectors": torch.backends.cpu.get_cpu_capability()}


def page(record: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of what was measured; benches without a record are left out."""
    parts = [
        "# Speed\n",
        "Made by `make bench` from `scripts/records/performance.json`; do not edit. Each table is one run in "
        "which the "
        "rows took turns, so that a slow minute of the machine falls on all of them. Ratios travel between machines, "
        "seconds do not. Where others computed on the machine, the load before a bench says so, and processor"
        " seconds "
        "are the better guide. All rows have the allocator settings of `dd.tune_process()` unless their name says "
        "otherwise; plain loops have torch's own layers.\n",
    ]
    for bench in BENCHES:
        found = record.get(bench.name)
        if found is None:
            continue
        told = found["origin"]
        where = f"{told['machine']}, {told['cores']} cores, {told['vectors']}, torch {told['versions']['torch']}"
        where += f"; commit {told['commit']}; load {found['load']:g} before, {found['seconds']:.0f} seconds."
        says = f"{bench.says} {_BOUND}" if _ALONE in found["command"] else bench.says
        parts += [f"## {bench.title}\n", f"{says}\n", f"`{found['command']}`\n"]
        parts += [f"```text\n{found['table']}\n```\n", f"{where}\n"]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for, and write record and page."""
    names = [bench.name for bench in BENCHES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", action="store_true", help="write the page from the record")
    parser.add_argument("--only", default=",".join(names), help=f"some of {','.join(names)}")
    args = parser.parse_args(argv)
    for name in args.only.split(","):
        if name not in names:
            parser.error(f"unknown bench {name!r}; known: {', '.join(names)}")
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for bench in BENCHES:
        if not args.page and bench.name in args.only.split(","):
            print(f"{bench.name} …", file=sys.stderr, flush=True)
            record[bench.name] = run(bench)
            print(record[bench.name]["table"], flush=True)
            RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
