"""Dataset distillation: a few synthetic samples on which a fresh network trains to a useful accuracy.

small = dd.distill("cifar10", "ftd", ipc=10)
print(dd.evaluate(small, "cifar10"))
"""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "AST",
    "CDA",
    "CVDD",
    "DATM",
    "DELT",
    "DM",
    "DSA",
    "FTD",
    "IDM",
    "INFER",
    "MTT",
    "NCFM",
    "RDED",
    "SRE2L",
    "SRE2LPP",
    "TESLA",
    "Benchmark",
    "Bonsai",
    "CompensatedImages",
    "DDError",
    "DamagedError",
    "DistributionMatching",
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
    "NodeMeans",
    "NodeModel",
    "NodeRecipe",
    "NodeSet",
    "Nodes",
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
    "plan",
    "push_to_hub",
    "rank_architectures",
    "report",
    "robustness",
    "teach",
    "to_hf",
    "to_imagefolder",
    "to_tensorboard",
    "train",
    "tune_process",
    "verify",
]

if TYPE_CHECKING:
    from dd import testing as testing
    from dd.base.process import tune_process
    from dd.base.version import __version__ as __version__
    from dd.contest.benchmark import benchmark
    from dd.contest.evaluate import evaluate
    from dd.contest.report import report
    from dd.data import Graphs, Images, Nodes, load_graphs, load_images
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
        CDA,
        CVDD,
        DATM,
        DELT,
        DM,
        FTD,
        IDM,
        INFER,
        MTT,
        NCFM,
        RDED,
        SRE2L,
        SRE2LPP,
        TESLA,
        DistributionMatching,
        Method,
        Mirage,
        Run,
        TrajectoryMatching,
        list_methods,
    )
    from dd.methods.nodes.bonsai import Bonsai
    from dd.methods.nodes.means import NodeMeans
    from dd.methods.telling import cite, describe
    from dd.models import GraphModel, Model, NodeModel
    from dd.run.buffer import buffer
    from dd.run.distill import distill
    from dd.run.estimate import estimate
    from dd.run.load import load
    from dd.run.many import distill_many
    from dd.run.merge import merge
    from dd.run.teach import teach
    from dd.run.train import train
    from dd.run.verify import verify
    from dd.synthetic import (
        CompensatedImages,
        ImageSet,
        NodeRecipe,
        NodeSet,
        SyntheticImages,
        TrainRecipe,
        TreeRecipe,
        TreeSummary,
    )
    from dd.teachers import Teacher, TeacherRecipe
    from dd.transforms.dsa import DSA
    from dd.work.lists import plan
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.base.process": "tune_process",
            "dd.base.version": "__version__",
            "dd.contest.benchmark": "benchmark",
            "dd.contest.evaluate": "evaluate",
            "dd.contest.report": "report",
            "dd.data": "Graphs Images Nodes load_graphs load_images",
            "dd.data.images.adapters": "from_hf from_webdataset",
            "dd.data.images.blank": "blank_images",
            "dd.errors": "DamagedError DDError DivergedError InputError MissingError WriteError",
            "dd.evaluation": "EvalReport",
            "dd.evaluation.leaderboard": "Benchmark",
            "dd.exchange.export": "dataset_card push_to_hub to_hf to_imagefolder to_tensorboard",
            "dd.exchange.importers": "import_buffer import_folder import_numpy import_pt",
            "dd.experts": "ExpertRecipe load_recipe",
            "dd.measure.adversarial": "adversarial",
            "dd.measure.calibration": "calibration",
            "dd.measure.continual": "continual",
            "dd.measure.membership": "membership",
            "dd.measure.neighbours": "neighbours",
            "dd.measure.ranking": "architectures rank_architectures",
            "dd.measure.robustness": "robustness",
            "dd.methods": (
                "AST CDA CVDD DATM DELT DM FTD IDM INFER MTT NCFM RDED SRE2L SRE2LPP TESLA DistributionMatching Method "
                "Mirage Run TrajectoryMatching list_methods"
            ),
            "dd.methods.telling": "cite describe",
            "dd.methods.nodes.bonsai": "Bonsai",
            "dd.methods.nodes.means": "NodeMeans",
            "dd.models": "GraphModel Model NodeModel",
            "dd.run.buffer": "buffer",
            "dd.run.distill": "distill",
            "dd.run.estimate": "estimate",
            "dd.run.load": "load",
            "dd.run.many": "distill_many",
            "dd.run.merge": "merge",
            "dd.run.teach": "teach",
            "dd.run.train": "train",
            "dd.run.verify": "verify",
            "dd.synthetic": (
                "CompensatedImages ImageSet NodeRecipe NodeSet SyntheticImages TrainRecipe TreeRecipe TreeSummary"
            ),
            "dd.teachers": "Teacher TeacherRecipe",
            "dd.transforms.dsa": "DSA",
            "dd.work.lists": "plan",
        },
    )
