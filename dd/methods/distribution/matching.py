"""Distribution matching: one loop; the papers differ in the fields of one frozen value.

The papers' fields are in `dd.methods.distribution.papers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_choices, check_number, check_types, check_whole
from dd.data import Images, check_ipc
from dd.errors import refuse
from dd.experts import ExpertRecipe
from dd.methods.base import Run, Step
from dd.methods.distribution.loop import Loop, check_features
from dd.methods.distribution.networks import source_of
from dd.methods.distribution.terms import Statistic
from dd.methods.start import check_small
from dd.models.features import Form
from dd.synthetic import Layout, Storage, TrainRecipe
from dd.synthetic.layout import STORAGE, told
from dd.transforms.whiten import make_transform

_CHOICES: Final = {
    "statistic": ("mean", "cf"),
    "features": ("flat", "channel"),
    "networks": ("fresh", "queue", "interpolated"),
    "class_term": ("none", "accuracy", "trained"),
    "init": ("real", "noise"),
    "pixel_optimizer": ("sgd", "adam"),
}


@final
@dataclass(frozen=True, kw_only=True)
class DistributionMatching:
    """Synthetic images whose features are distributed as those of real images of their class, in many networks.

    `min_x E_θ Σ_c w · D(φ_θ(A(real_c)), φ_θ(A(x_c)))`, one network θ an iteration, and for each class one batch of real
    images and one augmentation A, the same for both. All classes are updated together by one step of the optimiser.

    Attributes:
        name: key of the recipe of fields (`dm`, `idm`, `ncfm`).
        ipc: stored images per class.
        expert: model, augmentation and whitening of the networks; of a `queue` also how they are trained; of
            `interpolated` ones the buffer, which is trained where it is missing.
        iterations: outer iterations.
        statistic: D: squared distance of the `mean` features (DM, IDM), or `cf`, the distance of the characteristic
            functions of features of length 1 (NCFM), see `dd.methods.distribution.terms.cf_distance`.
        features: φ: what goes into the last linear layer, `flat`, or a mean for each `channel` of the last map.
        frequencies, amplitude: of `cf`: how many t ~ N(0, I) an iteration draws for all classes, and α, the weight of
            the moduli beside 1 − α of the phases. The network that the paper's title has for t is left out: the
            published configurations leave it off.
        weight: w.
        networks: `fresh`: a new random one each iteration; `queue`: one of a queue whose networks are trained on real
            images; `interpolated`: l θ_0 + (1 − l) θ_T between an expert's ends, l ~ U(0, 1).
        queue, queue_every, queue_steps: of the queue: the most networks in it, iterations until a new one enters, and
            SGD steps that the network of an iteration takes after it.
        last_snapshot: of `interpolated`: T, in snapshots of the buffer; `None` for its last one.
        class_term: a cross-entropy of the synthetic images, under the same augmentation: `none`; `accuracy`: by the
            iteration's network, times its accuracy on the iteration's real images (IDM); `trained`: by the trained end
            of the expert (NCFM).
        class_weight: its weight.
        batch_real: real images a class.
        factor, mirror, storage: what a stored image is, see `dd.synthetic.Layout`: factor × factor pictures (IDM's
            partition, NCFM), which start from as many real ones of the class made smaller; mirrored ones too; and its
            bits, a byte a number by default, of published rows float32. Each iteration sees all of them; matching is in
            float32, what is offered is rounded.
        init: `real` images of the class, or `noise` N(0, 1) in model space.
        pixel_optimizer: `sgd` with `momentum_img`, or `adam`.
        lr_img: step size of the pixels in model space, whose unit is about a quarter of the range of a pixel.
        momentum_img: of `sgd`.
        clip: whether pixels are clipped to [0, 1] after each step.
        candidate_every: iterations between sets that are offered for selection; 0 offers the last one only.
        train: how fresh networks are trained on the set; its model is that of `expert`. With a `mix` the labels of the
            set are probabilities, all on one class.

    Raises:
        InputError: a field out of range or of another type, or options that exclude each other.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "dm"
    ipc: int = 10
    expert: ExpertRecipe = field(default_factory=ExpertRecipe)
    iterations: int = 20000
    statistic: Statistic = "mean"
    features: Form = "flat"
    frequencies: int = 4096
    amplitude: float = 0.5
    weight: float = 1.0
    networks: Literal["fresh", "queue", "interpolated"] = "fresh"
    queue: int = 100
    queue_every: int = 30
    queue_steps: int = 1
    last_snapshot: int | None = None
    class_term: Literal["none", "accuracy", "trained"] = "none"
    class_weight: float = 0.5
    batch_real: int = 256
    factor: int = 1
    mirror: bool = False
    storage: Storage = STORAGE
    init: Literal["real", "noise"] = "real"
    pixel_optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: float = 1.0
    momentum_img: float = 0.5
    clip: bool = False
    candidate_every: int = 0
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def layout(self) -> Layout:
        """What a stored image is."""
        return Layout(factor=self.factor, mirror=self.mirror, storage=self.storage)

    @property
    def snapshots_read(self) -> int:
        """The last snapshot of an expert that is read; 0 where none are."""
        if self.networks != "interpolated":
            return 0
        return self.expert.snapshots if self.last_snapshot is None else self.last_snapshot

    def check_fits(self, real: Images, device: torch.device) -> None:
        """Refuse data of too few images or another size than the layout's, and a network without the features.

        Raises:
            InputError: says what is missing.
        """
        del device
        check_ipc(real, self.ipc)
        self.layout.check_size(real.size)
        if self.init == "real":
            check_small(real, self.ipc, self.layout)
        check_features(self, real)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields.update(expert=self.expert.describe(), train=self.train.to_json())
        return told(fields, ("factor", "mirror"))

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Buffer experts that are read and missing, then yield a step after each iteration; of the last state, that.

        Raises:
            InputError: the data cannot give the images of a class, or the network has no such features.
            DivergedError: the loss, the images or a network of the queue are not finite.
        """
        self.check_fits(real, run.device)
        transform = make_transform(real, self.expert.whiten)
        loop = Loop(self, real, run, transform, source_of(self, real, run, transform))
        current = dict(state) if state else loop.start()
        if (done := int(current["iteration"])) >= self.iterations:
            yield Step(done, self.iterations, {"iteration": done}, current, loop.candidates(current))
        while int(current["iteration"]) < self.iterations:
            current, metrics = loop.iterate(current)
            done = int(current["iteration"])
            yield Step(done, self.iterations, metrics, current, loop.candidates(current))


def _check_fields(m: DistributionMatching) -> None:
    """Refuse what no `DistributionMatching` can have; every refusal says the way out."""
    check_types(m)
    check_choices(m, _CHOICES)
    m.train.check_classes()
    _ = m.layout  # refuses what is none
    for name in ("ipc", "iterations", "frequencies", "queue", "queue_every", "batch_real"):
        check_whole(getattr(m, name), name)
    for name in ("queue_steps", "candidate_every"):
        check_whole(getattr(m, name), name, low=0)
    for name in ("weight", "lr_img"):
        if not 0 < getattr(m, name) < math.inf:
            raise refuse(name, "positive and finite", getattr(m, name))
    check_number(m.class_weight, "class_weight", low=0.0)
    if not 0 <= m.momentum_img < 1:
        raise refuse("momentum_img", "in [0, 1)", m.momentum_img)
    if not 0 <= m.amplitude <= 1:
        raise refuse("amplitude", "in [0, 1]", m.amplitude, "It is the weight of the moduli; 1 - it is of the phases.")
    _check_networks(m)
    if m.clip and m.expert.whiten:
        way_out = "Use an `expert` with whiten=False, or clip=False."
        raise refuse("clip", "False where images are whitened, which has no range", True, way_out)


def _check_networks(m: DistributionMatching) -> None:
    """Options that need networks of a kind."""
    if m.class_term == "accuracy" and m.networks == "fresh":
        way_out = "Use networks='queue', or class_term='none'."
        raise refuse("class_term", "`none` with fresh networks, which know no class", "'accuracy'", way_out)
    if m.class_term == "trained" and m.networks != "interpolated":
        way_out = "Use networks='interpolated', or class_term='accuracy' or 'none'."
        raise refuse("class_term", f"other than `trained` with {m.networks} networks", "'trained'", way_out)
    if m.last_snapshot is None:
        return
    if m.networks != "interpolated":
        way_out = "Leave it out, or use networks='interpolated'."
        expected = f"None with {m.networks} networks, which read no buffer"
        raise refuse("last_snapshot", expected, m.last_snapshot, way_out)
    if not 1 <= m.last_snapshot <= m.expert.snapshots:
        way_out = "Lower it, or raise the recipe's `snapshots`."
        raise refuse("last_snapshot", f"from 1 to the buffer's {m.expert.snapshots}", m.last_snapshot, way_out)
