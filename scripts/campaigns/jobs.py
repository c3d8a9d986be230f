"""Small jobs of every verb that writes, on made-up pictures and graphs; each leaves the same bytes every time.

A job is run inside a folder of its own (`Path(".")`); what another verb must have made before is its `before`.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

import torch

import dd
import dd.evaluation.report
import dd.synthetic.records
from dd.base.files import digest
from dd.methods import Candidate, CoverageWarning, Step
from dd.methods.decoupled.relabel import make_labels
from dd.methods.real.baselines import only_step
from dd.methods.start import pick_real
from dd.models import build
from dd.synthetic import LabelStore
from dd.teachers import Teacher, TeacherRecipe
from dd.testing.made import graphs, pictures

NET: Final = "convnet(width=4, depth=1, norm=batch)"
_PAGES: Final = r"report\.json|index\.html"
STORE, OUT = Path("store"), Path("out")
TEACHER: Final = TeacherRecipe(epochs=4, batch_size=16, augment="")
EXPERTS: Final = dd.ExpertRecipe(
    model="mlp",
    augment="",
    batch_size=32,
    experts=2,
    snapshots=3,
    snapshot_every=2,
    snapshot_unit="step",
)


def nothing() -> None:
    """No work."""


@dataclass(frozen=True)
class Job:
    """A call that a process can be ended in, and made again.

    Attributes:
        name: for people.
        run: the call, in the current folder.
        before: what is done there before, with no end.
        intact: raises `AssertionError` where, after an end, something that must be there is not; the call was not
            made again yet.
        leaves: regular expression of files that no lock protects, so that nobody can know whether an unfinished one
            of them is being written.
    """

    name: str
    run: Callable[[], object]
    before: Callable[[], object] = nothing
    intact: Callable[[], object] = nothing
    leaves: str = "no file"


@contextmanager
def still() -> Iterator[None]:
    """Clocks that stand still, an origin without a commit, small shards: folders can be compared by their bytes."""
    kept = time.monotonic, dd.evaluation.report._commit, dd.synthetic.records._SHARD_BYTES
    time.monotonic, dd.evaluation.report._commit, dd.synthetic.records._SHARD_BYTES = (lambda: 0.0), (lambda: None), 400
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)
            yield
    finally:
        time.monotonic, dd.evaluation.report._commit, dd.synthetic.records._SHARD_BYTES = kept


@dataclass(frozen=True, kw_only=True)
class Users:
    """A user's own method: it offers its sets early, has no iteration in its state or metrics, and is lazy at the end.

    From the state after its last step it yields nothing. With `soft` its sets have stored labels.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = ""
    name: str = "users"
    soft: bool = False

    def distill(self, real: dd.Images, run: dd.Run, state: Any = None) -> Iterator[Step]:
        """Five steps; sets after the second and the third."""
        base = dd.methods.RandomReal(ipc=1, train=dd.TrainRecipe(model="mlp", steps=3))
        for i in range(int(state["mine"]) if state else 0, 5):
            pixels = real.train.pixels(torch.arange(3) + 3 * i)
            made = labelled(i) if self.soft else only_step(base, real, pixels).candidates[0].set
            offered = (Candidate("early", i + 1, made),) if i in (1, 2) else ()
            yield Step(i + 1, 5, {"mean": float(pixels.mean())}, {"mine": torch.tensor(i + 1)}, offered)

    def describe(self) -> dict[str, Any]:
        """Its fields."""
        return {"name": self.name, "soft": self.soft}


def method(name: str, **fields: Any) -> dd.Method:
    """A method of `dd.list_methods()` with little to do, from experts and teachers that all of them share."""
    value = dd.testing.tiny(name)
    shared = {"expert": EXPERTS} if dd.methods.reads_experts(value) else {}
    return dd.methods.presets.replace_fields(value, {**shared, **fields})


def buffered() -> None:
    """Experts and teachers that the methods need."""
    dd.buffer(pictures(), EXPERTS, snapshots=2, store=STORE, progress=False)
    dd.teach(pictures(), NET, recipe=TEACHER, store=STORE, progress=False)


def distilled(value: dd.Method, **options: Any) -> Callable[[], object]:
    """A run in `OUT`."""
    data: Callable[[], Any] = graphs if value.name == "mirage" else pictures
    return lambda: dd.distill(data(), value, out=OUT, store=STORE, progress=False, **options)


