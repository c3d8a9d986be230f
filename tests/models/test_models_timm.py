"""timm's models: by name and seed as all others, their weights and what travels with those; without the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dd
from dd.errors import InputError, MissingError
from dd.methods import Run
from dd.methods.panel import seat
from dd.models import ModelSpec, build, uses_batch_stats
from dd.models.images.pretrained import timm_trained
from dd.synthetic import TrainRecipe
from dd.teachers import StatisticsMatch, TeacherRecipe, batch_statistics, pretrained_teacher

NET = "timm:test_efficientnet"
OWN_MEAN, OWN_STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed: pip install timm")


def make(text: str, seed: int = 0, px: int = 32, channels: int = 3, classes: int = 4) -> nn.Module:
    return build(text, channels=channels, classes=classes, size=(px, px), seed=seed)


@pytest.fixture
def stored(timm: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stands in for the download: all-0.01 weights for test_efficientnet, trained on constants of their own."""
    import timm.models._builder as builder

    net = timm.create_model("test_efficientnet", pretrained=False)
    state = {k: torch.full_like(v, 0.01 if v.is_floating_point() else 0) for k, v in net.state_dict().items()}
    monkeypatch.setattr(builder, "load_state_dict_from_hf", lambda *a, **k: {k: v.clone() for k, v in state.items()})
    held = timm.get_pretrained_cfg("test_efficientnet")
    monkeypatch.setattr(held, "mean", OWN_MEAN)
    monkeypatch.setattr(held, "std", OWN_STD)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: held)
    return state


def test_seeded_as_all_models_are(timm: Any) -> None:
    before = torch.get_rng_state()
    one, two, other = (make(NET, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert make(NET, channels=1, px=28).eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 4)
    assert make("timm:test_vit").eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 4)  # made for 160 px, here for 32
    spec = ModelSpec.parse(f"{NET}(weights=r160_in1k)")
    assert ModelSpec.parse(str(spec)) == spec


def test_its_batch_norms_are_seen(timm: Any) -> None:
    net = make(NET)
    assert uses_batch_stats(net)
    net.eval().requires_grad_(False)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with StatisticsMatch(net) as match:
        apart = net(x)
        assert len(match.gaps) == len(norms) > 5
    with batch_statistics(net):
        together = net(x)
    assert not torch.allclose(apart, together)
    assert torch.allclose(net.train()(x), together, atol=1e-6)  # timm's norms have an activation in them


def test_weights_and_their_constants(stored: dict[str, Tensor]) -> None:
    whole = make(f"{NET}(weights=default)", classes=1000).state_dict()
    assert all(torch.equal(whole[k], v) for k, v in stored.items())
    one, two = (make(f"{NET}(weights=r160_in1k)").state_dict() for _ in range(2))
    assert {k for k, v in stored.items() if not torch.equal(one[k], v)} == {"classifier.weight", "classifier.bias"}
    assert torch.equal(one["classifier.weight"], two["classifier.weight"])
    real = _real()
    teacher = pretrained_teacher(f"{NET}(weights=default)", real, class_ids=(7, 3, 999))
    assert (teacher.transform.mean, teacher.transform.std) == (OWN_MEAN, OWN_STD)
    x = real.train.pixels(torch.arange(5))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (OWN_MEAN, OWN_STD))
    assert torch.allclose(teacher(x), teacher.module((x - mean) / std)[:, [7, 3, 999]], atol=1e-6)
    with pytest.raises(InputError, match="3 for pretrained weights; got 1"):
        make(f"{NET}(weights=default)", channels=1)
    with pytest.raises(InputError, match="`class_ids` must be given for 3 classes of a net with 1,000 outputs"):
        pretrained_teacher(f"{NET}(weights=default)", real)


def test_weights_without_classes(timm: Any) -> None:
    nameless = "vit_small_patch14_dinov2"
    with pytest.raises(InputError, match="with a last layer for classes; got default"):
        timm_trained(nameless, "default")
    with pytest.raises(InputError, match=r"tv:NAME\(weights=…\) or timm:NAME\(weights=…\)"):
        pretrained_teacher(NET, _real())


def test_weights_that_cannot_be_fetched(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm.models._builder as builder

    def offline(*args: Any, **kwargs: Any) -> None:
        raise FileNotFoundError("no route to host")

    monkeypatch.setattr(builder, "load_state_dict_from_hf", offline)
    with pytest.raises(MissingError, match=r"no route to host.*weights=none"):
        make(f"{NET}(weights=default)")


@pytest.mark.parametrize(
    ("text", "px", "match"),
    [
        ("timm:resnet18.a1_in1k", 32, r"got 'timm:resnet18.a1_in1k'. Weights are an option: timm:resnet18\(weights=a1"),
        ("timm:resnet19", 32, "classifier of timm; got 'timm:resnet19'. Close: timm:resnet"),
        ("timm:zzz", 32, r"It has 1,\d+ names"),
        (
            f"{NET}(weights=best)",
            32,
            "unknown weights of timm:test_efficientnet 'best'; known: default, none, r160_in1k",
        ),
        (f"{NET}(norm=batch)", 32, "unknown option of timm:test_efficientnet 'norm'; known: weights"),
        ("timm:test_vit", 33, "takes pictures"),
        ("timm:nest_tiny", 33, r"one that timm:nest_tiny takes; got 33x33"),
    ],
)
def test_refusals(timm: Any, text: str, px: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make(text, px=px)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingError, match=r"^`timm:NAME` needs the package timm \(.*\): pip install timm$"):
        ModelSpec.parse(NET)
    with pytest.raises(MissingError, match=r"^`timm:NAME` needs the package timm \(.*\): pip install timm$"):
        pretrained_teacher(f"{NET}(weights=default)", _real())


def test_teacher_and_student_by_name(timm: Any, tmp_path: Path) -> None:
    real = _real()
    recipe = TeacherRecipe(epochs=6, batch_size=16, lr=0.1, augment="")
    panel = seat([NET], recipe, None, None, real, Run(store=tmp_path))
    assert panel.teachers[0].name == NET
    assert panel.teachers[0].accuracy > 0.5
    small = dd.distill(
        real,
        "sre2l",
        ipc=1,
        committee=(NET,),
        teacher=recipe,
        iterations=1,
        label_epochs=2,
        train=TrainRecipe(model=NET, steps=2, optimizer="adamw", loss="kl", temperature=4.0, batch_size=4),
        store=tmp_path,
    )
    assert isinstance(dd.train(small), nn.Module)


def _real() -> dd.Images:
    """Three classes, each bright in a channel of its own."""
    labels = torch.arange(120) % 3
    pixels = torch.randint(0, 80, (120, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for k in range(3):
        pixels[labels == k, k] += 150
    return dd.load_images(dd.Images(train=(pixels, labels), test=(pixels[:30].flip(-1), labels[:30])))
