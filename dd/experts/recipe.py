"""How expert trajectories are made: one frozen recipe, also a TOML file in `expert_trajectories/`."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from dd.base.files import dump_json
from dd.base.home import shipped
from dd.base.names import file_name
from dd.base.paths import as_path, read_toml
from dd.base.shapes import check_choices, check_number, check_types, check_whole, check_word
from dd.errors import InputError, find_name, refuse, unknown
from dd.experts.names import recipe_names
from dd.experts.smooth import PENALTY_FORMS, PenaltyForm
from dd.models import Model, ModelSpec, as_spec
from dd.transforms.dsa import DSA

_CHOICES: Final = {
    "step": ("sgd", "gsam"),
    "autocast": ("none", "bf16"),
    "snapshot_unit": ("epoch", "step"),
}
FORMAT = 1
_NOT_IN_KEY = {"name", "experts", "snapshots", "title", "source"}
_REAL = ("lr", "momentum", "weight_decay", "rho", "alpha", "penalty", "drop_factor")


@dataclass(frozen=True, kw_only=True)
class ExpertRecipe:
    """The buffer setting of a trajectory-matching method.

    Attributes:
        name: used in the store's folder name; the folder also carries a hash of all that changes a trajectory.
        model: `"convnet"`, `"convnet(width=32, norm=batch)"`, `"tv:NAME"`, or a `dd.Model`.
        step: `sgd`, or `gsam` (FTD's flat step: g_p − α v, see `dd.experts.steps`).
        lr, momentum, weight_decay, batch_size: of SGD; constant step size.
        rho, alpha, adaptive: of `gsam`: perturbation radius, weight of the removed orthogonal part, and whether
            the perturbation is scaled by the weights (ASAM).
        augment, augment_mode: DSA strategy, `""` for none; `single` draws one option a batch, `all` applies all.
        whiten: ZCA (ε = 0.1) in place of mean/std normalisation.
        ramp: AST's clipping loss: cross-entropy × 0.50, 0.55, …, 0.95 in the first ten units, then × 1.
        ramp_every: optimiser steps a unit of `ramp` and `drop_epochs`; 0 is one epoch.
        penalty: weight λ of AST's gradient penalty λ · mean (‖∇_x Σ_c f_c(x)‖₂ − 1)², on the batch before it is
            augmented; 0 for none. It costs a second forward pass and a double backward pass.
        penalty_form: `pixel`: norm over the channels at each pixel (the authors' code); `sample`: norm over the
            whole picture; `label`: as `pixel`, of the true class's score.
        drop_epochs, drop_factor: after unit number `drop_epochs` (counted from 0) the step size is multiplied once by
            `drop_factor` and the velocity set to zero; `drop_epochs` = 0 for never.
        snapshot_every, snapshot_unit: cadence of the snapshots; the papers keep one an epoch.
        autocast: `none`, or `bf16`: forward and backward passes under bfloat16 autocast; weights, velocity, snapshots
            and the penalty stay float32.
        experts: how many trajectories. Not part of the key: a store can be completed.
        snapshots: snapshots after the initialisation. Not part of the key either.
        title, source: for `dd.describe`.

    Raises:
        InputError: a field outside its range or of another type, an unknown model or augmentation.
    """

    name: str = "custom"
    model: str | Model | ModelSpec = "convnet"
    step: Literal["sgd", "gsam"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 256
    rho: float = 0.01
    alpha: float = 0.3
    adaptive: bool = True
    augment: str = "color_crop_cutout_flip_scale_rotate"
    augment_mode: Literal["single", "all"] = "single"
    whiten: bool = False
    ramp: bool = False
    ramp_every: int = 0
    penalty: float = 0.0
    penalty_form: PenaltyForm = "pixel"
    drop_epochs: int = 0
    drop_factor: float = 0.6
    snapshot_every: int = 1
    snapshot_unit: Literal["epoch", "step"] = "epoch"
    autocast: Literal["none", "bf16"] = "none"
    experts: int = 100
    snapshots: int = 50
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        if not isinstance(self.name, str) or file_name(self.name, " ") != self.name:
            expected = "a text that can name a folder on every system, of letters, digits, blanks and _.+-"
            raise refuse("name", expected, repr(self.name))
        for name in _REAL:
            check_number(getattr(self, name), name, low=0.0)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        for name in ("batch_size", "snapshot_every", "experts", "snapshots"):
            check_whole(getattr(self, name), name)
        for name in ("ramp_every", "drop_epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise refuse(name, "a whole number of at least 0", repr(value))
        check_word(self.penalty_form, "penalty_form", PENALTY_FORMS)
        if not self.drop_factor > 0:
            raise refuse("drop_factor", "positive", self.drop_factor, "`drop_epochs = 0` is for no drop.")
        check_types(self)
        as_spec(self.model)
        self.dsa()

    def dsa(self) -> DSA:
        """The augmentation of expert, student and evaluation."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def key(self, data: str) -> str:
        """16 hex digits over every field that changes a trajectory, the data's hash and the format version."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        kept = {name: value for name, value in fields.items() if name not in _NOT_IN_KEY}
        kept["model"] = as_spec(self.model).key
        kept.update({name: float(kept[name]) for name in _REAL})  # 0 and 0.0 are one recipe
        if self.step == "sgd":
            for name in ("rho", "alpha", "adaptive"):
                del kept[name]
        # fields are left out where nothing reads them: the trajectories are the same
        timed = self.ramp or self.drop_epochs > 0
        used = {
            "ramp": self.ramp,
            "ramp_every": timed and self.ramp_every > 0,
            "penalty": self.penalty > 0,
            "penalty_form": self.penalty > 0 and self.penalty_form != "pixel",
            "drop_epochs": self.drop_epochs > 0,
            "drop_factor": self.drop_epochs > 0,
            "autocast": self.autocast != "none",
        }
        for name in (name for name, kept_here in used.items() if not kept_here):
            del kept[name]
        text = dump_json({"recipe": kept, "data": data, "format": FORMAT})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """A JSON-able copy of the fields."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "model": str(as_spec(self.model))}


def load_recipe(name: str) -> ExpertRecipe:
    """The shipped recipe `name`, or the one in a TOML file at path `name`.

    Raises:
        InputError: unknown name, a field that no recipe has, or a value that it cannot have.
        MissingError, DamagedError: no such file, or one that is not TOML.
    """
    if not isinstance(name, str):
        raise refuse("recipe", "a name, a path that ends in .toml, or a recipe", f"a {type(name).__name__}")
    if not name.endswith(".toml"):
        name = find_name("recipe", name, recipe_names(), "A path that ends in .toml works too.")
    path = as_path(name, "recipe") if name.endswith(".toml") else shipped("expert_trajectories") / f"{name}.toml"
    fields = read_toml(path, "recipe file")
    known = {f.name for f in dataclasses.fields(ExpertRecipe)}
    for field in fields:
        if field not in known:
            raise unknown(f"field in {path.name}", field, known)
    try:
        return ExpertRecipe(**{"name": path.stem, **fields})
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
