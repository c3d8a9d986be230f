"""What stands among `models` beside networks, and words that are nearly one."""

from __future__ import annotations

import pytest
from torch import nn

from dd.contest.readings import expanded
from dd.errors import InputError
from dd.evaluation import READERS, Reader
from dd.models import UNSEEN, Model
from dd.models.images.spec import WORDS


@pytest.mark.parametrize(
    ("word", "meant"), [("ridg", "ridge"), ("nearest_men", "nearest_mean"), ("unsen", "unseen"), ("convnot", "convnet")]
)
def test_a_word_that_is_none_is_refused_with_the_nearest(word: str, meant: str) -> None:
    known = r"alexnet, .*, nearest_mean, .*, ridge, .*, unseen, "
    with pytest.raises(
        InputError, match=rf"^unknown model '{word}'; known: {known}.* Did you mean {meant}\? torchvision"
    ):
        expanded([word], "convnet", (8, 8))


def test_pictures_too_small_for_a_network_that_a_set_has_not_seen() -> None:
    told = "`models` must be without `unseen` for pictures of 2 × 2"
    with pytest.raises(InputError, match=f"{told}.*Name networks that take them"):
        expanded(["unseen"], "convnet(depth=1)", (2, 2))
    assert expanded(["convnet(depth=1, norm=batch)"], "convnet(depth=1)", (2, 2)) == ["convnet(depth=1, norm=batch)"]


def test_words_may_have_capitals_and_networks_their_fields() -> None:
    models = ["Ridge", "nearest-mean", "ConvNet(width=4)", "mlp"]
    assert expanded(models, "convnet", (8, 8)) == [Reader("ridge"), Reader("nearest_mean"), "ConvNet(width=4)", "mlp"]


def test_two_models_of_one_name_are_refused_and_the_way_out_works() -> None:
    """One of them was left out without a word."""
    net, other = (lambda *_: nn.Linear(1, 1) for _ in range(2))
    assert expanded(["mlp", "MLP", Reader("ridge"), "ridge", Model(net), net], "convnet", (8, 8)) == [
        "mlp",
        Reader("ridge"),
        Model(net),
    ]
    for models in ([net, other], [Model(net, "a"), Model(other, "a")], [Reader("ridge", net), Reader("ridge", other)]):
        with pytest.raises(InputError, match=r"`models` must be of different names; got two .* `dd.Model\(factory"):
            expanded(models, "convnet", (8, 8))
    named = [Model(net, "a"), Model(other, "b")]
    assert expanded(named, "convnet", (8, 8)) == named
    two = [Reader("ridge"), Reader("ridge", strength=1000)]
    assert [str(one) for one in expanded(two, "convnet", (8, 8))] == ["ridge", "ridge(strength=1000.0)"]
    with pytest.raises(InputError, match="`name` must be other than the library's models and words of evaluation"):
        Model(net, "Ridge")


def test_the_words_are_those_of_strangers_and_readers() -> None:
    assert set(WORDS) == {UNSEEN, *READERS}
