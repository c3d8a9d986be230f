"""`ddistill teach`: the teachers of decoupled methods, made before they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import tyro

from dd.base.progress import say
from dd.cli.options import Answer, Data, Planned, keywords, reads
from dd.cli.work import planned
from dd.teachers import TeacherRecipe


@dataclass(frozen=True, kw_only=True)
class TeachOptions(Planned):
    """Train the teachers that decoupled methods need.

    Attributes:
        data: a card's name or `imagefolder:PATH`.
        models: names of networks with batch norms.
        recipe: how they are trained; its model is not read.
        protocol: `clean` or `paper`.
    """

    data: Data
    models: tyro.conf.Positional[tuple[str, ...]] = ("convnet(norm=batch)",)
    recipe: TeacherRecipe = field(default_factory=TeacherRecipe)
    protocol: Literal["clean", "paper"] = "clean"


@reads("teach", TeachOptions)
def run_teach(options: TeachOptions) -> Answer:
    """The verb: says how good the teachers are."""
    from dd.base.process import tune_process
    from dd.run.teach import teach

    given = keywords(options, teach)
    if options.plan is not None:
        return planned("teach", options.plan, options.json, data=options.data, models=options.models, **given)
    tune_process(options.threads)
    made = teach(options.data, options.models, **given)
    told = [{"name": t.name, "accuracy": t.accuracy, "sha256": t.sha256} for t in made]
    if not options.json:
        say("\n".join(f"{t.name}: {100 * t.accuracy:.1f} % of held-out training images" for t in made))
    return {"teachers": told, "json": options.json}
