"""Training data given as test data: told by a warning and by the report, refused by `benchmark`."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from reference.graphs import graph
from torch import Tensor

import dd
from dd.base.files import dump_json
from dd.data import Images
from dd.errors import InputError
from dd.measure.adversarial import adversarial
from dd.measure.calibration import calibration
from dd.measure.membership import membership
from dd.measure.neighbours import neighbours
from dd.pages.page import write_page

FAST: dict[str, Any] = {"repeats": 1, "steps": 2, "progress": False, "device": "cpu"}
TRAINED = "the test images are those that the set was made from"


def pair(seed: int, n: int = 30) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    return x.to(torch.uint8), torch.arange(n) % 2


def made(data: object, **options: Any) -> Any:
    return dd.distill(data, "random", ipc=2, model="convnet(width=4)", progress=False, device="cpu", **options)


@pytest.fixture(scope="module")
def small() -> Any:
    return dd.distill(pair(0), "random", ipc=2, progress=False, device="cpu")


def shown(small: Any, data: object, **more: Any) -> dd.EvalReport:
    return dd.evaluate(small, data, models="convnet(width=4)", baselines=(), **{**FAST, **more})


def test_a_bare_pair_twice_is_training_data(small: Any, tmp_path: Any) -> None:
    x, y = pair(0)
    with pytest.warns(UserWarning, match=TRAINED) as seen:
        report = shown(small, (x, y))
    assert len(seen) == 1
    assert (report.split, report.protocol) == ("training data", "not clean")
    assert "training data, protocol not clean" in str(report)
    assert "clean" not in dump_json(report.to_json()).replace("not clean", "")
    assert report.notes[0] == "scores are of images that the set was made from, not of unseen ones"
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    path = tmp_path / "small.safetensors"
    small.save(path)
    items = [(image, int(label)) for image, label in zip(x[order], y[order], strict=True)]
    for given, data in ((path, (x[order].float() / 255, y[order])), (small, items)):
        with pytest.warns(UserWarning, match=TRAINED):
            assert shown(given, data).split == "training data"
    # The way out, taken literally.
    assert "as dd.Images(train=…, test=…)." in str(seen[0].message)
    report = shown(small, Images(train=(x, y), test=pair(1)))
    assert (report.split, report.protocol) == ("test", "clean")
    assert not any("training" in note or "made from" in note for note in report.notes)
    assert shown(small, pair(1)).split == "test"


def test_the_paper_protocol_and_own_validation_data_are_seen_too() -> None:
    x, y = pair(0)
    with pytest.warns(UserWarning, match=TRAINED):
        assert shown(made(Images(train=(x, y), test=pair(1)), protocol="paper"), (x, y)).protocol == "not clean"
    own = made(Images(train=(x, y), val=pair(2, 6)))
    with pytest.warns(UserWarning, match=TRAINED):
        assert shown(own, (x, y)).split == "training data"


def test_parts_are_seen_where_the_training_data_are_at_hand(small: Any) -> None:
    x, y = pair(0)
    more = pair(1, 10)
    for test in ((x[:15], y[:15]), (torch.cat([x, more[0]]), torch.cat([y, more[1]]))):
        with pytest.warns(UserWarning, match="test images are also among the training images"):
            real = Images(train=(x, y), test=test)
        with pytest.warns(UserWarning, match=TRAINED):
            assert shown(small, real).split == "training data"
    some = torch.cat([x[:3], more[0]]), torch.cat([y[:3], more[1]])
    with pytest.warns(UserWarning, match="3 of 13 test images are also"):
        real = Images(train=(x, y), test=some)
    report = shown(small, real)  # told when it was loaded
    assert (report.split, report.protocol) == ("test, 3 of 13 also in training", "clean")
    assert report.notes[0] == "3 of 13 test images are also among the training images"


def test_parts_are_seen_where_the_training_data_are_not_at_hand() -> None:
    (x, y), (more, labels) = pair(0, 400), pair(1, 200)
    small = dd.distill(Images(train=(x, y), val=pair(2, 100)), "random", ipc=2, progress=False, device="cpu")
    honest = more, labels
    parts = [(x[:100], y[:100]), (x[1:], y[1:]), (torch.cat([x, x]), torch.cat([y, y])), pair(2, 100)]
    for part in (*parts, (torch.cat([x, pair(2, 100)[0], more]), torch.cat([y, pair(2, 100)[1], labels]))):
        with pytest.warns(UserWarning, match=TRAINED):
            assert shown(small, part).protocol == "not clean"
        assert shown(small, Images(train=(x, y), val=pair(2, 100), test=honest)).split == "test"
    mixed = shown(small, (torch.cat([x[:200], more]), torch.cat([y[:200], labels])))
    share = int(str(mixed.split).removeprefix("test, about ").removesuffix(" % also in training"))
    assert 30 < share < 70  # the sketch is of 64 of 500 items
    assert mixed.notes[0] == f"about {share} % of the test images are among those that the set was made from"
    assert shown(small, honest).split == "test"


@pytest.mark.parametrize(
    "measure",
    [
        lambda s, d: calibration(s, d, **FAST),
        lambda s, d: adversarial(s, d, eps=(0.1,), attack_steps=1, **FAST),
        lambda s, d: dd.robustness(s, d, **{**FAST, "lr": "recipe"}),
        lambda s, d: dd.continual(s, d, tasks=1, baselines=(), **FAST),
        lambda s, d: dd.rank_architectures(s, d, models=[f"convnet(width={w})" for w in (3, 4)], baselines=(), **FAST),
        lambda s, d: membership(s, d, shadows=0, **FAST),
    ],
)
def test_every_measure_on_test_data_asks(small: Any, measure: Any) -> None:
    x, y = pair(0)
    with pytest.warns(UserWarning, match="30 of 30 test images"):
        real = Images(train=(x, y), test=(x, y))
    with pytest.warns(UserWarning, match=TRAINED):
        measure(small, real)


def test_neighbours_are_of_training_data(small: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(neighbours(small, pair(0), progress=False, device="cpu").distance.max()) < 1e-3


def test_benchmark_refuses() -> None:
    x, y = pair(0)
    with pytest.warns(UserWarning, match="test images are also among"):
        real = Images(train=(x, y), test=(x, y))
    text = r"`data` must be with test images that are no training images; got 30 of 30 .*Give test data that"
    with pytest.raises(InputError, match=text):
        dd.benchmark(real, "random", ipc=1, progress=False)


def test_graphs_given_twice_are_training_data() -> None:
    graphs = [graph([(a, a + 1) for a in range(n)] + [(0, 2)], n + 1, n % 2) for n in range(3, 33)]
    fast: dict[str, Any] = {"repeats": 1, "steps": 2, "baselines": (), "progress": False, "device": "cpu"}
    small = dd.distill((graphs, graphs[:2]), "mirage", depth=1, budget_bytes=900, progress=False, device="cpu")
    text = "the test graphs are those that the set was made from.*as a tuple"
    with pytest.warns(UserWarning, match=text):
        report = dd.evaluate(small, graphs, **fast)
    assert (report.split, report.protocol) == ("training data", "not clean")
    with pytest.warns(UserWarning, match=text):
        assert dd.evaluate(small, (graphs, graphs[4:9]), **fast).split == "training data"
    unseen = [graph([(0, a) for a in range(1, n)] + [(1, 2)], n + 1, n % 2) for n in range(5, 15)]
    report = dd.evaluate(small, (graphs, unseen), **fast)
    assert (report.split, report.protocol) == ("test graphs of split 0, given", "clean")
    with pytest.raises(InputError, match="with test graphs that are no training graphs"):
        dd.benchmark((graphs, graphs), "mirage", progress=False)


def test_of_a_set_of_others_nobody_knows_how_it_was_chosen(small: Any, tmp_path: Any) -> None:
    torch.save([small.images, small.labels], tmp_path / "theirs.pt")
    theirs = dd.import_pt(tmp_path / "theirs.pt", mean=(0.5,), std=(0.5,), classes=small.classes, lr=0.01)
    report = shown(theirs, pair(1))
    told = report.to_json()
    assert (told["protocol"], told["selection"]) == ("unknown", "unknown")
    assert "(test split, protocol unknown)" in str(report)
    assert [note for note in report.notes if "how this set was chosen is not known" in note]
    path = write_page(tmp_path / "page.html", {**told, "method": report.method}, None, None)
    assert "how this set was chosen is not known" in path.read_text()
    ours = shown(small, pair(1))
    assert not [note for note in ours.notes if "not known" in note]
