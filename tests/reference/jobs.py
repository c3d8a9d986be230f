"""A tiny job for every verb: what it makes as bytes, without seconds, machine and places."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from reference import evaluation as toys
from reference.trees import random_graphs
from torch import Tensor, nn

import dd
from dd.base.files import dump_json
from dd.data import GraphSplit
from dd.experts import ExpertStore
from dd.synthetic import CompensatedImages, SyntheticImages, TrainRecipe

Job = Callable[[Path], object]
NET = "convnet(width=4, depth=1, norm=batch)"
RECIPE = dd.ExpertRecipe(
    model="mlp", augment="", batch_size=16, lr=0.05, experts=1, snapshots=3, snapshot_every=1, snapshot_unit="step"
)
METHOD = dd.MTT(
    ipc=1,
    expert=RECIPE,
    iterations=2,
    student_steps=2,
    expert_epochs=1,
    max_start_epoch=2,
    lr_img=1.0,
    train=TrainRecipe(model="mlp", steps=2, augment="crop_flip"),
)
SOFT: dict[str, Any] = {"ipc": 1, "committee": [NET], "teacher": {"epochs": 2, "batch_size": 10, "augment": ""}}
MEASURE: dict[str, Any] = {"repeats": 1, "progress": False, "device": "cpu", "steps": 2, "lr": 0.05}
LEFT_OUT = ("seconds_saved", "seconds", "origin", "train_seconds", "distill_seconds", "wall_seconds")


def small(**fields: Any) -> SyntheticImages:
    """A set of rows of probabilities in a model space of its own."""
    return toys.small(soft=True, **{"model": "mlp", "steps": 2, "augment": "crop_flip", **fields})


def whitened() -> SyntheticImages:
    """A set whose pixels take a product of matrices."""
    made = dd.distill(DATA, "random", ipc=2, train={"model": "mlp", "steps": 2}, progress=False)
    road = dd.transforms.whiten.make_transform(DATA, True)
    return dataclasses.replace(made, images=road.forward(made.pixels()), transform=road, transform_record={})


def compensated() -> CompensatedImages:
    generator = torch.Generator().manual_seed(0)
    return CompensatedImages(
        base=torch.randint(0, 256, (1, 3, 1, 8, 8), dtype=torch.uint8, generator=generator),
        compensators=(torch.randn(1, 2, 1, 8, 8, generator=generator) / 9).half(),
        logits=torch.randn(1, 3, 3, 3, generator=generator).half(),
        classes=DATA.classes,
        recipe=TrainRecipe(model="mlp", steps=2),
        transform=dd.transforms.whiten.Normalise((0.4,), (0.3,)),
    )


def graphs() -> list[Any]:
    """Graphs with the attributes of PyG's `Data`."""
    from torch_geometric.data import Data

    made: GraphSplit = random_graphs(0, [4 + i % 3 for i in range(24)], features=(7,), edge_features=(5,))
    parts = [made.slice(g, g + 1) for g in range(len(made))]
    return [Data(x=p.x, edge_index=p.edge_index, edge_attr=p.edge_attr, y=p.labels) for p in parts]


def told(value: object) -> object:
    """A value as what compares: tensors and files by bytes, reports by their JSON without seconds and machine."""
    if isinstance(value, Tensor):
        return (str(value.dtype), str(value.device), tuple(value.shape), value.detach().numpy().tobytes())
    if isinstance(value, nn.Module):
        return [told(t) for t in value.state_dict().values()]
    if isinstance(value, SyntheticImages | CompensatedImages | dd.TreeSummary):
        with tempfile.TemporaryDirectory() as folder:
            return value.save(Path(folder) / "set").read_bytes()
    if isinstance(value, Path):
        files = [p for p in sorted(value.rglob("*")) if p.is_file()] if value.is_dir() else [value]
        return {p.name: p.read_bytes() for p in files}
    if isinstance(value, dict):
        return {str(k): told(v) for k, v in value.items() if k not in LEFT_OUT}
    if isinstance(value, list | tuple | Iterator):
        return [told(v) for v in value]
    if hasattr(value, "to_json"):
        return told(value.to_json())
    return value if isinstance(value, bytes) else dump_json(value) if isinstance(value, float) else str(value)


DATA = toys.data()
SMALL, WHITE, PAIRED = small(), whitened(), compensated()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    GRAPHS = graphs()
NETWORK = toys.fresh(SMALL, "mlp", 0, toys.CPU)


def distilled(method: Any, data: Any = DATA, **fields: Any) -> Job:
    def job(folder: Path) -> object:
        return dd.distill(data, method, store=folder / "store", progress=False, device="cpu", **fields)

    return job


def trees(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dd.methods.CoverageWarning)
        return dd.distill(
            GRAPHS, "mirage", depth=1, budget_bytes=300, model="gin(width=4)", steps=2, progress=False, device="cpu"
        )


TREES = trees(Path())


def evaluated(value: Any, data: Any, **options: Any) -> object:
    return dd.evaluate(value, data, **{"repeats": 2, "steps": 2, "progress": False, "device": "cpu", **options})


def saved_and_loaded(folder: Path) -> object:
    path = WHITE.save(folder / "set.safetensors")
    read = dd.load(path).attach(DATA.train)
    return [path, read, read.pixels(), dd.verify(path).partition(":")[2]]


def network() -> nn.Module:
    """A user's own, made before the host's settings."""
    with torch.inference_mode(False):
        return copy.deepcopy(NETWORK)