def runs() -> list[Job]:
    """A run of each method, of variants with more than one candidate or with whitening, and of a user's own."""
    whitened = dd.methods.presets.replace_fields(EXPERTS, {"whiten": True})
    values: dict[str, dd.Method] = {name: method(name) for name in dd.list_methods()}
    values["ftd with candidates"] = method("ftd", ema=0.5, candidate_every=1)
    values["mtt whitened, with candidates"] = method("mtt", expert=whitened, candidate_every=1)
    student = {"model": NET, "batch_size": 4, "steps": 2, "augment": "", "mix": "none"}
    values["infer with dynamic labels"] = method("infer", labels="dynamic", label_epochs=2, train=student)
    values["user's method"], values["user's method with labels"] = Users(), Users(soft=True)
    return [Job(f"distill {name}", distilled(value), buffered) for name, value in values.items()]


def verbs() -> list[Job]:
    """`buffer`, `teach`, `evaluate` with its page, `report`, `benchmark`, seeds in one folder."""
    value = method("mtt")
    seeds: dict[str, Any] = {"seeds": (0, 1), "out": OUT, "store": STORE, "progress": False}
    return [
        Job("buffer", lambda: dd.buffer(pictures(), EXPERTS, store=STORE, progress=False)),
        Job(
            "buffer on",
            lambda: dd.buffer(pictures(), EXPERTS, experts=3, store=STORE, progress=False),
            buffered,
        ),
        Job("teach", lambda: dd.teach(pictures(), NET, recipe=TEACHER, store=STORE, progress=False)),
        Job("distill_many", lambda: dd.distill_many(pictures(), value, **seeds), buffered),
        Job("evaluate", _evaluated, _finished, leaves=_PAGES),
        Job("report", lambda: dd.report(OUT, pictures()), _reported, leaves=_PAGES),
        Job("benchmark", benchmarked, buffered),
    ]


def _finished() -> None:
    buffered()
    distilled(method("mtt"))()


def _evaluated() -> None:
    dd.evaluate(OUT, pictures(), repeats=1, steps=2, baselines=(), models=["mlp"], progress=False)


def _reported() -> None:
    _finished()
    _evaluated()


def benchmarked() -> object:
    """A method with a run folder and a baseline, under two networks."""
    given: dict[str, Any] = {"models": ["mlp", NET], "repeats": 1, "steps": 2, "baselines": ("random",), "ipc": 1}
    return dd.benchmark(pictures(), [method("mtt")], out=OUT, store=STORE, progress=False, **given)


@cache
def labelled(seed: int) -> dd.SyntheticImages:
    """Random real images with the stored labels of an untrained teacher: several shards."""
    real = pictures()
    train = dd.TrainRecipe(model=NET, batch_size=4, steps=2)
    base = dd.methods.RandomReal(ipc=2, train=train)
    rows = pick_real(real, 2, seed)
    made = only_step(base, real, real.train.pixels(rows)).candidates[0].set
    assert isinstance(made, dd.SyntheticImages)
    teacher = Teacher("untrained", build(NET, channels=3, classes=3, size=(8, 8), seed=seed), made.ready_transform())
    with still():
        store = make_labels(made.pictures(), [(teacher, 1.0)], epochs=3, batch=4, seed=seed)
    return dataclasses.replace(made, store=store, recipe=dataclasses.replace(train, loss="kl"))


def content(small: dd.SyntheticImages) -> tuple[str, ...]:
    """Images, labels and stored labels of a set as checksums."""
    return digest(small.images), digest(small.labels), *(told(small.store) if small.store else ())


def told(store: LabelStore) -> tuple[str, ...]:
    """The stored labels as checksums."""
    return tuple(digest(record.logits) for record in store.records)


def saves() -> list[Job]:
    """A set saved over another: with stored labels, without, and a store alone. The old or the new one always loads."""
    path, old, new = Path("set.safetensors"), labelled(0), labelled(1)

    def over(first: dd.SyntheticImages, second: dd.SyntheticImages) -> Job:
        def intact() -> None:
            assert content(dd.load(path)) in (content(first), content(second))

        kinds = ["with" if small.store else "without" for small in (first, second)]
        return Job(
            f"save {kinds[1]} labels over {kinds[0]}", lambda: second.save(path), lambda: first.save(path), intact
        )

    stores = [small.store for small in (old, new) if small.store is not None]

    def store_intact() -> None:
        assert told(LabelStore.load("labels")) in [told(store) for store in stores]

    def save(which: int) -> Callable[[], object]:
        return lambda: stores[which].save("labels")

    alone = Job("save a store alone", save(1), save(0), store_intact)
    return [over(old, new), over(old, new.hard()), over(old.hard(), new), over(old, old), alone]


def every() -> list[Job]:
    """All jobs."""
    return [*runs(), *verbs(), *saves()]
