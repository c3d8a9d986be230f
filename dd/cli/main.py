"""The verbs of `ddistill` (also `python -m dd`), each also a function `dd.X`; options come from the dataclasses.

Exit codes: 0 done; 1 the work failed (missing or damaged file, full disk, divergence); 2 a wrong argument or data set;
130 interrupted (the checkpoint is written). With `--json` stdout holds one JSON object and nothing else. An error is a
message on stderr; what looks like a fault of this library is code 1 too, in one line that says where to report it.
`DD_DEBUG=1` shows the traceback of either.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, cast

import tyro

import dd
from dd.base.files import check_writable, dump_json
from dd.base.parallel import is_main
from dd.base.process import own_settings, tune_process
from dd.base.progress import say
from dd.cli.benchmark import run_benchmark
from dd.cli.faults import open_streams, said, short_warnings
from dd.cli.measure import run_measure
from dd.cli.options import (
    BufferOptions,
    Common,
    DistillOptions,
    EstimateOptions,
    EvaluateOptions,
    ListOptions,
    MergeOptions,
    TeachOptions,
    VerifyOptions,
    as_lr,
    changes,
    keywords,
    twin,
)
from dd.cli.report import run_report
from dd.contest.evaluate import evaluate
from dd.data import about, list_cards
from dd.errors import InputError, find_name, known_as, refuse
from dd.experts import load_recipe, recipe_names
from dd.methods import METHODS, class_of, names_of
from dd.methods.presets import cite, describe
from dd.models import GNNS, MODELS
from dd.run.buffer import buffer
from dd.run.distill import distill
from dd.run.estimate import estimate
from dd.run.folder import REPORT
from dd.run.keep import place_of
from dd.run.many import distill_many, seed_folder
from dd.run.merge import check_apart, check_replaced, merge
from dd.run.resolve import default_ipc, preset_for, resolve_device
from dd.run.teach import teach
from dd.run.verify import verify
from dd.synthetic import AnySet
from dd.synthetic.file import SET

HELP: Final = ("-h", "--help")


def _with_method(verb: str, options: type[Common], argv: Sequence[str]) -> tuple[str, str, Any, dict[str, Any]]:
    """(data, method, options, the method's fields) of `VERB DATA METHOD [options]`."""
    asked = [word for word in argv if word in HELP]
    words = [word for word in argv if word not in HELP]
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        print(_usage(verb), file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    data, name, *rest = [*words, *asked]
    swapped = known_as(data, METHODS) and not known_as(name, METHODS)
    name = find_name("method", name, METHODS, "DATA comes first, then METHOD." if swapped else "")
    device = resolve_device(_early(rest, "--device"))
    known = None
    with suppress(InputError):  # which is said later, by what reads the data
        known = about(data, _early(rest, "--root")).name
    text = _early(rest, "--ipc") or ""
    told = int(text) if text.isdecimal() and len(text) < 1000 else None
    budget = {"ipc": told or default_ipc(name)} if class_of(name).budget == "ipc" else {}
    tier = cast(Any, _early(rest, "--preset") or "auto")
    row = preset_for(name, known, tier, device, budget)
    defaults = twin(METHODS[name](**row.fields))
    both = dataclasses.make_dataclass(
        f"{verb.title()}",
        [
            ("run", Annotated[options, tyro.conf.arg(name="")]),
            (
                "method",
                Annotated[type(defaults), tyro.conf.arg(name="")],
                dataclasses.field(default=defaults),
            ),
        ],
        kw_only=True,
    )
    what = (inspect.getdoc(class_of(name)) or "").partition("\n\nAttributes")[0]
    parsed: Any = tyro.cli(both, args=rest, prog=f"ddistill {verb} {data} {name}", description=what)
    fields = {**budget, **_said(rest, parsed.method), **changes(defaults, parsed.method)}
    return data, name, parsed.run, fields


def _said(words: Sequence[str], method: Any) -> dict[str, Any]:
    """Fields that are named in the words, whether or not they differ from those of the preset."""
    named = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}
    return {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.name in named}


def _early(words: Sequence[str], option: str) -> str | None:
    """The value of an option that decides on the defaults of others; whether it is a good one is said later."""
    found = None
    for word, after in zip(words, [*words[1:], None], strict=False):
        if word == option:
            found = after
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def _usage(verb: str) -> str:
    """What comes before the options, where it is missing or something else stands there."""
    methods = f"{', '.join(names_of('images'))}; for graphs {', '.join(names_of('graphs'))}"
    return (
        f"usage: ddistill {verb} DATA METHOD [options], in this order\n\n"
        f"DATA: {', '.join(list_cards())} or imagefolder:PATH; "
        f"of graphs {', '.join(list_cards('graphs'))} or smiles:PATH.csv, a table of molecules\n"
        "      (Hugging Face data, Datasets and arrays: in Python, `dd.distill(data, …)` and `dd.evaluate`)\n"
        f"METHOD: {methods}\n\n"
        f"`ddistill {verb} DATA METHOD --help` shows the options of the run and of the method, with the preset's "
        "values as defaults."
    )


def _distill(argv: Sequence[str]) -> dict[str, Any]:
    data, name, run, fields = _with_method("distill", DistillOptions, argv)
    if run.out is None:
        run = dataclasses.replace(run, out=Path("runs") / f"{Path(data.partition(':')[2] or data).name}-{name}")
    if run.seeds and run.seed:
        raise refuse("seed", "left out beside `seeds`", run.seed)
    tune_process(run.threads)
    given, verb = {**keywords(run, distill), **fields}, cast(Any, distill_many if run.seeds else distill)
    if run.seeds:
        given["seeds"] = run.seeds
        del given["seed"]
    made = verb(data, name, **given)
    if not run.seeds:
        return {**_told(made, run.out, run.json), "json": run.json}
    sets = [_told(small, seed_folder(run.out, seed), run.json) for seed, small in zip(run.seeds, made, strict=True)]
    return {"sets": sets, "json": run.json}


def _told(small: AnySet, folder: Path, silent: bool) -> dict[str, Any]:
    """The picture beside a set that was made, a line on it, and what `--json` says of it."""
    from dd.synthetic.figures import save_grid

    path = folder / SET
    if small.kind == "graphs":
        small.draw(folder / "trees.png")
        text = f"{small.report()}\nin {path}"
    else:
        save_grid(small, folder / "grid.png")
        text = f"{len(small)} images in {path} ({path.stat().st_size:,} bytes); {small.provenance['selection']}"
    if not silent:
        say(text)
    return {
        "path": str(path),
        "bytes": small.nbytes._asdict(),
        "provenance": dict(small.provenance),
    }


def _evaluate(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(EvaluateOptions, args=argv, prog="ddistill evaluate")
    tune_process(options.threads)
    place = place_of(options.path, options.out, REPORT)
    told = {"models": list(options.models) or None, "baselines": options.baselines or None, "lr": as_lr(options.lr)}
    given = keywords(options, evaluate, **told, out=place.path or False)
    report = evaluate(options.path, options.data, **given)
    if place.page is not None:
        say(f"page: {place.page}", sys.stderr)
    if not options.json:
        say(report)
    return {**report.to_json(), "json": options.json}


def _merge(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(MergeOptions, args=argv, prog="ddistill merge")
    check_writable(options.out)
    check_apart(options.out, options.paths)
    made = merge(options.paths, recipe=options.recipe)
    check_replaced(options.out, made)
    made.save(options.out)
    if not options.json:
        say(f"{made} of {len(options.paths)} sets in {options.out} ({options.out.stat().st_size:,} bytes)")
    told = {"path": str(options.out), "bytes": made.nbytes._asdict(), "provenance": dict(made.provenance)}
    return {**told, "json": options.json}


def _buffer(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(BufferOptions, args=argv, prog="ddistill buffer")
    tune_process(options.threads)
    recipe = load_recipe(options.recipe)
    store = buffer(options.data, recipe, **keywords(options, buffer))
    count = options.experts or recipe.experts
    last = [float(store.curve(seed)[1][-1]) for seed in range(count) if store.length(seed)]
    text = f"{len(last)} experts in {store.folder}; last held-out accuracy {100 * sum(last) / len(last):.1f} %"
    if is_main() and not options.json:  # of the processes of a torchrun one says it
        say(text)
    return {"folder": str(store.folder), "key": store.key, "experts": len(last), "json": options.json and is_main()}


def _teach(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(TeachOptions, args=argv, prog="ddistill teach")
    tune_process(options.threads)
    made = teach(options.data, options.models, **keywords(options, teach))
    told = [{"name": t.name, "accuracy": t.accuracy, "sha256": t.sha256} for t in made]
    if not options.json:
        say("\n".join(f"{t.name}: {100 * t.accuracy:.1f} % of held-out training images" for t in made))
    return {"teachers": told, "json": options.json}


def _estimate(argv: Sequence[str]) -> dict[str, Any]:
    data, name, run, fields = _with_method("estimate", EstimateOptions, argv)
    tune_process(run.threads)
    value = estimate(data, name, **keywords(run, estimate), **fields)
    if not run.json:
        say(value)
    return {**value.to_json(), "json": run.json}


def _list(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(ListOptions, args=argv, prog="ddistill list")
    if options.cite and not options.method:
        raise refuse("--cite", "given with a method", "none", "Try `ddistill list mtt --cite`.")
    if options.method:
        text = cite(options.method) if options.cite else describe(options.method)
        if not options.json:
            say(text)
        return {"method": options.method, "text": text, "json": options.json}
    tables = {
        "methods": sorted(METHODS),
        "datasets": list(list_cards()),
        "graphs": list(list_cards("graphs")),
        "models": sorted(MODELS),
        "graph models": sorted(GNNS),
        "recipes": recipe_names(),
    }
    if not options.json:
        say("\n".join(f"{kind}: {', '.join(names)}" for kind, names in tables.items()))
    return {**tables, "json": options.json}


def _verify(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(VerifyOptions, args=argv, prog="ddistill verify")
    text = verify(options.path)
    if not options.json:
        say(text)
    return {"path": str(options.path), "ok": True, "text": text, "json": options.json}


VERBS: dict[str, tuple[Callable[[Sequence[str]], dict[str, Any]], str]] = {
    "buffer": (_buffer, "make the expert trajectories that are missing"),
    "distill": (_distill, "turn a data set into a few synthetic images a class, or a summary of trees"),
    "evaluate": (_evaluate, "train fresh networks on a set and test them, beside baselines"),
    "benchmark": (run_benchmark, "every method of a data set under one protocol, beside baselines"),
    "merge": (_merge, "join sets of images, such as those of several parties, into one"),
    "report": (run_report, "one HTML page on runs or a benchmark: images, neighbours, curves, tables"),
    "measure": (run_measure, "robustness, calibration, privacy, attacks, nearest real images, downstream use"),
    "teach": (_teach, "train the teachers that decoupled methods need"),
    "estimate": (_estimate, "disk, memory and time of a run, before it starts"),
    "list": (_list, "methods, data sets, models, recipes; or describe a method"),
    "verify": (_verify, "check every checksum of a set, a run or a store"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _speak_to_any_terminal()
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    argv = argv or [""]
    with open_streams(), own_settings(), _stopped_by_sigterm(), short_warnings(argv[0]):
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
        if answer.pop("json"):
            print(dump_json(answer))
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # the reader of stdout is gone, as in `… --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that closing it is no second error
        return 141
    except KeyboardInterrupt:
        resumable = argv[0] in ("benchmark", "buffer", "distill", "teach")
        way_on = "; the same command goes on where it stopped" if resumable else ""
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
