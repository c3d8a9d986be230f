"""`dd.rank_architectures`: does training on the set order networks as training on all images does, and in what time?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Unpack, final

import torch

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import as_list, check, check_whole
from dd.errors import InputError, refuse, unknown
from dd.evaluation import NetworkLearner, Scorer
from dd.evaluation.subset import Equipped
from dd.measure.bench import AnyImageSet, Bench, Options, open_bench
from dd.measure.values import Values, table
from dd.models import ModelSpec, as_spec, build
from dd.run.keep import kept

WIDTHS: Final = (8, 16, 32, 64)
DEPTHS: Final = (1, 2, 3, 4)
NORMS: Final = ("instance", "batch", "layer", "group", "none")
POOLS: Final = ("avg", "max", "none")
PROXIES: Final = ("random",)


@under_own_settings
def architectures(
    count: int,
    *,
    channels: int,
    classes: int,
    size: tuple[int, int],
    seed: int = 0,
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    norms: Sequence[str] = NORMS,
    pools: Sequence[str] = POOLS,
) -> tuple[ModelSpec, ...]:
    """Different ConvNets, drawn without replacement from all widths × depths × norms × poolings that fit the pictures.

    Args:
        count: how many.
        channels, classes, size: of the data: C, K and (H, W).
        seed: of the draw.
        widths, depths, norms, pools: what the space is made of.

    Raises:
        InputError: fewer fit than are asked for.
    """
    check_whole(count, "count")
    space = [*product(widths, depths, norms, pools)]
    chosen: list[ModelSpec] = []
    for place in torch.randperm(len(space), generator=child(seed, "architectures")).tolist():
        width, depth, norm, pool = space[place]
        spec = ModelSpec.of("convnet", width=width, depth=depth, norm=norm, pool=pool)
        try:
            with torch.device("meta"):
                build(spec, channels=channels, classes=classes, size=size, seed=0)
        except InputError:  # pooled to nothing, or a norm over one value
            continue
        chosen.append(spec)
        if len(chosen) == count:
            return tuple(chosen)
    raise refuse("count", f"at most {len(chosen)}, the networks that fit {size[0]}×{size[1]} pictures", count)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
    """Spearman's ρ (of mean ranks) and Kendall's τ_b of two lists, in [−1, 1]; `None` where one list is constant.

    Raises:
        InputError: unequal lengths, or fewer than two.
    """
    check(torch.tensor(b), "b", "M", M=len(a))
    if len(a) < 2:
        raise refuse("a", "at least two numbers", len(a))
    if len(set(a)) == 1 or len(set(b)) == 1:
        return None, None
    from scipy.stats import kendalltau, spearmanr

    return float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)


@final
@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One way to find out how good the networks are.

    Attributes:
        name: `full`, that of the set's method, or `random`.
        accuracy: test accuracy (fractions) of each architecture, over its fresh networks.
        seconds: of all trainings.
        lr, steps: of each training.
    """

    name: str
    accuracy: tuple[Values, ...]
    seconds: float
    lr: float
    steps: int

    @property
    def means(self) -> tuple[float, ...]:
        """Mean accuracy of each architecture."""
        return tuple(value.mean for value in self.accuracy)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Ranking(Told):
    """What `dd.rank_architectures` answers; `print` is a table.

    Attributes:
        models: the architectures.
        full: trained on all images.
        proxies: the set first, then the baselines.
        dataset, method, origin: what was measured, and where.
        notes: what was left open.
    """

    models: tuple[str, ...]
    full: Proxy
    proxies: tuple[Proxy, ...]
    dataset: str
    method: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def correlation(self, proxy: Proxy) -> tuple[float | None, float | None]:
        """Spearman's ρ and Kendall's τ_b of mean accuracies with those of full data."""
        return rank_correlation(proxy.means, self.full.means)

    def regret(self, proxy: Proxy) -> float:
        """How much full-data accuracy (a fraction) is lost by taking the architecture that is best on the proxy."""
        best = max(range(len(self.models)), key=lambda i: proxy.means[i])
        return max(self.full.means) - self.full.means[best]

    def saved(self, proxy: Proxy) -> float:
        """Seconds of full training minus those of the proxy."""
        return self.full.seconds - proxy.seconds

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "downstream": "architecture ranking",
            "dataset": self.dataset,
            "method": self.method,
            "models": list(self.models),
            "full": _proxy_json(self.full),
            "proxies": [
                {
                    **_proxy_json(p),
                    "spearman": self.correlation(p)[0],
                    "kendall": self.correlation(p)[1],
                    "regret": self.regret(p),
                    "seconds_saved": round(self.saved(p), 3),
                }
                for p in self.proxies
            ],
            "origin": dict(self.origin),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        rows = [
            (
                p.name,
                *(_number(c) for c in self.correlation(p)),
                f"{100 * self.regret(p):.1f}",
                *_cost(p, self.saved(p)),
            )
            for p in self.proxies
        ]
        rows.append(("full", "1", "1", "0.0", *_cost(self.full, 0.0)))
        head = ("trained on", "Spearman", "Kendall", "regret %", "steps", "lr", "s", "s saved")
        lines = [f"{self.method} on {self.dataset}: {len(self.models)} architectures", *table(head, rows)]
        every = (*self.proxies, self.full)
        cells = [(m, *(p.accuracy[i].text() for p in every)) for i, m in enumerate(self.models)]
        lines += table(("accuracy %", *(p.name for p in every)), cells)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _cost(proxy: Proxy, saved: float) -> tuple[str, str, str, str]:
    return str(proxy.steps), f"{proxy.lr:.3g}", f"{proxy.seconds:.1f}", f"{saved:.1f}"


