"""Dataset distillation: a few synthetic samples on which a fresh network trains to a useful accuracy.

small = dd.distill("cifar10", "ftd", ipc=10)
print(dd.evaluate(small, "cifar10"))
"""

from importlib.metadata import PackageNotFoundError, version

from dd import testing as testing
from dd.contest.benchmark import benchmark
from dd.contest.evaluate import evaluate
from dd.contest.report import report
from dd.data import Graphs, Images, load_graphs, load_images
from dd.data.images.adapters import from_hf, from_webdataset
from dd.data.images.blank import blank_images
from dd.errors import DamagedError, DDError, DivergedError, InputError, MissingError, WriteError
from dd.evaluation import EvalReport
from dd.evaluation.leaderboard import Benchmark
from dd.exchange.export import dataset_card, push_to_hub, to_hf, to_imagefolder, to_tensorboard
from dd.exchange.importers import import_buffer, import_folder, import_numpy, import_pt
from dd.experts import ExpertRecipe, load_recipe
from dd.measure.adversarial import adversarial
from dd.measure.calibration import calibration
from dd.measure.continual import continual
from dd.measure.membership import membership
from dd.measure.neighbours import neighbours
from dd.measure.ranking import architectures, rank_architectures
from dd.measure.robustness import robustness
from dd.methods import (
    AST,
    CVDD,
    DATM,
    FTD,
    INFER,
    MTT,
    RDED,
    SRE2L,
    SRE2LPP,
    TESLA,
    Method,
    Mirage,
    Run,
    TrajectoryMatching,
    list_methods,
)
from dd.methods.presets import cite, describe
from dd.models import GraphModel, Model
from dd.run.buffer import buffer
from dd.run.distill import distill
from dd.run.estimate import estimate
from dd.run.load import load
from dd.run.many import distill_many
from dd.run.merge import merge
from dd.run.teach import teach
from dd.run.train import train
from dd.run.verify import verify
from dd.synthetic import CompensatedImages, ImageSet, SyntheticImages, TrainRecipe, TreeRecipe, TreeSummary
from dd.teachers import Teacher, TeacherRecipe
from dd.transforms.dsa import DSA

try:
    __version__ = version("dd-distillation")
except PackageNotFoundError:  # a bare checkout on the path
    __version__ = "0"

__all__ = [
    "AST",
    "CVDD",
    "DATM",
    "DSA",
    "FTD",
    "INFER",
    "MTT",
    "RDED",
    "SRE2L",
    "SRE2LPP",
    "TESLA",
    "Benchmark",
    "CompensatedImages",
    "DDError",
    "DamagedError",
    "DivergedError",
    "EvalReport",
    "ExpertRecipe",
    "GraphModel",
    "Graphs",
    "ImageSet",
    "Images",
    "InputError",
    "Method",
    "Mirage",
    "MissingError",
    "Model",
    "Run",
    "SyntheticImages",
    "Teacher",
    "TeacherRecipe",
    "TrainRecipe",
    "TrajectoryMatching",
    "TreeRecipe",
    "TreeSummary",
    "WriteError",
    "adversarial",
    "architectures",
    "benchmark",
    "blank_images",
    "buffer",
    "calibration",
    "cite",
    "continual",
    "dataset_card",
    "describe",
    "distill",
    "distill_many",
    "estimate",
    "evaluate",
    "from_hf",
    "from_webdataset",
    "import_buffer",
    "import_folder",
    "import_numpy",
    "import_pt",
    "list_methods",
    "load",
    "load_graphs",
    "load_images",
    "load_recipe",
    "membership",
    "merge",
    "neighbours",
    "push_to_hub",
    "rank_architectures",
    "report",
    "robustness",
    "teach",
    "to_hf",
    "to_imagefolder",
    "to_tensorboard",
    "train",
    "verify",
]


def __dir__() -> list[str]:
    """The public names; submodules are there too, and are not listed."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__") and name.endswith("__"))})
