"""`buffer`: train the experts that trajectory matching needs, before they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.home import default_store
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.shapes import check_whole, filled
from dd.data import Source
from dd.errors import refuse
from dd.evaluation.selection import Protocol
from dd.experts import ExpertRecipe, ExpertStore, load_recipe
from dd.methods import FromExperts, reads_experts
from dd.run.plans import Plan
from dd.run.resolve import load_real, only_images, resolve_device
from dd.run.work import WorkUnit, check_executor, make_named, spread
from dd.transforms.whiten import make_transform


@under_own_settings
@keeping_pages
def buffer(
    data: object,
    recipe: str | ExpertRecipe | FromExperts,
    *,
    experts: int | None = None,
    snapshots: int | None = None,
    protocol: Protocol = "clean",
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    executor: Any = None,
) -> ExpertStore:
    """Make the expert trajectories that are missing in the store, and nothing twice.

    Args:
        data: as in `distill`.
        recipe: a shipped recipe's name, a TOML path, an `ExpertRecipe`, or a method that reads experts, such as a
            trajectory-matching value: then the snapshots stop at the last one that it reads.
        experts, snapshots: how many; the recipe's by default.
        protocol, store, device, threads, progress, root, download, size, aspect: as in `distill`;
            a recipe says nothing of `aspect`, so give that of the run that it is for.
        executor: has `submit`, as of `concurrent.futures`: its workers make the experts; data and recipe are then
            given by name.
    """
    given, target = locals(), resolve_device(device)
    if executor is not None:
        check_executor(executor)
    made, experts, snapshots = _opened(given)
    report = reporter(f"experts {made.recipe.name} on {made.real.name}", progress)
    if executor is not None:
        plan, folder = plan_of_buffer({**given, "store": made.folder.parent}), made.folder.parent / "plans"
        spread(executor, make_expert, plan, folder, expert_units(made, experts, snapshots, target), report, progress)
    made.ensure(
        make_transform(made.real, made.recipe.whiten),
        experts=experts,
        snapshots=snapshots,
        device=target,
        progress=report,
    )
    return made


def _opened(given: Mapping[str, Any]) -> tuple[ExpertStore, int, int]:
    """The store of the arguments of `buffer`, and how many experts and snapshots it is to have."""
    recipe, experts, snapshots = (given[name] for name in ("recipe", "experts", "snapshots"))
    real = only_images(load_real(given["data"], filled(Source, given), given["protocol"]), "`buffer`")
    if isinstance(recipe, FromExperts):
        if not reads_experts(recipe):
            name = getattr(recipe, "name", type(recipe).__name__)
            raise refuse("recipe", "a method that reads experts", f"{name}, which reads none", "It runs without them.")
        snapshots = recipe.snapshots_read if snapshots is None else snapshots
        recipe = recipe.expert
    value = recipe if isinstance(recipe, ExpertRecipe) else load_recipe(recipe)
    store = ExpertStore(default_store(given["store"], given["progress"]), value, real)
    return store, value.experts if experts is None else experts, value.snapshots if snapshots is None else snapshots


def expert_units(store: ExpertStore, experts: int, snapshots: int, device: torch.device) -> list[WorkUnit]:
    """The experts of a store as units of work."""
    check_whole(experts, "experts")
    check_whole(snapshots, "snapshots")

    def made(seed: int) -> WorkUnit:
        def make() -> None:
            transform = make_transform(store.real, store.recipe.whiten)
            store.ensure(transform, experts=experts, snapshots=snapshots, device=device, only=seed)

        done = lambda: store.length(seed) > snapshots  # noqa: E731
        return WorkUnit(f"expert-{seed:05d}", "expert", store.folder, done, make)

    return [made(seed) for seed in range(experts)]


def plan_of_buffer(given: Mapping[str, Any]) -> Plan:
    """The plan of a call; see `Plan.of`."""
    plan = Plan.of("buffer", given)
    plan.bound(buffer)
    return plan


def buffer_units(plan: Plan) -> list[WorkUnit]:
    """The experts of a plan."""
    given = plan.bound(buffer)
    return expert_units(*_opened(given), resolve_device(given["device"]))


def make_expert(plan: str, unit: str) -> str:
    """An expert in a worker: `dd.run.work.make_named`."""
    return make_named(plan, unit, buffer_units)
