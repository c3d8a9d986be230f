"""The contest of images: a set beside real images of its budget, each under its recipe, on the same networks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import torch

from dd.base.parts import ALONE, Parts
from dd.base.seeding import child_seed
from dd.base.texts import count
from dd.contest.baselines_images import IMAGE_BASELINES, BesideImages, ImageBaseline, ImageEntrant
from dd.contest.contest import ROOM, Given, Rules, chosen, row_of
from dd.contest.recipes import Under
from dd.data import Images, Ipc
from dd.data.labels import check_same_classes
from dd.errors import refuse
from dd.evaluation import NetworkLearner, Reader, ReaderLearner, Row, Scorer, enough_steps, tune_lr
from dd.evaluation.fast import Forward
from dd.evaluation.scores import Figures, check_metric, shared_figures
from dd.evaluation.subset import Equipped
from dd.evaluation.unseen import warn_trained
from dd.methods import Infer, Recover, Run
from dd.models import AnyModel
from dd.run.resolve import only_images
from dd.synthetic import ImageSet, SyntheticImages
from dd.synthetic.image_checks import how_many
from dd.synthetic.layout import PIXELS, PLAIN

MOST: Final = 16
"""Times the steps of the other rows that converged networks take at most."""


@final
@dataclass(frozen=True, kw_only=True)
class ImageContest:
    """Trains and scores the networks of image sets.

    Attributes:
        entrants: what has rows.
        real: the data.
        rules: `repeats` networks a row, and where a baseline has several draws as many in all, at least two of each;
            its `lr` is the entrants' own.
        scorer: of the test images.
        forward: makes logits in training; `None` is what pays.
        parts: where networks are shared with other processes.

    Raises:
        InputError: a metric that the test images do not have.
    """

    entrants: Sequence[ImageEntrant]
    real: Images
    rules: Rules
    scorer: Scorer
    forward: Forward | None = None
    parts: Parts = ALONE

    def __post_init__(self) -> None:
        check_metric(self.metric, self.scorer.split.labels, self.real.num_classes)

    @property
    def metric(self) -> str:
        """Of the rows."""
        return self.rules.metric or "accuracy"

    def count(self, models: Sequence[AnyModel | Reader | None]) -> int:
        """How many rows there will be."""
        return len(self.entrants) * len(models)

    def rows(self, models: Sequence[AnyModel | Reader | None]) -> Iterator[Row]:
        """A row for each entrant and model."""
        pairs = [(entrant, model) for entrant in self.entrants for model in models]
        for number, (entrant, model) in enumerate(pairs):
            yield self._row(entrant, model, number)

    def places(self, models: Sequence[AnyModel | Reader | None]) -> list[int]:
        """The networks of all rows, as places of parts."""
        pairs = [entrant for entrant in self.entrants for _ in models]
        counts = [len(entrant.sets) * self._each(entrant) for entrant in pairs]
        return [number * ROOM + r for number, count in enumerate(counts) for r in range(count)]

    def network(self, models: Sequence[AnyModel | Reader | None], place: int) -> None:
        """Make the part of one of the `places`; `parts` is told to make no other."""
        pairs = [(entrant, model) for entrant in self.entrants for model in models]
        self._row(*pairs[place // ROOM], place // ROOM)

    def _each(self, entrant: ImageEntrant) -> int:
        """Networks of each set of a row."""
        sets = len(entrant.sets)
        return self.rules.repeats if sets == 1 else max(2, -(-self.rules.repeats // sets))

    def _row(self, entrant: ImageEntrant, model: AnyModel | Reader | None, number: int) -> Row:
        start, sets = time.monotonic(), entrant.sets
        learner, note = self._learner(entrant, model)
        each = self._each(entrant)
        found: list[Figures] = []
        for draw, given in enumerate(sets):
            seeds = [child_seed(self.rules.seed, "evaluate", draw, r) for r in range(each)]
            found += self._figures(learner, given, seeds, number * ROOM + draw * each)
        told = {
            "set": entrant.name,
            **learner.told(sets[0]),
            "note": note,
            "bytes": bytes_of(entrant.stored or sets[0]),
        }
        told["draws"] = len(sets)
        return Row.of(found, self.metric, **told, seconds=time.monotonic() - start)

    def _figures(self, learner: NetworkLearner, given: Equipped, seeds: Sequence[int], first: int) -> list[Figures]:
        """Those of a network a seed; shared ones are parts from place `first` on."""
        if not self.parts.shared:
            return learner.figures(given, seeds, self.scorer, self.metric)
        places = range(first, first + len(seeds))
        one = lambda place: learner.figures(given, [seeds[place - first]], self.scorer, self.metric)[0]  # noqa: E731
        return shared_figures(self.parts, places, one)

    def _learner(self, entrant: ImageEntrant, model: AnyModel | Reader | None) -> tuple[NetworkLearner, str]:
        """What trains the networks of a row, and how its steps were found where the recipe does not say."""
        rules, given = self.rules, entrant.sets[0]
        if isinstance(model, Reader):
            return ReaderLearner.of(model, rules.device), ""
        learner = NetworkLearner(
            model=model,
            steps=rules.steps,
            lr=None if entrant.lr == "tuned" else entrant.lr,
            device=rules.device,
            forward=self.forward,
        )
        if entrant.lr == "tuned":
            if self.real.val is None:
                raise refuse("lr", "`recipe` or a number, since this data holds out no validation split", "tuned")
            learner = tune_lr(learner, given, self.real.val, child_seed(rules.seed, "tune"), metric=self.metric)
        if not entrant.converged:
            return learner, ""
        if self.real.val is None:
            raise refuse(entrant.name, "left out where no validation split is held out", entrant.name)
        least, seed = learner.recipe(given).steps, child_seed(rules.seed, "enough")
        steps, flat = enough_steps(learner, given, self.real.val, seed, MOST * least, least)
        note = "steps by the validation split" if flat else f"still gaining at {steps} steps"
        return dataclasses.replace(learner, steps=steps), note


def bytes_of(given: Equipped) -> int | None:
    """Of the images and labels of a set in its file; `None` of real data, which is no set."""
    if not isinstance(given, ImageSet):
        return None
    sizes = given.nbytes
    return sizes.images + sizes.labels


def pick_images(
    small: ImageSet, method: Recover | Infer | None, baselines: str | Sequence[str] | None
) -> list[ImageBaseline]:
    """The baselines of a set that were asked for, or those that it has by default.

    Raises:
        InputError: an unknown name.
    """
    soft = method is not None and small.hard() is not small
    picked = chosen(IMAGE_BASELINES, "evaluate", baselines)
    wanted = [one for one in picked if soft or one.labels is None]
    wanted = [one for one in wanted if not small.layout.whole or one.layout is None]
    return wanted if baselines is None else picked


def given_images(
    small: ImageSet,
    real: Images,
    method: Recover | Infer | None,
    picked: Sequence[ImageBaseline],
    rules: Rules,
    run: Run,
    forward: Forward | None = None,
    as_trained: Under = lambda small: small,
) -> Given:
    """The contest of a set and its baselines.

    Args:
        small: the set.
        real: the data.
        method: the set's own, where its labels are of teachers that can be found again.
        picked: see `pick_images`.
        rules: `lr` is the set's; a baseline has a number too, and else that of its recipe.
        run: where baselines are made, and the store of teachers.
        forward: makes logits in training; `None` is what pays.
        as_trained: what every set is trained as, see `dd.contest.recipes`.

    Raises:
        InputError: see `match_data`, `ImageContest` and `dd.contest.recipes.under`.
    """
    small, name = match_data(small, real), str(small.method.get("name", "imported"))
    assert real.test is not None
    trained = as_trained(small)
    own = ImageEntrant(name=name, sets=[trained], lr=rules.lr, stored=small)
    scorer = Scorer(real.test, rules.device)
    contest = ImageContest(entrants=[own], real=real, rules=rules, scorer=scorer, forward=forward)
    counts, stored, notes = _numbers(small, real) if picked and len(real.train) else (small.budget, small.counts, [])
    layout = small.layout if isinstance(small, SyntheticImages) else PIXELS
    lr = None if rules.lr == "tuned" else rules.lr
    beside = BesideImages(
        real=real,
        ipc=_each(counts, real),
        recipe=small.recipe.hard(),
        lr=lr,
        small=small,
        layout=layout,
        stored=_each(stored, real),
        method=method,
    )
    entrants, about, made = [own], dict[str, str](), dict[Any, list[tuple[Equipped, Equipped]]]()
    for one in picked:
        if reason := one.lacks(beside):
            notes.append(f"no {one.name} row: {reason}")
            continue
        sets = made[one.make] = made.get(one.make) or [(each, as_trained(each)) for each in one.sets(beside, run)]
        row = row_of(one.name, name)
        about[row] = one.told
        trained_on = [each for _, each in sets]
        step_size = "tuned" if one.tuned else beside.lr
        entrants.append(ImageEntrant(name=row, sets=trained_on, lr=step_size, stored=sets[0][0]))
    return Given(
        small=small,
        real=real,
        contest=dataclasses.replace(contest, entrants=entrants),
        title=_title(small, name),
        split="test",
        notes=notes,
        about=about,
    )


def _numbers(small: ImageSet, real: Images) -> tuple[Sequence[int], Sequence[int], list[str]]:
    """Real images of each class, of `random` and of `random_packed`, and what a report says of their numbers."""
    numbers, notes = [small.budget, [count * small.canvas**2 for count in small.counts]], []
    if small.canvas > 1:
        smallest = int(torch.bincount(real.train.labels, minlength=real.num_classes).min())
        numbers = [[min(count, smallest) for count in counts] for counts in numbers]
        each = _span(numbers[1])
        notes.append(f"a canvas counts as {small.canvas**2} images, its bytes: {each} a class in the baselines")
    if not small.layout.whole:
        more = " (which is more)" if PLAIN.itemsize * sum(numbers[0]) > small.layout.itemsize * sum(numbers[1]) else ""
        notes.append(
            f"images stored as {small.layout}: their bytes are those of {_span(numbers[0])} a class in float32{more}"
        )
    return numbers[0], numbers[1], notes


def _span(counts: Sequence[int]) -> str:
    """`3`, or `1 to 3`."""
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def _each(counts: Sequence[int], real: Images) -> Ipc:
    """Images a class: a number, or one by the name of each class."""
    return counts[0] if len(set(counts)) == 1 else dict(zip(real.classes, counts, strict=True))


def _title(small: ImageSet, name: str) -> str:
    """The method, the set's size, and the set that it began from, where it did."""
    start = small.method.get("init")
    begun = (
        f", begun from the set {start.get('set')} {str(start.get('sha256'))[:12]}" if isinstance(start, dict) else ""
    )
    return f"{name}, {how_many(small)}{begun}"


