"""Specs, users' models, `build`, torchvision's models, and the two helpers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dd.errors import InputError, MissingError
from dd.models import MODELS, Model, ModelSpec, as_spec, build, count_parameters, uses_batch_stats

SIZE = (8, 8)


class Tiny(nn.Module):
    """A user's network with dropout."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.linear(self.drop(x.flatten(1)))


def make(spec: Any, seed: int = 0, **fields: Any) -> nn.Module:
    """`build` for small pictures."""
    return build(spec, **{"channels": 3, "classes": 4, "size": SIZE, "seed": seed, **fields})


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("convnet", "convnet"),
        ("convnet()", "convnet"),
        (" convnet ( width = 32,norm=batch ) ", "convnet(norm=batch, width=32)"),
        ("convnet(width=128, norm=instance)", "convnet"),
        ("convnet(width=128.0)", "convnet(width=128.0)"),
        ("convnet(depth=-2, width=1e-05)", "convnet(depth=-2, width=1e-05)"),
        ("convnet(width=True)", "convnet(width=true)"),
        ("tv:mobilenet_v2", "tv:mobilenet_v2"),
        ("tv:mobilenet_v2(weights=none)", "tv:mobilenet_v2"),
        ("tv:mobilenet_v2(weights=IMAGENET1K_V1)", "tv:mobilenet_v2(weights=IMAGENET1K_V1)"),
    ],
)
def test_text_to_spec_and_back(text: str, canonical: str) -> None:
    spec = ModelSpec.parse(text)
    assert str(spec) == spec.key == canonical
    assert ModelSpec.parse(str(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_values_have_types() -> None:
    assert ModelSpec.parse("convnet(width=32, norm=batch)").options == (("norm", "batch"), ("width", 32))
    values = [ModelSpec.parse(f"convnet(depth={t})").options[0][1] for t in ("3", "3.0", "true", "x1")]
    assert [(type(v), v) for v in values] == [(int, 3), (float, 3.0), (bool, True), (str, "x1")]


def test_spec_from_keywords() -> None:
    assert ModelSpec.of("convnet", width=32, norm="batch") == ModelSpec.parse("convnet(norm=batch, width=32)")
    assert len({ModelSpec.of("convnet"), ModelSpec("convnet"), ModelSpec.of("convnet", width=128)}) == 1


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("convnet(depht=3)", "unknown option of convnet 'depht'; known: depth, norm, pool, width"),
        ("mlp(width=3)", "unknown option of mlp 'width'.*no options"),
        ("tv:vgg11(norm=batch)", "unknown option of tv:vgg11 'norm'; known: weights"),
        ("ConvNets", "unknown model 'ConvNets'; known: alexnet, convnet, densenet121.*Did you mean convnet"),
        ("mobilenet_v3_large", "torchvision's are written tv:NAME"),
        ("Nearest-Mean", "`nearest_mean` is a word of `dd.evaluate` and `dd.benchmark`"),
        ("tv:resnet19", "got 'tv:resnet19'. Close: tv:resnet"),
        ("tv:zzz", "It has alexnet, convnext_base"),
        ("tv:fasterrcnn_resnet50_fpn", "an image classifier of torchvision"),
        ("convnet(width)", "of the form name"),
        ("convnet(width=)", "of the form name"),
        ("convnet(width=3,)", "of the form name"),
        ("convnet(width=3", "of the form name"),
        ("", "of the form name"),
        ("convnet(width=3, width=4)", "'width' twice"),
        ("convnet(norm=a b)", "`norm` must be"),
        ("convnet(width=1e999)", "`width` must be"),
    ],
)
def test_text_refusals(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ModelSpec.parse(text)


@pytest.mark.parametrize("value", ["3", "true", "a,b", "", None, float("nan"), [1]])
def test_values_that_cannot_be_read_back_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="`norm` must be"):
        ModelSpec("convnet", (("norm", value),))


@pytest.mark.parametrize(
    "options", [(("width", 8), ("norm", "batch")), (("width", 8), ("width", 9)), (("width", 128),)]
)
def test_constructor_wants_the_canonical_form(options: Any) -> None:
    with pytest.raises(InputError, match=r"ModelSpec\.of"):
        ModelSpec("convnet", options)


# --- users' models ----------------------------------------------------------------------------


