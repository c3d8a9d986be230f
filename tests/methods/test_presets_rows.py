"""The rows of ast, tesla and datm against the published tables, and their rows for two cores."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dd.experts import load_recipe
from dd.methods import METHODS, TrajectoryMatching, rebuild
from dd.methods.cards import NEVER
from dd.methods.presets import Preset, preset, rows
from dd.methods.telling import bibtex, cite, describe
from scripts.records import kept

ROOT = Path(__file__).parents[2]
CLASSES = {"cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenet": 1000}
NAMES = ("ast", "tesla", "datm")

# Typed again from the tables, apart from the TOML files. None for batch_syn is all images, for mean none published.
# (data set, ipc): (recipe, N, M, max_start, batch_syn, lr_img, lr_lr, β₀, init, perturb, equal, balance)
AST_TABLE: dict[tuple[str, int], tuple[Any, ...]] = {
    ("cifar10", 10): ("ast-zca", 30, 2, 20, None, 100, 1e-6, 0.01, "real", 1.0, "equal", True),
    ("cifar100", 1): ("ast-zca", 20, 3, 20, None, 1000, 1e-5, 0.01, "representative", 1.0, "equal", True),
    ("cifar100", 10): ("ast", 20, 2, 30, 128, 1000, 1e-5, 0.01, "representative", 1.0, "equal", False),
    ("cifar100", 50): ("ast", 80, 2, 40, 700, 1000, 1e-5, 0.01, "representative", 0.0, "none", False),
    ("tiny-imagenet", 1): ("ast", 10, 2, 10, None, 10000, 1e-4, 0.01, "real", 1.0, "equal", False),
}
# (…, whiten, N, M, max_start, batch_syn, lr_img as published, lr_lr, β₀, labels, verified, mean %, std %)
TESLA_TABLE: dict[tuple[str, int], tuple[Any, ...]] = {
    ("cifar10", 1): (False, 50, 2, 5, None, 1e3, 1e-7, 0.01, "hard", True, 48.5, 0.8),
    ("cifar10", 10): (True, 30, 2, 20, None, 1e2, 1e-5, 0.001, "hard", False, 66.4, 0.8),
    ("cifar10", 50): (False, 30, 2, 40, None, 1e3, 1e-5, 0.001, "hard", False, 72.6, 0.7),
    ("cifar100", 1): (True, 20, 3, 20, None, 1e3, 1e-5, 0.01, "hard", False, 24.8, 0.4),
    ("cifar100", 10): (False, 20, 2, 20, None, 1e3, 1e-5, 0.01, "hard", False, 41.7, 0.3),
    ("cifar100", 50): (True, 80, 2, 40, 125, 1e3, 1e-5, 0.01, "hard", True, 47.9, 0.3),
    ("imagenet", 1): (False, 10, 3, 10, 100, 1e4, 1e-4, 0.01, "assigned", True, 7.7, 0.2),
}
# (…, N, batch_syn, lr_img, lr_lr, lr_y, threshold, t_min, t_cur, t_max, T_exp, init, mean %, std %)
DATM_TABLE: dict[tuple[str, int], tuple[Any, ...]] = {
    ("cifar10", 1): (80, 10, 100, 1e-7, 5, 1.1, 0, None, 4, 0, "correct", 46.9, 0.5),
    ("cifar10", 10): (80, 100, 100, 1e-5, 2, 1, 0, 10, 20, 1000, "correct", 66.8, 0.2),
    ("cifar10", 50): (80, 500, 1000, 1e-5, 2, 1, 0, 20, 40, 2000, "correct", 76.1, 0.3),
    ("cifar10", 500): (40, 1000, 50, 1e-5, 10, 1, 40, None, 60, 0, "correct", 83.5, 0.2),
    ("cifar10", 1000): (100, 1000, 50, 1e-5, 10, 1, 40, None, 60, 0, "correct", 85.5, 0.4),
    ("cifar100", 1): (40, 100, 1000, 1e-5, 10, 1, 0, 10, 20, 1000, "correct", 27.9, 0.2),
    ("cifar100", 10): (80, 1000, 1000, 1e-5, 10, 1, 0, 30, 50, 2000, "correct", 47.2, 0.4),
    ("cifar100", 50): (80, 1000, 1000, 1e-5, 10, 1, 20, None, 70, 0, "real", 55.0, 0.2),
    ("cifar100", 100): (80, 1000, 50, 1e-5, 10, 1, 30, None, 70, 0, "correct", 57.5, 0.2),
    ("tiny-imagenet", 1): (40, 200, 10000, 1e-4, 10, 1, 0, 15, 20, 2000, "correct", 17.1, 0.3),
    ("tiny-imagenet", 10): (40, 500, 100, 1e-4, 10, 1, 10, None, 50, 0, "correct", 31.1, 0.3),
    ("tiny-imagenet", 50): (20, 1000, 100, 1e-4, 10, 1, 40, None, 70, 0, "correct", 39.7, 0.3),
}
TABLES: dict[str, dict[tuple[str, int], tuple[Any, ...]]] = {
    "ast": AST_TABLE,
    "tesla": TESLA_TABLE,
    "datm": DATM_TABLE,
}


def published(method: str, cell: tuple[str, int]) -> tuple[Preset, TrajectoryMatching]:
    found = preset(method, *cell, tier="paper")
    made = METHODS[method](**found.fields)
    assert isinstance(made, TrajectoryMatching)
    assert (found.tier, found.dataset, made.ipc, made.name) == ("paper", cell[0], cell[1], method)
    return found, made


def check_shared(made: TrajectoryMatching, cell: tuple[str, int], batch: int = 256) -> None:
    """What the published rows have in common: outer optimisers, and evaluation over 1,001 epochs."""
    assert (made.pixel_optimizer, made.lr_mode, made.momentum_img, made.momentum_lr) == ("sgd", "positive", 0.5, 0.5)
    train, batches = made.train, math.ceil(CLASSES[cell[0]] * cell[1] / batch)
    assert (train.batch_size, train.momentum, train.weight_decay, train.drop_factor) == (batch, 0.9, 5e-4, 0.1)
    assert train.steps == 1001 * batches
    assert round(train.steps * train.drop_at) == 502 * batches


def check_accuracy(found: Preset, mean: float, std: float) -> None:
    assert found.published is not None
    assert found.published["mean"] == pytest.approx(mean / 100)
    assert found.published["std"] == pytest.approx(std / 100)


@pytest.mark.parametrize("cell", AST_TABLE, ids=str)
def test_ast_rows_are_the_published_ones(cell: tuple[str, int]) -> None:
    name, steps, epochs, last, batch, lr_img, lr_lr, beta, init, perturb, middle, balance = AST_TABLE[cell]
    found, made = published("ast", cell)
    assert (made.iterations, made.candidate_every, made.momentum, made.ema) == (5000, 200, 0.9, 0.0)
    assert made.expert == load_recipe(name)
    got = (made.student_steps, made.expert_epochs, made.min_start_epoch, made.max_start_epoch, made.batch_syn)
    assert got == (steps, epochs, 0, last, batch)
    assert (made.lr_img, made.lr_lr, made.lr_init) == (lr_img, lr_lr, beta)
    assert (made.init, made.perturb, made.intermediate, made.balance) == (init, perturb, middle, balance)
    assert (made.labels, made.gradient) == ("hard", "exact")
    # No accuracy was seen, and no script says which buffer it needs.
    assert (found.published, found.settings) == (None, False)
    check_shared(made, cell)


@pytest.mark.parametrize("cell", TESLA_TABLE, ids=str)
def test_tesla_rows_are_the_published_ones_at_half_the_pixel_step(cell: tuple[str, int]) -> None:
    zca, steps, epochs, last, batch, lr_img, lr_lr, beta, labels, verified, mean, std = TESLA_TABLE[cell]
    found, made = published("tesla", cell)
    assert (made.iterations, made.gradient, made.momentum, made.ema) == (10000, "detached", 0.0, 0.0)
    assert (made.expert.step, made.expert.whiten) == ("sgd", zca)
    assert made.expert.experts == (50 if cell[0] == "imagenet" else 100)
    got = (made.student_steps, made.expert_epochs, made.max_start_epoch, made.batch_syn)
    assert got == (steps, epochs, last, batch)
    assert (made.lr_img, made.lr_lr, made.lr_init, made.labels) == (lr_img / 2, lr_lr, beta, labels)
    assert "half" in found.note
    assert found.settings == verified == ("README" in found.source)
    check_accuracy(found, mean, std)
    check_shared(made, cell)


@pytest.mark.parametrize("cell", DATM_TABLE, ids=str)
def test_datm_rows_are_the_published_ones(cell: tuple[str, int]) -> None:
    steps, batch, lr_img, lr_lr, lr_y, above, low, current, high, window, init, mean, std = DATM_TABLE[cell]
    found, made = published("datm", cell)
    assert (made.iterations, made.momentum, made.ema, made.gradient) == (10000, 0.0, 0.0, "exact")
    assert made.expert == load_recipe("datm-zca")
    assert (made.expert.step, made.expert.whiten, made.expert.snapshots) == ("gsam", True, 100)
    whole = CLASSES[cell[0]] * cell[1]
    assert (made.student_steps, min(made.batch_syn or whole, whole)) == (steps, batch)
    assert made.expert_epochs == (3 if cell == ("cifar100", 1) else 2)
    got = (made.min_start_epoch, made.current_start_epoch, made.max_start_epoch, made.window_iterations)
    assert got == (low, current, high, window)
    assert (made.lr_img, made.lr_lr, made.lr_init, made.skip_above) == (lr_img, lr_lr, 0.01, above)
    assert (made.labels, made.lr_label, made.momentum_label, made.init) == ("learned", lr_y, 0.9, init)
    assert found.settings
    check_accuracy(found, mean, std)
    check_shared(made, cell, batch=128)


@pytest.mark.parametrize("method", NAMES)
def test_no_published_row_is_missing_or_added(method: str) -> None:
    cells = [(row["dataset"], row["ipc"]) for row in rows(method) if row["tier"] == "paper"]
    assert sorted(cells) == sorted(TABLES[method])


@pytest.mark.parametrize(("method", "key"), [("ast", "shen2023"), ("tesla", "cui2023"), ("datm", "guo2024")])
def test_cite_and_describe(method: str, key: str) -> None:
    entry = bibtex(method)
    assert entry.split("{")[1].startswith(key)
    assert entry.count("{") == entry.count("}")
    assert cite(method).endswith(entry)
    text = describe(method)
    for cell in TABLES[method]:
        assert f"\n{cell[0]} " in text


def cards() -> list[str]:
    found = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "datasets").glob("*.toml"))]
    return [card["name"] for card in found if card["domain"] == "images"]


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_rows_for_two_cores_mirror_those_of_mtt(method: str, ipc: int) -> None:
    """Same data, windows, steps and pixel step; the learning rate as its momentum asks."""
    for name in [*cards(), "default"]:
        found, plain = preset(method, name, ipc, "cpu"), METHODS["mtt"](**preset("mtt", name, ipc, "cpu").fields)
        made = METHODS[method](**found.fields)
        assert isinstance(made, TrajectoryMatching)
        assert isinstance(plain, TrajectoryMatching)
        assert (found.dataset, found.tier, found.published) == (name, "cpu", None)
        assert found.run is None or "untested" not in found.source
        for field in ("ipc", "iterations", "student_steps", "expert_epochs", "max_start_epoch", "batch_syn"):
            assert getattr(made, field) == getattr(plain, field)
        assert (made.pixel_optimizer, made.lr_mode, made.lr_img, made.train) == (
            "adam",
            "positive",
            plain.lr_img,
            plain.train,
        )
        # lr / (1 − μ) is the length of a heavy-ball step, and lr_lr / β₀² that of β in units of β₀.
        assert made.lr_init / (1 - made.momentum) == pytest.approx(plain.lr_init)
        assert made.lr_lr / made.lr_init**2 == pytest.approx(plain.lr_lr / plain.lr_init**2)


@pytest.mark.parametrize("method", NAMES)
def test_experts_for_two_cores_keep_snapshots_as_far_apart_as_those_of_mtt(method: str) -> None:
    for name in cards():
        made, plain = (METHODS[m](**preset(m, name, 10, "cpu").fields) for m in (method, "mtt"))
        assert isinstance(made, TrajectoryMatching)
        assert isinstance(plain, TrajectoryMatching)
        ours, theirs = made.expert, plain.expert
        assert ours.lr / (1 - ours.momentum) == pytest.approx(theirs.lr)
        for field in ("model", "batch_size", "augment", "augment_mode", "snapshot_every", "snapshot_unit", "experts"):
            assert getattr(ours, field) == getattr(theirs, field), (name, field)
        if method == "ast":
            assert (ours.step, ours.ramp, ours.penalty, ours.ramp_every) == ("sgd", True, 0.1, ours.snapshot_every)
        else:
            assert ours.step == {"tesla": "sgd", "datm": "gsam"}[method]


@pytest.mark.parametrize("name", ["cifar10", "digits", "default"])
def test_parts_that_are_on_for_two_cores(name: str) -> None:
    for ipc in (1, 10):
        ast, tesla, datm = (METHODS[m](**preset(m, name, ipc, "cpu").fields) for m in NAMES)
        assert isinstance(ast, TrajectoryMatching)
        assert isinstance(tesla, TrajectoryMatching)
        assert isinstance(datm, TrajectoryMatching)
        assert (ast.momentum, ast.init, ast.balance, ast.intermediate, ast.perturb) == (
            0.9,
            "representative",
            True,
            "equal",
            1.0,
        )
        assert (tesla.gradient, tesla.labels) == ("detached", "hard")
        assert (datm.labels, datm.init, datm.current_start_epoch) == (
            "learned",
            "correct",
            -(-datm.max_start_epoch // 2),
        )
        assert 0 < datm.window_iterations < datm.iterations


def test_published_starts_are_made_with_the_last_snapshot() -> None:
    for method, row in [(m, r) for m in ("ast", "datm") for r in rows(m)]:
        made = METHODS[method](**preset(method, row["dataset"], row.get("ipc", 10), row["tier"]).fields)
        assert isinstance(made, TrajectoryMatching)
        assert made.init_snapshot == ("last" if row["tier"] == "paper" else "read")


@pytest.mark.parametrize(("ipc", "every"), [(50, 500), (500, 1000), (1000, 1000)])
def test_datm_offers_candidates_as_often_as_its_configurations_say(ipc: int, every: int) -> None:
    assert published("datm", ("cifar10", ipc))[1].candidate_every == every


@pytest.mark.parametrize("method", METHODS)
def test_a_row_is_said_to_have_run_where_a_record_has_all_of_its_settings(method: str) -> None:
    """Fields that are younger than a record had their default then; one that has a value no more was another row."""
    for row in rows(method):
        if row["tier"] == "cpu" and "ipc" in row:
            value = METHODS[method](**preset(method, row["dataset"], row["ipc"], "cpu").fields)
            name = f"{row['dataset']}-ipc{row['ipc']}-{method}-seed0"
            told = [rebuild(record["method"]) for record in kept.named(name).values()]
            same = any(made is not None and made.describe() == value.describe() for made in told)
            assert row["run"] == (name if same else NEVER)