def _check_shape(small: ImageSet, real: Images) -> None:
    """Refuse data of other channels or another size than the set's."""
    if small.channels != real.channels:
        way = "Judge it on data like that which it was made from."
        if (mode := {1: "L", 3: "RGB"}.get(small.channels)) is not None:
            way += f" Pictures of your own get them by PIL's `.convert({mode!r})`."
        raise refuse(
            "data",
            f"of images with {count(small.channels, 'channel')}, like the set",
            f"{real.channels} ({real.name})",
            way,
        )
    if small.size != real.size:
        size = small.size[0] if small.size[0] == small.size[1] else small.size
        way = f"Give `size={size}`" + (", which resizes it." if real.card else "; of `dd.Images`, where they are made.")
        own, shape = [small.channels, *small.size], [real.channels, *real.size]
        raise refuse("data", f"of images {own}, like the set", f"{shape} ({real.name})", way)


def match_data(small: ImageSet, real: Images, test: bool = True) -> ImageSet:
    """The set with its transform ready, after comparing it with the data, which must have a `test` split.

    Raises:
        InputError: other classes or another shape, or no test split.

    Warns:
        UserWarning: the test images are those that the set was made from.
    """
    real = only_images(real, "a set of images")
    if len(small.classes) != real.num_classes:
        k, way = len(small.classes), ""
        if real.num_classes < k and not len(real.train):
            way = f'If some have no test image, give `dd.load_images(data, role="evaluate", classes={k})`.'
        raise refuse("data", f"of {k} classes, like the set", f"{real.num_classes} ({real.name})", way)
    check_same_classes(small.classes, real.classes, "set")
    _check_shape(small, real)
    if test and real.test is None:
        raise refuse("data", "with a test split", "none", "Give dd.Images(train=…, test=…) or a test Dataset.")
    if test:
        warn_trained(small.provenance, real)
    if small.transform is not None:
        return small
    if not len(real.train):
        return dataclasses.replace(small, transform=small.ready_transform())
    return small.attach(real.train)
