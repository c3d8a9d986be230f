"""Cards: all parse, all fields are there, counts hold; where things live."""

from __future__ import annotations

import gzip
import pickle
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import dd.base.home
from dd.base.home import home, shipped
from dd.data import Card, about, list_cards, load_card, load_images, statistics
from dd.data.card import parse_card
from dd.errors import DamagedError, InputError, MissingError

ROOT = Path(__file__).resolve().parents[2]
SUBSETS = ("imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow")
NAMES = sorted(
    ["digits", "mnist", "fashion-mnist", "svhn", "cifar10", "cifar100", "tiny-imagenet", "imagenet", *SUBSETS]
)


def test_every_card_of_the_library_is_there() -> None:
    assert set(NAMES) <= set(list_cards())
    assert list(list_cards()) == sorted(list_cards())


@pytest.mark.parametrize("name", NAMES)
def test_card_has_every_field_and_makes_sense(name: str) -> None:
    values = tomllib.loads((ROOT / "datasets" / f"{name}.toml").read_text())
    assert set(values) == {field.name for field in fields(Card)}
    card = load_card(name)
    assert card.name == name
    assert card.url.startswith("http")
    assert all(text for text in (card.title, card.licence, card.layout, card.notes))
    assert "test" in card.counts
    assert all(0 < value < 1 for value in (*card.mean, *card.std))
    assert card.per_class[0] <= card.per_class[1]
    if "train" in card.counts and card.per_class[1]:
        low, high = (bound * card.num_classes for bound in card.per_class)
        assert low <= card.counts["train"] <= high
    assert card.verified or "not checked" in card.notes


@pytest.mark.parametrize("folder", ["datasets", "expert_trajectories"])
def test_data_folders_are_no_packages(folder: str) -> None:
    # A package called `datasets` would shadow Hugging Face's, which torch-geometric imports.
    assert (ROOT / folder).is_dir()
    assert not list((ROOT / folder).rglob("__init__.py"))


def test_checksums_are_those_that_torchvision_checks() -> None:
    from torchvision import datasets as tv

    for name, table in {
        "mnist": dict(tv.MNIST.resources),
        "fashion-mnist": dict(tv.FashionMNIST.resources),
        "cifar10": dict(tv.CIFAR10.train_list + tv.CIFAR10.test_list),
        "cifar100": dict(tv.CIFAR100.train_list + tv.CIFAR100.test_list),
        "svhn": {file: sums for _, file, sums in (tv.SVHN.split_list[split] for split in ("train", "test"))},
    }.items():
        assert table.items() <= load_card(name).checksums.items()


# The lists of mtt-distillation's utils.py.
MTT_CLASSES = {
    "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
}


@pytest.mark.parametrize("name", SUBSETS)
def test_subset_classes(name: str) -> None:
    from torchvision.models import ResNet18_Weights

    card = load_card(name)
    assert card.ilsvrc == MTT_CLASSES[name]
    categories = ResNet18_Weights.DEFAULT.meta["categories"]
    assert card.classes == tuple(categories[k] for k in card.ilsvrc)
    # Class numbers of ILSVRC follow the sorted WordNet ids, so both sort alike.
    order = sorted(range(10), key=lambda k: card.ilsvrc[k])
    assert [card.wnids[k] for k in order] == sorted(card.wnids)


def test_the_same_class_has_the_same_wnid_in_every_subset() -> None:
    seen: dict[int, str] = {}
    for card in map(load_card, SUBSETS):
        for k, wnid in zip(card.ilsvrc, card.wnids, strict=True):
            assert seen.setdefault(k, wnid) == wnid


def test_cifar_constants_are_the_published_ones() -> None:
    for name in ("cifar10", "cifar100"):
        card = load_card(name)
        assert card.mean == (0.4914, 0.4822, 0.4465)
        assert card.std == (0.2023, 0.1994, 0.2010)