def buffered(folder: Path) -> object:
    store = dd.buffer(DATA, RECIPE, store=folder, progress=False, device="cpu")
    return [store.read(0, range(3)), store.curve(0)]


def of_the_set(made: Any) -> object:
    draw = torch.Generator().manual_seed(3)
    return [made.pixels(), made.pictures(), made.hard(), made.nbytes, [made[i] for i in (0, 1)], made.batches(2, draw)]


def of_the_trees(folder: Path) -> object:
    made, draw = trees(folder), torch.Generator().manual_seed(3)
    views = [made.weights(), made.targets(), made.sample(3, draw), made.nbytes, made.report()]
    return [views, [[v for _, v in sorted(g.to_dict().items())] for g in made.to_pyg()], made[0][0].x]


def imported(folder: Path) -> object:
    torch.save(SMALL.images, folder / "images.pt")
    return dd.import_pt(folder / "images.pt", classes=3, mean=(0.4,), std=(0.3,), lr=0.1)


def buffer_imported(folder: Path) -> object:
    recipe = dataclasses.replace(RECIPE, snapshots=2, snapshot_unit="epoch")
    store = ExpertStore(folder / "store", recipe, DATA.all_train())
    steps = [[factor * p.detach() for p in NETWORK.parameters()] for factor in (1.0, 0.5)]
    torch.save([steps], folder / "replay_buffer_0.pt")
    return [dd.import_buffer(folder / "replay_buffer_0.pt", store), store.read(0, range(2))]


def folders(folder: Path) -> object:
    path = dd.to_imagefolder(SMALL, folder / "pets")
    read = dd.load_images(f"imagefolder:{path}")
    road = {"mean": (0.4, 0.4, 0.4), "std": (0.3, 0.3, 0.3), "lr": 0.1}
    return [path, read.train.pixels(), read.mean, read.std, dd.import_folder(path / "train", **road)]


def page(folder: Path) -> object:
    run = folder / "run"
    made = dd.distill(DATA, METHOD, store=folder / "store", progress=False, device="cpu", out=run)
    evaluated(made, DATA, baselines=()).save(run / "report.json")
    return [dd.report(run, DATA).name, run / "synthetic.safetensors"]


JOBS: dict[str, Job] = {
    "distill": distilled(METHOD),
    "distill, whitened": distilled(dataclasses.replace(METHOD, expert=dataclasses.replace(RECIPE, whiten=True))),
    "distill, own loop": distilled(METHOD, engine="unroll"),
    "distill, k-center": distilled("k_center", ipc=1, teacher=SOFT["teacher"]),
    "distill, patches": distilled("rded", candidates=4, label_epochs=1, train={"model": NET, "steps": 2}, **SOFT),
    "distill, recovered": distilled("sre2l", iterations=2, label_epochs=1, train={"model": NET, "steps": 2}, **SOFT),
    "distill, distributions": distilled("idm", ipc=1, iterations=2, batch_real=4, model=NET, train={"steps": 2}),
    "distill, trees": trees,
    "distill_many": lambda f: dd.distill_many(DATA, METHOD, seeds=(0,), store=f, progress=False, device="cpu"),
    "evaluate": lambda f: evaluated(SMALL, DATA, baselines=("random", "hard")),
    "evaluate, trees": lambda f: evaluated(TREES, GRAPHS),
    "train": lambda f: dd.train(SMALL, seed=1, device="cpu"),
    "train, own network": lambda f: dd.train(SMALL, network(), device="cpu"),
    "train, trees": lambda f: dd.train(TREES, device="cpu"),
    "estimate": lambda f: str(dd.estimate(DATA, METHOD, device="cpu")),
    "buffer": buffered,
    "teach": lambda f: dd.teach(DATA, NET, store=f, progress=False, **SOFT["teacher"])[0].module,
    "benchmark": lambda f: dd.benchmark(
        DATA, [METHOD], ipc=1, models="mlp", repeats=1, steps=2, baselines=["random"], store=f, progress=False
    ),
    "report": page,
    "save, load, attach": saved_and_loaded,
    "a set": lambda f: of_the_set(SMALL),
    "a whitened set": lambda f: of_the_set(WHITE),
    "a compensated set": lambda f: of_the_set(PAIRED),
    "a set of trees": of_the_trees,
    "figures": lambda f: list(SMALL.plot().values()),
    "robustness": lambda f: dd.robustness(SMALL, DATA, full_steps=2, **MEASURE),
    "calibration": lambda f: dd.calibration(SMALL, DATA, **MEASURE),
    "membership": lambda f: dd.membership(SMALL, DATA, shadows=4, images=10, **MEASURE),
    "adversarial": lambda f: dd.adversarial(SMALL, DATA, **MEASURE),
    "neighbours": lambda f: dd.neighbours(SMALL, DATA, progress=False),
    "rank_architectures": lambda f: dd.rank_architectures(SMALL, DATA, models=("mlp", NET), full_steps=2, **MEASURE),
    "architectures": lambda f: dd.architectures(2, seed=0, channels=1, classes=3, size=(8, 8)),
    "continual": lambda f: dd.continual(SMALL, DATA, tasks=1, **MEASURE),
    "import_pt": imported,
    "import_buffer": buffer_imported,
    "image folders": folders,
    "load_graphs": lambda f: list(vars(dd.load_graphs(GRAPHS).train).values()),
    "dataset_card": lambda f: dd.dataset_card(SMALL),
}