def _proxy_json(proxy: Proxy) -> dict[str, Any]:
    return {
        "name": proxy.name,
        "accuracy": [value.to_json() for value in proxy.accuracy],
        "lr": proxy.lr,
        "steps": proxy.steps,
        "seconds": round(proxy.seconds, 3),
    }


@under_own_settings
@kept("architectures")
def rank_architectures(
    small: AnyImageSet,
    data: object,
    *,
    count: int = 16,
    models: Sequence[str | ModelSpec] | None = None,
    full_steps: int | None = None,
    baselines: Sequence[str] = PROXIES,
    **options: Unpack[Options],
) -> Ranking:
    """Train many networks on the set and on all images; compare the order of their test accuracies, and the time.

    Random images of the same budget stand beside the set: an order that they give as well is no merit of the set.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`, with training images.
        count: how many networks are drawn from `architectures`.
        models: these networks instead.
        full_steps: optimiser steps on all images; `None`: doubled, with the set's own network, until the validation
            split gains nothing.
        baselines: `random` or none.
        **options: see `dd.measure.bench.Options`; `repeats` is 1 unless given, and `model` that of tuning.

    Returns:
        Accuracies, rank correlations with full data, the loss of the choice, and seconds.

    Raises:
        InputError: fewer than two networks, no training images, an unknown baseline.
        DivergedError: a training is not finite.
    """
    baselines = as_list(baselines)
    for name in baselines:
        if name not in PROXIES:
            raise unknown("baseline", name, PROXIES)
    options.setdefault("repeats", 1)
    bench = open_bench(small, data, **options)
    real, notes = bench.real, []
    if models is None:
        specs = architectures(count, seed=bench.seed, channels=real.channels, classes=real.num_classes, size=real.size)
    else:
        specs = tuple(_spec(model) for model in as_list(models))
    if len(specs) < 2:
        raise refuse("models", "at least two networks", len(specs))
    sets: list[tuple[str, Callable[[int], Equipped]]] = [(bench.about["method"], lambda _: bench.small)]
    sets += [(name, bench.random) for name in baselines]
    proxies = [_proxy(bench, name, draw, bench.learner_for(draw(0)), specs) for name, draw in sets]
    whole, learner, seen = bench.full(full_steps)
    if not seen:
        notes.append(f"full data still gained at {learner.steps} steps, where it was stopped: give `full_steps=`")
    about = bench.about
    about.pop("model")
    return Ranking(
        models=tuple(map(str, specs)),
        full=_proxy(bench, "full", lambda _: whole, learner, specs),
        proxies=tuple(proxies),
        notes=tuple(notes),
        **about,
    )


def _spec(model: str | ModelSpec) -> ModelSpec:
    spec = as_spec(model)
    if not isinstance(spec, ModelSpec):
        raise refuse("models", "names of networks", type(model).__name__)
    return spec


def _proxy(
    bench: Bench, name: str, draw: Callable[[int], Equipped], learner: NetworkLearner, specs: Sequence[ModelSpec]
) -> Proxy:
    scorer, found, seconds = Scorer(bench.test, bench.learner.device), [], 0.0
    sets = [draw(i) for i in range(bench.repeats)]
    for place, spec in enumerate(specs):
        own, values = dataclasses.replace(learner, model=spec), []
        for train_on, seed in zip(sets, bench.seeds(), strict=True):
            start = time.monotonic()
            trained = own.fit(train_on, seed)
            seconds += time.monotonic() - start
            values.append(scorer.accuracy(trained.net, train_on.ready_transform()))
        found.append(Values(tuple(values)))
        bench.progress(place + 1, len(specs), f"{name} {100 * found[-1].mean:.1f} %")
    recipe = learner.recipe(sets[0])
    return Proxy(name=name, accuracy=tuple(found), seconds=seconds, lr=recipe.lr, steps=recipe.steps)