def test_unknown_name_lists_the_known_ones() -> None:
    forms = r"`smiles:PATH\.csv` for a table of molecules.*`imagefolder:PATH`.* a Hugging Face Dataset"
    with pytest.raises(InputError, match=rf"unknown data set 'cifar11'; known: .*cifar10, cifar100, digits.*{forms}"):
        load_images("cifar11")
    with pytest.raises(InputError, match=r"imagefolder:PATH.*of tensors or arrays"):
        load_images("cifar11")


def test_a_path_without_its_prefix_is_told_it(tmp_path: Path) -> None:
    table, base = tmp_path / "mol.csv", tmp_path / "pets"
    table.write_text("smiles,active\nC,1\n")
    for k in range(2):
        for i in range(3):
            (base / f"{k}").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (k, i, i)).save(base / f"{k}/{i}.png")
    for path, way in ((table, f"`smiles:{table}`"), (base, f"`imagefolder:{base}`")):
        with pytest.raises(InputError, match=re.escape(f" give {way}. ")):
            load_images(str(path))
    assert len(load_images(f"imagefolder:{base}").classes) == 2
    assert about(f"smiles:{table}").kind == "graphs"


def test_a_broken_card_is_named(tmp_path: Path) -> None:
    values = tomllib.loads((ROOT / "datasets" / "digits.toml").read_text())
    file = tmp_path / "digits.toml"
    with pytest.raises(DamagedError, match=r"digits.toml: missing mean"):
        parse_card({key: value for key, value in values.items() if key != "mean"}, file)
    with pytest.raises(DamagedError, match=r"unknown colour"):
        parse_card({**values, "colour": 1}, file)
    with pytest.raises(DamagedError, match=r"`mean` and `std` must have 1 values; got 2 and 1"):
        parse_card({**values, "mean": [0.1, 0.2]}, file)
    with pytest.raises(DamagedError, match=r"`name` must be 'digits'"):
        parse_card({**values, "name": "figures"}, file)


# --- where things live


def test_home_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("DD_HOME", str(tmp_path / "dd"))
    assert home("datasets", tmp_path / "mine") == tmp_path / "mine"
    assert home("datasets", "~/mine") == tmp_path / "me/mine"
    assert home("datasets") == tmp_path / "dd/datasets"
    monkeypatch.delenv("DD_HOME")
    package = tmp_path / "checkout/dd"
    package.mkdir(parents=True)
    monkeypatch.setattr(dd.base.home, "_PACKAGE", package)
    assert home("expert_trajectories") == tmp_path / "me/.cache/dd/expert_trajectories"
    (tmp_path / "checkout/datasets").mkdir()  # site-packages may have a folder of that name: not enough
    assert home("datasets") == tmp_path / "me/.cache/dd/datasets"
    (tmp_path / "checkout/setup.py").touch()
    assert home("datasets") == tmp_path / "checkout/datasets/store"
    with pytest.raises(InputError, match=r"unknown kind of store 'runs'; known: datasets, expert_trajectories"):
        home("runs")


def test_shipped_copy_comes_before_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site/dd"
    package.mkdir(parents=True)
    monkeypatch.setattr(dd.base.home, "_PACKAGE", package)
    (tmp_path / "site/datasets").mkdir()  # Hugging Face's
    with pytest.raises(MissingError, match=r"'datasets' are missing.*Install the library again"):
        shipped("datasets")
    (tmp_path / "site/setup.py").touch()
    assert shipped("datasets") == tmp_path / "site/datasets"
    (package / "_cards").mkdir()
    assert shipped("datasets") == package / "_cards"


# --- what the cards load


def test_digits_counts_and_constants() -> None:
    images = load_images("digits")
    assert (len(images.train) + len(images.val or ()), len(images.test or ())) == (1437, 360)
    assert len(images.val or ()) == 145  # a tenth of each class
    assert (images.channels, images.size, images.num_classes) == (1, (8, 8), 10)
    whole = images.all_train().train
    assert len(whole) == 1437
    mean, std = statistics(whole)
    assert images.mean == pytest.approx(mean, abs=5e-5)
    assert images.std == pytest.approx(std, abs=5e-5)


