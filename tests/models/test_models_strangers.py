"""Networks that a set has not seen."""

from __future__ import annotations

import pytest

from dd.models import build, strangers


@pytest.mark.parametrize(
    ("own", "size", "wanted"),
    [
        ("convnet(width=32)", 32, ["convnet(depth=2, width=32)", "convnet(norm=batch, width=32)", "resnet9(width=8)"]),
        ("convnet(width=8)", 32, ["convnet(depth=2, width=8)", "convnet(norm=batch, width=8)", "resnet9(width=8)"]),
        ("convnet(width=64)", 32, ["convnet(depth=2, width=64)", "convnet(norm=batch, width=64)", "resnet9(width=16)"]),
        ("convnet(norm=batch)", 8, ["convnet(depth=2, norm=batch)", "convnet", "resnet9"]),
        ("resnet9", 32, ["convnet(width=64)", "convnet(norm=batch, width=64)", "vgg11"]),
        ("mlp", 32, ["convnet(width=64)", "convnet(norm=batch, width=64)", "resnet9"]),
    ],
)
def test_they_differ_by_depth_norm_and_family_and_can_be_built(own: str, size: int, wanted: list[str]) -> None:
    found = strangers(own, (size, size))
    assert list(map(str, found)) == wanted
    assert own not in wanted
    for spec in found:
        build(spec, channels=3, classes=2, size=(size, size), seed=0)


def test_of_a_users_network_they_are_the_librarys() -> None:
    found = strangers(lambda channels, classes, size: None, (32, 32))  # type: ignore[arg-type, return-value]
    assert [str(spec) for spec in found] == ["convnet(width=64)", "convnet(norm=batch, width=64)", "resnet9"]
