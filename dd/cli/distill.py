"""`ddistill distill` and `ddistill estimate`: VERB DATA METHOD, then the options of the run and of the method."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from dd.base.parallel import is_main
from dd.base.progress import say
from dd.cli.listing import HELP, methods_for
from dd.data.card import list_cards
from dd.errors import InputError, find_name, known_as, refuse
from dd.methods.table import METHODS

if TYPE_CHECKING:
    from dd.cli.options import Answer, Common
    from dd.synthetic import AnySet


def run_distill(argv: Sequence[str]) -> Answer:
    """The verb: says where the set and its picture are."""
    words = _ordered("distill", argv)
    from dd.base.process import own_settings

    with own_settings():
        return _distill(words)


def run_estimate(argv: Sequence[str]) -> Answer:
    """The verb: prints what a run costs."""
    words = _ordered("estimate", argv)
    from dd.base.process import own_settings, tune_process
    from dd.cli.options import EstimateOptions, keywords
    from dd.run.estimate import estimate

    with own_settings():
        data, name, run, fields = with_method("estimate", EstimateOptions, words)
        tune_process(run.threads)
        value = estimate(data, name, **keywords(run, estimate), **fields)
        if not run.json:
            say(value)
        return {**value.to_json(), "json": run.json}


def _ordered(verb: str, argv: Sequence[str]) -> list[str]:
    """The words, those that ask for help at the end; where DATA and METHOD are missing, how they are given is said."""
    asked = [word for word in argv if word in HELP]
    words = [word for word in argv if word not in HELP]
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        print(_usage(verb), file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    return [*words, *asked]


def _usage(verb: str) -> str:
    """What comes before the options, where it is missing or something else stands there."""
    methods = f"{', '.join(methods_for('images'))}; for graphs {', '.join(methods_for('graphs'))}"
    methods += f"; for nodes {', '.join(methods_for('nodes'))}"
    return (
        f"usage: ddistill {verb} DATA METHOD [options], in this order\n\n"
        f"DATA: {', '.join(list_cards())} or imagefolder:PATH; "
        f"of graphs {', '.join(list_cards('graphs'))} or smiles:PATH.csv, a table of molecules;\n"
        f"      of one graph whose nodes have classes {', '.join(list_cards('nodes'))}\n"
        "      or nodes:PATH.npz, as `dd.load_graphs(graph).save(PATH)` writes it\n"
        "      (Hugging Face data, Datasets and arrays: in Python, `dd.distill(data, …)` and `dd.evaluate`)\n"
        f"METHOD: {methods}\n\n"
        f"`ddistill {verb} DATA METHOD --help` shows the options of the run and of the method, with the preset's "
        "values as defaults."
    )


def with_method(verb: str, options: type[Common], words: Sequence[str]) -> tuple[str, str, Any, dict[str, Any]]:
    """(data, method, options, the method's fields) of `DATA METHOD [options]`."""
    import tyro

    from dd.cli.options import parsed
    from dd.cli.twins import changes, twin
    from dd.data import about
    from dd.methods import class_of
    from dd.run.resolve import default_ipc, preset_for, resolve_device

    data, name, *rest = words
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
    found: Any = parsed(both, rest, f"ddistill {verb} {data} {name}", what)
    fields = {**budget, **_said(rest, found.method), **changes(defaults, found.method)}
    return data, name, found.run, fields


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


def _distill(words: Sequence[str]) -> Answer:
    from dd.base.process import tune_process
    from dd.cli.options import keywords
    from dd.cli.twins import DistillOptions
    from dd.cli.work import planned
    from dd.run.distill import distill, seed_folder
    from dd.run.many import distill_many

    data, name, run, fields = with_method("distill", DistillOptions, words)
    if run.out is None:
        run = dataclasses.replace(run, out=Path("runs") / f"{Path(data.partition(':')[2] or data).name}-{name}")
    if run.seeds and run.seed:
        raise refuse("seed", "left out beside `seeds`", run.seed)
    given, verb = {**keywords(run, distill), **fields}, cast(Any, distill_many if run.seeds else distill)
    if run.seeds:
        given["seeds"] = run.seeds
        del given["seed"]
    if run.plan is not None:
        return planned("distill", run.plan, run.json, data=data, method=name, **given)
    tune_process(run.threads)
    made = verb(data, name, **given)
    if not run.seeds:
        return {**_told(made, run.out, run.json), "json": run.json}
    sets = [_told(small, seed_folder(run.out, seed), run.json) for seed, small in zip(run.seeds, made, strict=True)]
    return {"sets": sets, "json": run.json}


def _told(small: AnySet, folder: Path, silent: bool) -> dict[str, Any]:
    """The picture beside a set that was made, a line on it, and what `--json` says of it."""
    from dd.synthetic.figures import DRAWN, save_grid
    from dd.synthetic.file import SET
    from dd.synthetic.image_checks import how_many

    path = folder / SET
    if small.kind != "images":
        if is_main():
            small.draw(folder / f"{DRAWN[small.kind]}.png")
        text = f"{small.report()}\nin {path}"
    else:
        if is_main():
            save_grid(small, folder / "grid.png")
        text = f"{how_many(small)} in {path} ({small.nbytes.total:,} bytes); {small.provenance['selection']}"
    if not silent:
        say(text)
    return {
        "path": str(path),
        "bytes": small.nbytes._asdict(),
        "provenance": dict(small.provenance),
    }
