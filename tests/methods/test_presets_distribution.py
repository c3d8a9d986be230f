"""The rows of dm, idm and ncfm against what was read, and their rows for two cores."""

from __future__ import annotations

from typing import Any

import pytest

import dd
from dd.errors import InputError
from dd.methods import METHODS, DistributionMatching
from dd.methods.presets import preset, rows

NAMES = ("dm", "idm", "ncfm")
# Typed again, apart from the TOML files.
# (method, data set, ipc): (steps of a fresh network, mean %, whether it is verified, further fields)
TABLE: dict[tuple[str, str, int], tuple[int, float, bool, dict[str, Any]]] = {
    ("dm", "cifar10", 1): (1001, 26.0, True, {}),
    ("dm", "cifar10", 10): (1001, 48.9, True, {}),
    ("dm", "cifar10", 50): (2 * 1001, 63.0, True, {}),
    ("dm", "cifar100", 1): (1001, 11.4, True, {}),
    ("dm", "cifar100", 10): (4 * 1001, 29.7, True, {}),
    ("dm", "cifar100", 50): (20 * 1001, 43.6, True, {}),
    ("dm", "tiny-imagenet", 10): (8 * 1001, 12.9, True, {}),
    ("idm", "cifar10", 1): (1001, 45.6, False, {"queue_every": 5, "class_weight": 0.5}),
    ("idm", "cifar10", 10): (2 * 1001, 58.6, False, {"queue_every": 30, "class_weight": 0.5}),
    ("idm", "cifar10", 50): (8 * 1001, 67.5, False, {"queue_every": 30, "class_weight": 0.1}),
    ("idm", "cifar100", 10): (16 * 1001, 45.1, False, {"queue_every": 30, "class_weight": 0.1}),
    ("ncfm", "cifar10", 1): (2000, 49.5, True, {}),
    ("ncfm", "cifar10", 10): (4 * 2000, 71.8, True, {}),
    ("ncfm", "cifar10", 50): (16 * 2000, 77.4, False, {}),
}
COMMON: dict[str, dict[str, Any]] = {
    "dm": {"batch_real": 256, "lr_img": 1.0, "momentum_img": 0.5, "factor": 1, "networks": "fresh", "features": "flat"},
    "idm": {"queue": 100, "lr_img": 0.2, "momentum_img": 0.5, "factor": 2, "networks": "queue", "features": "channel"},
    "ncfm": {"batch_real": 1024, "frequencies": 4096, "factor": 2, "weight": 300.0, "class_weight": 1.0, "clip": True},
}


def made(method: str, dataset: str | None, ipc: int, tier: Any) -> DistributionMatching:
    value = METHODS[method](**preset(method, dataset, ipc, tier).fields)
    assert isinstance(value, DistributionMatching)
    return value


@pytest.mark.parametrize("cell", TABLE)
def test_published_rows(cell: tuple[str, str, int]) -> None:
    method, dataset, ipc = cell
    steps, mean, verified, fields = TABLE[cell]
    row, value = preset(method, dataset, ipc, "paper"), made(method, dataset, ipc, "paper")
    assert row.published is not None
    assert (100 * row.published["mean"], row.published["verified"]) == (pytest.approx(mean), verified)
    assert (value.ipc, value.iterations, value.train.steps) == (ipc, 20000, steps)
    assert {name: getattr(value, name) for name in (*COMMON[method], *fields)} == {**COMMON[method], **fields}
    assert str(value.expert.model) == "convnet"
    assert row.run is None
    assert row.settings == (method == "dm" and dataset != "tiny-imagenet")


def test_these_are_all() -> None:
    found = {(name, row["dataset"], row["ipc"]) for name in NAMES for row in rows(name) if row["tier"] == "paper"}
    assert found == TABLE.keys()
    with pytest.raises(InputError, match="Use preset='cpu'"):
        preset("idm", "svhn", 10, "paper")


def test_how_networks_are_trained_on_published_sets() -> None:
    for name in ("dm", "idm"):
        train = made(name, "cifar10", 10, "paper").train
        wanted = dd.TrainRecipe.published(10, 0.01, classes=10)
        names = ("lr", "momentum", "weight_decay", "batch_size", "drop_at", "drop_factor", "augment", "augment_mode")
        assert {one: getattr(train, one) for one in names} == {one: getattr(wanted, one) for one in names}
    train = made("ncfm", "cifar10", 10, "paper").train
    assert (train.optimizer, train.lr, train.batch_size, train.mix, train.augment) == (
        "adamw", 0.001, 128, "cutmix", "crop",
    )  # fmt: skip
    expert = made("ncfm", "cifar10", 10, "paper").expert
    assert (expert.experts, expert.snapshots * expert.snapshot_every, expert.snapshot_unit) == (20, 60, "epoch")


@pytest.mark.parametrize("dataset", ["cifar10", "digits", None])
def test_rows_for_two_cores(dataset: str | None) -> None:
    for name in NAMES:
        value = made(name, dataset, 10, "cpu")
        assert str(value.expert.model) == "convnet(width=32)"
        assert value.iterations <= 1000
        assert value.train.augment


def test_ncfm_reads_the_experts_of_mtt_on_two_cores() -> None:
    for dataset in ("cifar10", "digits", None):
        own, mtt = (METHODS[name](**preset(name, dataset, 10, "cpu").fields).expert for name in ("ncfm", "mtt"))  # type: ignore[attr-defined]
        assert own.key("data") == mtt.key("data")
        assert made("ncfm", dataset, 10, "cpu").snapshots_read <= mtt.snapshots