def test_digits_are_all_1797_of_scikit_learn_once() -> None:
    from sklearn.datasets import load_digits

    images = load_images("digits")
    assert images.test is not None
    raw = load_digits()
    mine = torch.cat([images.all_train().train.pixels(), images.test.pixels()]).mul(16).round().flatten(1)
    rows = sorted(zip(map(tuple, mine.int().tolist()), _labels(images.all_train().train, images.test), strict=True))
    assert rows == sorted(zip(map(tuple, raw.data.astype(int).tolist()), raw.target.tolist(), strict=True))
    # A fifth of each class is test, by largest remainder.
    assert torch.bincount(images.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_split_never_changes() -> None:
    # golden: a change here would change every number measured on digits
    images = load_images("digits")
    assert images.test is not None
    assert images.test.fingerprint == "fd56462856016e890829005d36f09d3d743697aede5ae3cdba5d158a73c7ced8"
    assert images.fingerprint == "7ee5a1e430d829aee45df4f71d3ad0c08fa47d5ae3e8acfddc83a7a05a344875"


def _labels(*splits: object) -> list[int]:
    return [int(y) for split in splits for y in split.labels]  # type: ignore[attr-defined]


@pytest.mark.shared
def test_cifar10_is_all_there(shared_data: Callable[..., Path]) -> None:
    root = shared_data("cifar10") / "cifar10"
    images = load_images("cifar10", root=root)
    whole = images.all_train()
    assert (len(whole.train), len(images.test or ())) == (50_000, 10_000)
    assert (len(images.train), len(images.val or ())) == (45_000, 5_000)
    mean, std = statistics(whole.train)
    assert mean == pytest.approx((0.49140, 0.48216, 0.44653), abs=5e-6)
    assert std == pytest.approx((0.24703, 0.24349, 0.26159), abs=5e-6)
    assert whole.fingerprint != images.fingerprint
    # The folder that holds `cifar10/` is as good a root; the first image is a frog (label 6).
    again = load_images("cifar10", root=root.parent)
    assert again.fingerprint == images.fingerprint
    assert again.classes[int(again.all_train().train.labels[0])] == "frog"


# --- torchvision's loaders on small files in the real formats


def _small_card(monkeypatch: pytest.MonkeyPatch, name: str, train: int, test: int) -> None:
    card = replace(load_card(name), counts={"train": train, "test": test}, per_class=(0, 0))
    monkeypatch.setattr("dd.data.images.load.load_card", lambda *_: card)


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def _write_mnist(root: Path, train: int, test: int) -> np.ndarray:
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(_idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(_idx((np.arange(n) % 10).astype(np.uint8)))
        if part == "train":
            first = images
    return first


def test_mnist_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _write_mnist(tmp_path / "mnist", 40, 20)
    _small_card(monkeypatch, "mnist", 40, 20)
    images = load_images("mnist", root=tmp_path)
    whole = images.all_train().train
    assert whole.shape == (1, 28, 28)
    assert torch.equal(whole.pixels()[:, 0], torch.from_numpy(pixels) / 255)
    assert whole.labels.tolist() == [i % 10 for i in range(40)]
    assert load_images("mnist", root=tmp_path, size=32).size == (32, 32)


def test_other_counts_than_the_card_are_refused(tmp_path: Path) -> None:
    _write_mnist(tmp_path, 40, 20)
    with pytest.raises(InputError, match=r"`mnist train` must be 60000 images, as its card says; got 40 in "):
        load_images("mnist", root=tmp_path)


def test_truncated_mnist_is_damaged_not_a_traceback(tmp_path: Path) -> None:
    _write_mnist(tmp_path, 40, 20)
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DamagedError, match=r"'mnist'.*incomplete or damaged.*--download"):
        load_images("mnist", root=tmp_path)


def test_cifar_files_are_checked_before_they_are_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(DamagedError, match=r"'cifar10'.*damaged"):
        load_images("cifar10", root=tmp_path)
    assert not _Bomb.went_off


class _Bomb:
    went_off = False

    def __reduce__(self) -> tuple[Callable[..., None], tuple[type, str, bool]]:
        return setattr, (_Bomb, "went_off", True)


def test_cifar100_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "cifar100/cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    data = {name: rng.integers(0, 256, (200, 3072), dtype=np.uint8) for name in ("train", "test")}
    sums = {}
    for name, values in data.items():
        blob = pickle.dumps({"data": values, "fine_labels": [i % 100 for i in range(200)]}, protocol=2)
        (folder / name).write_bytes(blob)
        sums[name] = md5(blob).hexdigest()
    meta = pickle.dumps({"fine_label_names": list(load_card("cifar100").classes)}, protocol=2)  # type: ignore[arg-type]
    (folder / "meta").write_bytes(meta)
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(meta).hexdigest()})
    _small_card(monkeypatch, "cifar100", 200, 200)
    images = load_images("cifar100", root=tmp_path)
    assert images.num_classes == 100
    expected = torch.from_numpy(data["train"].reshape(200, 3, 32, 32)) / 255
    assert torch.equal(images.all_train().train.pixels(), expected)


