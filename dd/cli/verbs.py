"""The verbs of `ddistill` that need no file of their own: each prints what its function `dd.X` returns."""

from __future__ import annotations

import sys

from dd.base.parallel import is_main
from dd.base.progress import say
from dd.cli.options import (
    Answer,
    BufferOptions,
    EvaluateOptions,
    ListOptions,
    MergeOptions,
    VerifyOptions,
    as_lr,
    keywords,
    parsed,
    reads,
)
from dd.cli.work import planned


@reads("evaluate", EvaluateOptions)
def run_evaluate(options: EvaluateOptions) -> Answer:
    """The verb: prints the report, and says where its page is."""
    from dd.base.process import tune_process
    from dd.contest.evaluate import evaluate
    from dd.run.folder import REPORT
    from dd.run.keep import place_of

    tune_process(options.threads)
    place = place_of(options.path, options.out, REPORT)
    told = {"models": list(options.models) or None, "baselines": options.baselines or None, "lr": as_lr(options.lr)}
    given = keywords(options, evaluate, **told, out=place.path or False)
    if options.plan is not None:
        return planned("evaluate", options.plan, options.json, small=options.path, data=options.data, **given)
    report = evaluate(options.path, options.data, **given)
    if place.page is not None and is_main():
        say(f"page: {place.page}", sys.stderr)
    if not options.json:
        say(report)
    return {**report.to_json(), "json": options.json}


@reads("merge", MergeOptions)
def run_merge(options: MergeOptions) -> Answer:
    """The verb: says where the merged set is."""
    from dd.base.files import check_writable
    from dd.run.merge import check_apart, check_replaced, merge

    check_writable(options.out)
    check_apart(options.out, options.paths)
    made = merge(options.paths, recipe=options.recipe)
    check_replaced(options.out, made)
    made.save(options.out)
    if not options.json:
        say(f"{made} of {len(options.paths)} sets in {options.out} ({options.out.stat().st_size:,} bytes)")
    told = {"path": str(options.out), "bytes": made.nbytes._asdict(), "provenance": dict(made.provenance)}
    return {**told, "json": options.json}


@reads("buffer", BufferOptions)
def run_buffer(options: BufferOptions) -> Answer:
    """The verb: says where the experts are, and how good they became."""
    from dd.base.process import tune_process
    from dd.experts import load_recipe
    from dd.run.buffer import buffer

    recipe, given = load_recipe(options.recipe), keywords(options, buffer)
    if options.plan is not None:
        return planned("buffer", options.plan, options.json, data=options.data, recipe=options.recipe, **given)
    tune_process(options.threads)
    store = buffer(options.data, recipe, **given)
    count = options.experts or recipe.experts
    last = [float(store.curve(seed)[1][-1]) for seed in range(count) if store.length(seed)]
    text = f"{len(last)} experts in {store.folder}; last held-out accuracy {100 * sum(last) / len(last):.1f} %"
    if not options.json:
        say(text)
    return {"folder": str(store.folder), "key": store.key, "experts": len(last), "json": options.json}


@reads("verify", VerifyOptions)
def run_verify(options: VerifyOptions) -> Answer:
    """The verb: says what was checked."""
    from dd.run.verify import verify

    text = verify(options.path)
    if not options.json:
        say(text)
    return {"path": str(options.path), "ok": True, "text": text, "json": options.json}


def list_options(words: list[str]) -> ListOptions:
    """The options of `list`, for words that `dd.cli.listing` leaves to tyro."""
    return parsed(ListOptions, words, "ddistill list")
