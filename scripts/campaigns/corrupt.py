"""Every kind of file that the library writes, with bits flipped, bytes replaced or cut off: refused, or read the same.

    python -m scripts.campaigns.corrupt [--share 1] [--seed 0]

A trial damages one file once and reads it as the library does. Silent: what is read is neither what was written nor
refused. Half of the flips in a file of tensors fall into its header. A cache may be made anew, and a log may end early:
its readers say so. Their count is `shorter`, that of refusals `refused`, and of what made no difference `as_written`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import dd
from dd.base.files import digest, dump_json, load_tensors, read_json, read_jsonl, save_tensors, write_json
from dd.data.graphs.moleculenet import Molecules
from dd.data.images import hashes
from dd.errors import DDError
from dd.experts.store import ExpertStore, verify_folder
from dd.methods import Step
from dd.run.folder import RunFolder
from dd.synthetic import AnySet, LabelStore, Layout
from dd.synthetic.sets import to_tensors
from dd.teachers import TeacherStore
from dd.transforms.whiten import fit_zca
from scripts.campaigns import jobs
from scripts.campaigns.common import Tally, main, scratch
from scripts.campaigns.crash import inside

TRIALS: Final = 400
"""Of each kind of file, in the whole campaign."""
MOSAICS: Final = Layout(factor=2, mirror=True, storage="uint8")
REQUEST: Final = {"data": {"name": "toy"}, "seed": 0}


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: for people.
        file: the one that is damaged.
        read: as the library reads it; gives something that can be compared.
        ends: whether it may give less than was written, as long as that is the beginning of it.
    """

    name: str
    file: Path
    read: Callable[[], Any]
    ends: bool = False


def told(tensors: Any, meta: Any) -> tuple[dict[str, str], str]:
    """Tensors and metadata in a form that can be compared."""
    return {name: f"{t.dtype} {list(t.shape)} {digest(t)}" for name, t in tensors.items()}, dump_json(meta)


def content(path: Path) -> Any:
    """All that a set on disk says when it is loaded."""
    return told(*to_tensors(dd.load(path)))