def test_svhn_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    rng = np.random.default_rng(0)
    table, digit = {}, np.arange(40) % 10 + 1  # label 10 means the digit 0
    for split in ("train", "test"):
        pixels = rng.integers(0, 256, (32, 32, 3, 40), dtype=np.uint8)
        file = tmp_path / f"{split}_32x32.mat"
        savemat(file, {"X": pixels, "y": digit[:, None].astype(np.uint8)})
        table[split] = ["", file.name, md5(file.read_bytes()).hexdigest()]
        if split == "train":
            expected: Tensor = torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()) / 255
    monkeypatch.setattr(SVHN, "split_list", table)
    _small_card(monkeypatch, "svhn", 40, 40)
    images = load_images("svhn", root=tmp_path).all_train()
    assert images.train.labels.tolist() == [int(d) % 10 for d in digit]
    assert torch.equal(images.train.pixels(), expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_missing_files_show_the_layout_and_what_download_would_do(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    with pytest.raises(MissingError) as caught:
        load_images(name, root=tmp_path)
    text = str(caught.value)
    assert card.layout in text
    assert str(tmp_path) in text
    assert "`root=`" in text
    assert ("`download=True` (`--download`) to fetch it" in text) == card.downloadable
    assert card.downloadable or f"not fetched by this library: get it from {card.url}" in text


def test_download_is_said_to_be_of_no_use_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"not fetched by this library \(`download` was given\)"):
        load_images("imagenette", root=tmp_path, download=True)


def test_a_failed_download_says_where_else_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import MNIST

    def no_net(self: object) -> None:
        print("trying")
        raise RuntimeError("no route to host")

    monkeypatch.setattr(MNIST, "download", no_net)
    with pytest.raises(MissingError, match=r"'mnist' could not be fetched into .*no route to host.*yann\.lecun"):
        load_images("mnist", root=tmp_path, download=True)
    assert capsys.readouterr().out == ""  # stdout is kept for `--json`


def test_download_goes_to_the_store_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    source = tmp_path / "server"
    _write_mnist(source, 40, 20)
    fetched = []

    def copy(self: MNIST) -> None:
        if not self._check_exists():
            fetched.append(self.root)
            shutil.copytree(source / "MNIST", Path(self.root) / "MNIST", dirs_exist_ok=True)

    monkeypatch.setattr(MNIST, "download", copy)
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    _small_card(monkeypatch, "mnist", 40, 20)
    first = load_images("mnist", download=True)
    assert fetched == [str(tmp_path / "home/datasets/mnist")]
    assert load_images("mnist").fingerprint == first.fingerprint
    assert load_images("mnist", download=True).fingerprint == first.fingerprint
    assert len(fetched) == 1


@pytest.mark.online
def test_fashion_mnist_downloads(tmp_path: Path) -> None:
    images = load_images("fashion-mnist", root=tmp_path, download=True)
    assert (len(images.all_train().train), len(images.test or ())) == (60_000, 10_000)
    assert gzip.open(next((tmp_path / "FashionMNIST/raw").glob("t10k-labels*.gz"))).read(4) == b"\0\0\x08\x01"
