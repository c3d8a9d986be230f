"""`dd.continual`: classes come task by task, and only synthetic images of the old ones are kept."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Unpack, final

import torch
from torch import Tensor

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import as_list, check_whole
from dd.data import Split
from dd.data.images.splits import Index, Rows
from dd.errors import refuse, unknown
from dd.evaluation import RealImages, Scorer
from dd.evaluation.subset import Equipped
from dd.measure.bench import AnyImageSet, Bench, Options, open_bench
from dd.measure.values import Values, table
from dd.run.keep import kept
from dd.synthetic import ImageSet, SyntheticImages

MEMORIES: Final = ("random",)


@final
@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """One memory: test accuracy (fractions) on all classes so far, after each task, over class orders.

    Attributes:
        name: of the set's method, or `random`.
        accuracy: after each task.
        lr, steps: of each training.
    """

    name: str
    accuracy: tuple[Values, ...]
    lr: float
    steps: int

    @property
    def average(self) -> Values:
        """Mean over tasks for each class order: the average incremental accuracy."""
        orders = zip(*(value.values for value in self.accuracy), strict=True)
        return Values(tuple(sum(each) / len(each) for each in orders))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Continual(Told):
    """What `dd.continual` answers; `print` is a table.

    Attributes:
        rows: the set first, then the baselines.
        classes: how many are known after each task.
        per_class: images (or canvases) a class in the memory, in the mean rounded down.
        dataset, method, model, origin: what was measured, and where.
        notes: what was done to the set.
    """

    rows: tuple[MemoryRow, ...]
    classes: tuple[int, ...]
    per_class: int
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "downstream": "continual learning",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "classes": list(self.classes),
            "per_class": self.per_class,
            "rows": [
                {
                    "memory": row.name,
                    "accuracy": [value.to_json() for value in row.accuracy],
                    "average": row.average.to_json(),
                    "lr": row.lr,
                    "steps": row.steps,
                }
                for row in self.rows
            ],
            "origin": dict(self.origin),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        head = ("memory", *(f"{count} classes" for count in self.classes), "average")
        rows = [(r.name, *(value.text() for value in r.accuracy), r.average.text()) for r in self.rows]
        n = self.rows[0].average.n
        lines = [f"{self.method} on {self.dataset}, {self.model}: accuracy % after each task, {n} class orders"]
        return "\n".join([*lines, *table(head, rows), *(f"note: {note}" for note in self.notes)])


@under_own_settings
@kept("continual")
def continual(
    small: AnyImageSet,
    data: object,
    *,
    tasks: int = 5,
    baselines: Sequence[str] = MEMORIES,
    **options: Unpack[Options],
) -> Continual:
    """Class-incremental learning from the set alone, as GDumb does (Prabhu, Torr and Dokania, ECCV 2020).

    Classes come in `tasks` groups, in an order that is drawn anew for every repeat. After each group a fresh network
    with as many outputs as classes so far is trained on their synthetic images, in the one loop, and tested on all test
    images of these classes. A random memory of the same budget stands beside it.

    Args:
        small: an image set, its file or its run folder. Stored labels of augmented batches know all classes at once, so
            classes take their place; rows of probabilities are cut to the classes so far and scaled to sum 1.
        data: as in `dd.evaluate`, with training images if there are baselines.
        tasks: groups of classes, as equal as they can be; the first has at least two classes.
        baselines: `random` or none.
        **options: see `dd.measure.bench.Options`; a repeat is one class order.

    Returns:
        Accuracy after each task with mean, sample std and n over class orders, and its average.

    Raises:
        InputError: too many tasks, an unknown baseline, or a class without synthetic images.
        DivergedError: a training is not finite.
    """
    baselines = as_list(baselines)
    for name in baselines:
        if name not in MEMORIES:
            raise unknown("baseline", name, MEMORIES)
    bench = open_bench(small, data, **options)
    most = bench.real.num_classes // 2
    if check_whole(tasks, "tasks") > max(1, most):
        raise refuse("tasks", f"at most {max(1, most)} for {bench.real.num_classes} classes", tasks)
    notes: list[str] = []
    memory = plain_set(bench.small, notes)
    if len(set(counts := bench.small.counts)) > 1:
        notes.append(f"{min(counts)} to {max(counts)} images a class in the memory")
    orders = [
        torch.randperm(bench.real.num_classes, generator=child(bench.seed, "classes", i)) for i in range(bench.repeats)
    ]
    rows = [_row(bench, bench.about["method"], [memory] * bench.repeats, orders, tasks)]
    for name in baselines:
        rows.append(_row(bench, name, [bench.random(i) for i in range(bench.repeats)], orders, tasks))
    return Continual(
        rows=tuple(rows),
        classes=tuple(len(seen) for seen in growing(orders[0], tasks)),
        per_class=bench.small.ipc,
        notes=tuple(notes),
        **bench.about,
    )


def growing(order: Tensor, tasks: int) -> list[Tensor]:
    """The classes known after each task, int64, in the order of their coming."""
    ends = torch.tensor([len(part) for part in order.tensor_split(tasks)]).cumsum(0).tolist()
    return [order[:end] for end in ends]


def _row(
    bench: Bench, name: str, sets: Sequence[SyntheticImages | RealImages], orders: Sequence[Tensor], tasks: int
) -> MemoryRow:
    learner = bench.learner_for(sets[0])
    found: list[list[float]] = [[] for _ in range(tasks)]
    for i, (memory, order, seed) in enumerate(zip(sets, orders, bench.seeds(), strict=True)):
        for task, seen in enumerate(growing(order, tasks)):
            part = of_classes(memory, seen)
            scorer = Scorer(only_classes(bench.test, seen), bench.learner.device)
            found[task] += learner.scores(part, [seed], scorer)
            bench.progress(i * tasks + task + 1, len(orders) * tasks, f"{name} {100 * found[task][-1]:.1f} %")
    recipe = learner.recipe(sets[0])
    return MemoryRow(
        name=name, accuracy=tuple(Values(tuple(values)) for values in found), lr=recipe.lr, steps=recipe.steps
    )


def plain_set(small: ImageSet, notes: list[str]) -> SyntheticImages:
    """The set as images with a label each, from which classes can be taken."""
    if small.store is not None:
        small = small.hard()
        notes.append("classes in place of the teachers' labels, which are of augmented batches of all classes")
    if isinstance(small, SyntheticImages):
        return small
    hard = small.hard()
    if hard is not small:
        notes.append("classes in place of the teachers' labels")
    return SyntheticImages(
        images=hard.images,
        labels=hard.labels,
        classes=hard.classes,
        recipe=hard.recipe,
        transform=hard.transform,
        method=hard.method,
        provenance=hard.provenance,
    )


def of_classes(memory: SyntheticImages | RealImages, seen: Tensor) -> Equipped:
    """The part of a memory that shows the classes `seen`, numbered in their order.

    Raises:
        InputError: a class without an image.
    """
    names = tuple(memory.classes[k] for k in seen.tolist())
    if isinstance(memory, RealImages):
        return dataclasses.replace(memory, split=only_classes(memory.split, seen), classes=names)
    hard = memory.labels if memory.labels.ndim == 1 else memory.labels.argmax(1)
    rows = torch.isin(hard, seen).nonzero()[:, 0]
    missing = [memory.classes[k] for k in seen.tolist() if k not in set(hard.tolist())]
    if missing:
        raise refuse("small", "a set with an image of every class", f"none of {', '.join(missing)}")
    if memory.labels.ndim == 1:
        labels = renumbered(memory.labels[rows], seen)
    else:
        labels = memory.labels[rows][:, seen]
        labels = labels / labels.sum(1, keepdim=True)
    return dataclasses.replace(memory, images=memory.images[rows], labels=labels, classes=names, stored=None)


def renumbered(labels: Tensor, seen: Tensor) -> Tensor:
    """Places in `seen` of labels that are all in it."""
    place = torch.full((int(seen.max()) + 1,), -1)
    place[seen] = torch.arange(len(seen))
    return place[labels]


def only_classes(split: Split, seen: Tensor) -> Renumbered:
    """Images of the classes `seen`, numbered in their order."""
    rows = torch.isin(split.labels, seen).nonzero()[:, 0]
    part = split.subset(rows)
    return Renumbered(part, renumbered(part.labels, seen))


@final
class Renumbered:
    """A split with other labels.

    Args:
        split: its images.
        labels: int64 `[N]`.
    """

    def __init__(self, split: Split, labels: Tensor) -> None:
        self._split, self._labels = split, labels

    def __len__(self) -> int:
        return len(self._split)

    @property
    def labels(self) -> Tensor:
        """int64 `[N]`."""
        return self._labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self._split.shape

    @property
    def fingerprint(self) -> str:
        """sha256 hex of the images' own and of the labels."""
        labels = self._labels.numpy().tobytes()
        return hashlib.sha256(self._split.fingerprint.encode() + labels).hexdigest()

    @property
    def items(self) -> Tensor | None:
        """Those of the images."""
        return self._split.items

    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]."""
        return self._split.pixels(index)

    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, their pixels) of one batch after another."""
        return self._split.stream(batches)

    def subset(self, index: Tensor) -> Renumbered:
        """The rows `index`."""
        return Renumbered(self._split.subset(index), self._labels[index])