def sets(folder: Path) -> list[Kind]:
    """Images in each form, compensated images, trees, and the parts of a label store."""
    real = jobs.pictures()
    plain, labelled = jobs.labelled(0).hard().pack("fp32"), jobs.labelled(1)
    soft = torch.full((len(plain), 3), 1 / 3)
    zca = fit_zca(real.train)
    whitened = dataclasses.replace(plain, images=zca.forward(plain.pixels()), transform=zca, transform_record={})
    base = torch.randint(0, 256, (2, 3, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    compensated = dd.CompensatedImages(
        base=base,
        compensators=torch.zeros(2, 1, 3, 8, 8).half(),
        logits=torch.ones(2, 2, 3, 3).half(),
        classes=plain.classes,
        recipe=plain.recipe,
        transform=plain.ready_transform(),
    )
    trees = dd.distill(jobs.graphs(), jobs.method("mirage"), progress=False)
    made: dict[str, AnySet] = {
        "images": plain,
        "images, soft labels": dataclasses.replace(plain, labels=soft),
        "images, mosaics in uint8": dataclasses.replace(plain, **MOSAICS.parts(plain.images, plain.labels)),
        "images, canvases": dataclasses.replace(plain, canvas=2, canvas_samples=2),
        "compensated images": compensated,
        "trees": trees,
        "images with a label store": labelled,
    }
    kinds = []
    for name, small in made.items():
        path = small.save(folder / f"{name.replace(' ', '-')}.safetensors")
        kinds.append(Kind(name, path, lambda path=path: content(path)))
    whitened_file = whitened.save(folder / "zca.safetensors", whitening_matrix=True)
    kinds.append(Kind("images, whitened", whitened_file, lambda: content(whitened_file)))
    assert labelled.store is not None
    store = labelled.store.save(folder / "labels")

    def labels() -> Any:
        back = LabelStore.load(store)
        return [told(part, {}) for part in back.parts()], dump_json(back.manifest)

    shard = sorted(store.glob("*.safetensors"))[1]
    return [*kinds, Kind("label shard", shard, labels), Kind("label manifest", store / "manifest.json", labels)]


def stores(folder: Path) -> list[Kind]:
    """Experts with their recipe, teachers, and the two caches."""
    jobs.buffered()
    store = ExpertStore(jobs.STORE / "expert_trajectories", jobs.EXPERTS, jobs.pictures())
    (store.folder,) = {path.parent.resolve() for path in jobs.STORE.rglob("recipe.json")}

    def experts() -> Any:
        length = store.length(0)
        parts = store.read(0, range(length))
        return [digest(part) for part in parts], [digest(t) for t in store.curve(0)], verify_folder(store.folder)

    (teacher,) = {p.resolve() for p in jobs.STORE.rglob("*.safetensors") if p.parent.resolve() != store.folder}
    shelf = TeacherStore(teacher.parent, jobs.pictures())

    def teachers() -> Any:
        made = shelf.get(dataclasses.replace(jobs.TEACHER, model=jobs.NET))
        state = {name: digest(t) for name, t in made.module.state_dict().items()}
        return state, made.transform, repr(made.accuracy), made.sha256, dd.verify(teacher)

    files = folder / "hashes.safetensors"
    rows = np.arange(6).reshape(2, 3).astype(np.int64), np.arange(2 * hashes.BYTES, dtype=np.uint8).reshape(2, -1)
    hashes._save(files, (["a/b.png", "a/c.png"], *rows))

    def known() -> Any:
        names, *parts = hashes._load(files)
        return [names, *(part.tolist() for part in parts)] if names else []

    molecules = folder / "molecules.safetensors"
    save_tensors(molecules, {name: torch.arange(9) for name in Molecules._fields}, {"rdkit": "1", "molecules": 9})
    return [
        Kind("expert", store.path(0), experts),
        Kind("recipe.json of experts", store.folder / "recipe.json", lambda: dump_json(_recipe(store))),
        Kind("teacher", teacher, teachers),
        Kind("cache of hashes", files, known, ends=True),
        Kind("cache of molecules", molecules, lambda: told(*load_tensors(molecules))),
    ]


def _recipe(store: ExpertStore) -> Any:
    verify_folder(store.folder)
    return read_json(store.folder / "recipe.json")


def runs(folder: Path) -> list[Kind]:
    """What a run, its evaluation and a benchmark leave, and the checkpoint of an unfinished run."""
    jobs._reported()
    jobs.OUT.rename("run")
    run = Path("run").resolve()
    jobs.benchmarked()
    bench = jobs.OUT.resolve()
    (folder / "open").mkdir()
    begun = folder / "open" / "run"
    with RunFolder(begun, REQUEST, {}, True) as out:
        step = Step(3, 9, {"loss": 0.5}, {"x": torch.rand(4, 5), "momentum": torch.zeros(3)}, ())
        out.log(step)
        out.checkpoint(step, {"selection": {"record": {}}, "seconds": 0.0}, {"best/images": torch.ones(2, 2)})

    def restored() -> Any:
        shutil.rmtree(folder / "again", ignore_errors=True)
        shutil.copytree(begun, folder / "again")
        with RunFolder(folder / "again", REQUEST, {}, True) as out:
            state, kept = out.restore()
        return None if state is None else told(state, kept)

    measures = folder / "measures.json"
    write_json(measures, {"format": 1, "measures": {"accuracy": [0.5, 0.25]}})
    cell = sorted((bench / "cells").glob("*.json"))[0]
    kinds = [
        Kind("checkpoint", begun / "checkpoint.safetensors", restored),
        Kind("run.json", run / "run.json", lambda: (dd.verify(run), dump_json(read_json(run / "run.json")))),
        Kind("log.jsonl", run / "log.jsonl", lambda: list(map(dump_json, read_jsonl(run / "log.jsonl"))), ends=True),
    ]
    for name, file in (
        ("report.json", run / "report.json"),
        ("leaderboard.json", bench / "leaderboard.json"),
        ("cell of a benchmark", cell),
        ("measures.json", measures),
    ):
        kinds.append(Kind(name, file, lambda file=file: (dump_json(read_json(file)), dd.verify(file))))
    return kinds


def damaged(whole: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    """(the bytes with one damage, what it was)."""
    head = min(len(whole), 8 + int.from_bytes(whole[:8], "little")) if whole[8:9] == b"{" else len(whole)
    place = int(draw.integers(head if draw.random() < 0.5 else len(whole)))
    kind = draw.choice(["bit", "bit", "bit", "byte", "cut", "block", "longer"])
    data = bytearray(whole)
    if kind == "bit":
        data[place] ^= 1 << int(draw.integers(8))
    elif kind == "byte":
        data[place] = int(draw.choice([i for i in range(256) if i != data[place]]))
    elif kind == "cut":
        del data[place:]
    elif kind == "block":
        data[place : place + 512] = bytes(len(data[place : place + 512]))
    else:
        data += bytes(draw.integers(256, size=int(draw.integers(1, 20)), dtype=np.uint8))
    return bytes(data), f"{kind} at {place} of {len(whole)}"


def attempt(kind: Kind, written: Any, data: bytes) -> tuple[str | None, str]:
    """Read the file with these bytes in it: (fault or `None`, what came of it)."""
    kind.file.write_bytes(data)
    try:
        read = kind.read()
    except DDError:
        return None, "refused"
    except BaseException as error:
        return "tracebacks", repr(error)
    if read == written:
        return None, "as_written"
    if kind.ends and read == written[: len(read)]:
        return None, "shorter"
    return "silent", "another value"


def try_kind(kind: Kind, tally: Tally, share: float, draw: np.random.Generator) -> None:
    """Damage one kind of file so many times."""
    whole, written = kind.file.read_bytes(), kind.read()
    for _ in range(max(1, round(TRIALS * share))):
        data, text = damaged(whole, draw)
        while data == whole:  # a block that was zero
            data, text = damaged(whole, draw)
        fault, came = attempt(kind, written, data)
        tally.trial(kind.name, fault, f"{text}: {came}")
        if fault is None:
            tally.more[came] = tally.more.get(came, 0) + 1
    kind.file.write_bytes(whole)
    assert kind.read() == written


def run(
    share: float, seed: int, only: str = "", chosen: Sequence[Callable[[Path], list[Kind]]] = (sets, stores, runs)
) -> Tally:
    """The campaign; the draws of a kind of file depend on its name and the seed alone."""
    tally = Tally("corrupt", seed)
    for part in chosen:
        with scratch() as folder:

            def work(part: Any = part, folder: Path = folder) -> None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    for kind in (kind for kind in part(folder) if only in kind.name):
                        stream = int(digest(f"{seed} {kind.name}".encode())[:12], 16)
                        try_kind(kind, tally, share, np.random.default_rng(stream))

            here = Path.cwd()
            try:
                inside(folder, work)()
            finally:
                os.chdir(here)
    return tally


if __name__ == "__main__":
    raise SystemExit(main(run))