def test_as_spec() -> None:
    spec, model = ModelSpec("mlp"), Model(Tiny, name="tiny")
    assert as_spec("mlp") == as_spec(spec) == spec
    assert as_spec(model) is model
    assert as_spec(Tiny) == Model(Tiny)
    for wrong in (3, None, Tiny(3, 4, SIZE)):
        with pytest.raises(InputError, match="Each run draws its own network"):
            as_spec(wrong)  # type: ignore[arg-type]


def test_key_needs_a_name() -> None:
    assert Model(Tiny, name="tiny-1").key == str(Model(Tiny, name="tiny-1")) == "tiny-1"
    assert str(Model(Tiny)) == "<Tiny>"
    with pytest.raises(InputError, match=r"dd\.Model\(factory, name="):
        _ = Model(Tiny).key


@pytest.mark.parametrize("name", ["convnet", "ResNet-18", "tv:vgg11", "a b", "", "../up", "a(b=1)"])
def test_names_that_would_be_mistaken_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="`name` must be"):
        Model(Tiny, name=name)


def test_made_network_is_no_factory() -> None:
    with pytest.raises(InputError, match="`factory` must be"):
        Model(Tiny(3, 4, SIZE))


# --- build ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["convnet(width=8)", "mlp", Tiny, ModelSpec("lenet")])
def test_equal_seeds_give_equal_weights_and_leave_the_global_stream(spec: Any) -> None:
    before = torch.get_rng_state()
    one, two, other = (make(spec, seed=s, size=(16, 16)) for s in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    pairs = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert all(module.training for module in one.modules())


def test_dtype_changes_rounding_only() -> None:
    single, double = make("convnet(norm=batch)"), make("convnet(norm=batch)", dtype=torch.float64)
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert b.dtype == torch.float64
        assert torch.equal(a.double(), b)
    assert dict(double.named_buffers())["blocks.0.norm.running_mean"].dtype == torch.float64


def test_check_leaves_buffers_and_modes() -> None:
    def frozen(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
        net = nn.Sequential(nn.BatchNorm2d(channels), Tiny(channels, classes, size))
        net[0].eval()
        return net

    net = make(frozen)
    assert [m.training for m in (net, net[0], net[1])] == [True, False, True]  # type: ignore[index]
    assert dict(net.named_buffers())["0.num_batches_tracked"] == 0


class Aux(Tiny):
    """Answers with a tuple, but in train mode only, as Inception does."""

    def forward(self, x: Tensor) -> Any:
        self.seen += 1
        logits = super().forward(x)
        return (logits, logits) if self.training and self.two else logits

    def __init__(self, *shape: Any, two: bool) -> None:
        super().__init__(*shape)
        self.two = two
        self.register_buffer("seen", torch.zeros(()))


def test_a_user_s_own_network_is_asked_in_train_mode_too() -> None:
    with pytest.raises(InputError, match=r"logits \[2, 4\] for two pictures in train mode; got a tuple"):
        make(lambda *shape: Aux(*shape, two=True))
    assert dict(make(lambda *shape: Aux(*shape, two=False)).named_buffers())["seen"] == 1  # of the pass in eval mode


def test_lazy_layers_are_drawn_from_the_seed() -> None:
    def lazy(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

    one, two = make(lazy), make(lazy)
    assert count_parameters(one) == 3 * 64 * 4 + 4
    assert torch.equal(one[1].weight, two[1].weight)  # type: ignore[index]


class Tangled(Tiny):
    """Has a complex weight, of which a cast to float32 leaves the real part."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__(channels, classes, size)
        self.turn = nn.Parameter(torch.ones(classes, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * self.turn).abs()


@pytest.mark.parametrize(
    ("factory", "match"),
    [
        (lambda c, k, s: None, "returns an nn.Module; got NoneType"),
        (lambda c, k, s: Tiny(c, 7, s), r"logits \[2, 4\] for two pictures; got shape \[2, 7\]"),
        (lambda c, k, s: nn.Identity(), r"got shape \[2, 3, 8, 8\]"),
        (lambda c, k, s: Tiny(c, k, (9, 9)), r"takes pictures \[3, 8, 8\].*RuntimeError: mat1 and mat2"),
        (lambda c, k, s: Tangled(c, k, s), "network of real weights; got .*, whose turn is complex. Hold their real"),
        (lambda c, k: None, "f\\(channels, classes, size\\); got <.*too many positional"),
    ],
)
def test_bad_factories_are_refused(factory: Callable[..., Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make(factory)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"channels": 0}, "`channels`"),
        ({"classes": 2.0}, "`classes`"),
        ({"classes": True}, "`classes`"),
        ({"size": 8}, "`size`"),
        ({"size": (8, 0)}, "`size`"),
        ({"size": (8, 8, 8)}, "`size`"),
        ({"dtype": torch.int64}, "`dtype`"),
    ],
)
def test_bad_arguments_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make("mlp", **fields)


def test_errors_inside_a_factory_come_through() -> None:
    def broken(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make(broken)


# --- torchvision ------------------------------------------------------------------------------

SHUFFLE = "tv:shufflenet_v2_x0_5"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_torchvision_untrained(channels: int) -> None:
    net = make(SHUFFLE, channels=channels, size=(32, 32))
    assert net.eval()(torch.rand(2, channels, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("text", "size", "match"),
    [
        ("tv:squeezenet1_1", (8, 8), r"takes pictures \[3, 8, 8\].*squeezenet1_1: RuntimeError"),
        ("tv:maxvit_t", (32, 32), "takes; got 32x32: Input size"),
        ("tv:vit_b_32", (40, 40), "takes; got 40x40: Input shape indivisible"),
        ("tv:vit_b_32", (32, 64), "not square"),
        (f"{SHUFFLE}(weights=best)", (32, 32), "known: IMAGENET1K_V1, default, none"),
    ],
)
def test_torchvision_refusals(text: str, size: tuple[int, int], match: str) -> None:
    with pytest.raises(InputError, match=match):
        make(text, size=size)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stands in for the download: all-0.01 weights of ShuffleNet."""
    import torchvision

    net = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    state = {k: torch.full_like(v, 0.01 if v.is_floating_point() else 0) for k, v in net.state_dict().items()}
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *a, **k: state)
    return state


def test_torchvision_weights(stored: dict[str, Tensor]) -> None:
    whole = make(f"{SHUFFLE}(weights=default)", classes=1000, size=(32, 32)).state_dict()
    assert all(torch.equal(whole[k], v) for k, v in stored.items())
    one, two = (make(f"{SHUFFLE}(weights=IMAGENET1K_V1)", size=(32, 32)).state_dict() for _ in range(2))
    changed = {k for k, v in stored.items() if not torch.equal(one[k], v)}
    assert changed == {"fc.weight", "fc.bias"}
    assert torch.equal(one["fc.weight"], two["fc.weight"])
    assert one["fc.weight"].shape == (4, 1024)
    with pytest.raises(InputError, match="3 for pretrained weights"):
        make(f"{SHUFFLE}(weights=default)", channels=1, size=(32, 32))


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def offline(*args: Any, **kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(MissingError, match=r"no route to host.*weights=none"):
        make(f"{SHUFFLE}(weights=default)", size=(32, 32))


# --- helpers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODELS))
def test_default_models_have_no_batch_statistics(name: str) -> None:
    teachers = {"resnet9", "resnet20", "mobilenet_v2", "shufflenet_v2", "densenet121", "efficientnet_b0"}
    assert uses_batch_stats(make(name, size=(32, 32))) == (name in teachers)  # those have batch norms


def test_uses_batch_stats() -> None:
    for net in (make("convnet(norm=batch)"), make(Tiny), make("tv:squeezenet1_1", size=(32, 32))):
        assert uses_batch_stats(net)
        assert not uses_batch_stats(net.eval())
    assert not uses_batch_stats(nn.Dropout(0.0))
    assert not uses_batch_stats(nn.InstanceNorm2d(3, track_running_stats=True))
    assert uses_batch_stats(nn.BatchNorm1d(3, track_running_stats=False).eval())
    assert uses_batch_stats(nn.LSTM(2, 2, num_layers=2, dropout=0.1))
    assert uses_batch_stats(nn.MultiheadAttention(4, 2, dropout=0.1))


def test_count_parameters_counts_frozen_ones_and_no_buffers() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net[0].requires_grad_(False)
    assert count_parameters(net) == 3 * 2 + 2 + 2 + 2
