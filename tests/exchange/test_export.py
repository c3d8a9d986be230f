"""Exports: folders that read back, a fake hub and a fake `datasets`, a card without markup from names, curves."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
import tarfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import dd
from dd.base.files import append_jsonl
from dd.data.images.adapters import from_hf, from_webdataset
from dd.errors import DamagedError, InputError, MissingError
from dd.exchange.export import dataset_card, push_to_hub, to_hf, to_imagefolder, to_tensorboard
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise


def small(channels: int = 3, soft: bool = False, **more: Any) -> SyntheticImages:
    pixels = torch.randint(0, 256, (4, channels, 6, 5), generator=torch.Generator().manual_seed(0)).float() / 255
    labels = torch.tensor([1, 0, 1, 0])
    return SyntheticImages(
        images=pixels,
        labels=torch.tensor([[0.25, 0.75], [0.6, 0.4], [0.0, 1.0], [1.0, 0.0]]) if soft else labels,
        classes=("zebra/../x", "cat"),
        recipe=TrainRecipe(),
        transform=Normalise((0.0,) * channels, (1.0,) * channels),
        method={"name": "mtt"},
        provenance={"dataset": "cifar10", "seed": 0, "selection": "last <b>"},
        **more,
    )


@pytest.mark.filterwarnings("ignore:4 of 4 test images are also")
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_folder_reads_back_in_label_order(tmp_path: Path, channels: int) -> None:
    made = small(channels)
    to_imagefolder(made, tmp_path / "out")
    to_imagefolder(made, tmp_path / "out", "test")
    assert sorted(p.name for p in (tmp_path / "out" / "train").iterdir()) == ["0-zebra_.._x", "1-cat", "set.json"]
    real = dd.load_images(f"imagefolder:{tmp_path / 'out'}").all_train()
    assert real.train.labels.tolist() == [0, 0, 1, 1]
    order = torch.tensor([1, 3, 0, 2])
    shown = real.train.pixels()
    assert torch.equal(shown[:, :channels], made.pixels()[order].expand(-1, channels, -1, -1))


def test_a_folder_is_of_one_set(tmp_path: Path) -> None:
    made = small(3)
    few = dataclasses.replace(made, images=made.images[:2], labels=made.labels[:2])
    to_imagefolder(made, tmp_path)
    (tmp_path / "train" / ".hidden").touch()
    to_imagefolder(made, tmp_path)  # again
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    with pytest.raises(InputError, match=r"`path` must be .*train, which has 2 other file\(s\), such as .-.*\.png"):
        to_imagefolder(few, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
    to_imagefolder(few, tmp_path, "few")
    assert len(list((tmp_path / "few").rglob("*.png"))) == 2


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 or 3 channels"):
        to_imagefolder(small(2), tmp_path)
    with pytest.raises(InputError, match="`split` must be a name without slashes"):
        to_imagefolder(small(), tmp_path, "../x")


class FakeDatasets(types.ModuleType):
    """What `to_hf` needs of Hugging Face's package."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.load_dataset = None
        self.Image = lambda: "image"
        self.ClassLabel = lambda names: ("class", names)
        self.Sequence = lambda inner: ("sequence", inner)
        self.Value = lambda kind: kind
        self.Features = dict
        self.Dataset = types.SimpleNamespace(from_dict=lambda columns, features: (columns, features))


@pytest.mark.parametrize("soft", [False, True])
def test_hugging_face_columns(monkeypatch: pytest.MonkeyPatch, soft: bool) -> None:
    monkeypatch.setitem(sys.modules, "datasets", FakeDatasets())
    columns, features = to_hf(small(soft=soft))
    assert columns["label"] == [1, 0, 1, 0]
    assert columns["image"][0].size == (5, 6)
    assert ("probabilities" in columns) == ("probabilities" in features) == soft
    assert features["label"] == ("class", ["zebra/../x", "cat"])


@pytest.mark.parametrize("soft", [False, True])
def test_hugging_face_itself(soft: bool) -> None:
    try:
        from datasets import load_dataset  # noqa: F401  # a bare folder of that name has none
    except ImportError:
        pytest.skip("not installed: pip install datasets")
    made = small(soft=soft)
    rows = to_hf(made)
    assert rows.features["label"].names == ["zebra/../x", "cat"]
    assert rows["label"] == [1, 0, 1, 0]
    back = from_hf(rows)
    pixels = torch.stack([torch.from_numpy(np.array(back[i][0])).permute(2, 0, 1) for i in range(4)])
    assert torch.equal(pixels.float() / 255, made.pixels())
    if soft:
        assert torch.equal(torch.tensor(rows["probabilities"][:]), made.labels)


def test_the_hub_itself_takes_these_calls() -> None:
    hub = pytest.importorskip("huggingface_hub", reason="not installed: pip install huggingface-hub")
    given: dict[str, tuple[str, ...]] = {
        "create_repo": ("repo_id", "repo_type", "private", "exist_ok"),
        "upload_folder": ("folder_path", "repo_id", "repo_type", "commit_message"),
    }
    for name, words in given.items():
        assert set(words) <= set(inspect.signature(getattr(hub.HfApi, name)).parameters)


def test_a_package_that_is_missing_is_named_as_pip_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_jsonl(tmp_path / "log.jsonl", [{"iteration": 1, "loss": 0.5}])
    for module in ("datasets", "huggingface_hub", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=r"^A Hugging Face dataset needs .*: pip install datasets$"):
        to_hf(small())
    with pytest.raises(MissingError, match=r"^`push_to_hub` needs the package .*: pip install huggingface-hub$"):
        push_to_hub(small(), "me/tiny")
    with pytest.raises(MissingError, match=r"^`to_tensorboard` needs the package .*: pip install tensorboard$"):
        to_tensorboard(tmp_path)


def test_a_folder_called_datasets_is_not_hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    text = r"^A Hugging Face dataset needs the package datasets \(.*\): pip install datasets$"
    with pytest.raises(MissingError, match=text):
        to_hf(small())


def test_the_hub_gets_file_folder_picture_and_card(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class HfApi:
        def __init__(self, token: str | None) -> None:
            seen["token"] = token

        def create_repo(self, repo: str, **options: Any) -> None:
            seen.update(repo=repo, **options)

        def upload_folder(self, folder_path: str, **options: Any) -> None:
            base = Path(folder_path)
            seen["files"] = sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file())
            seen["images"] = dd.load(base / "synthetic.safetensors").images
            seen["card"] = (base / "README.md").read_text()

    fake = types.ModuleType("huggingface_hub")
    fake.HfApi = HfApi  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    made = small()
    assert push_to_hub(made, "me/tiny", token="t") == "datasets/me/tiny"
    assert (seen["repo"], seen["repo_type"], seen["private"], seen["token"]) == ("me/tiny", "dataset", True, "t")
    assert [f for f in seen["files"] if "data/" not in f] == ["README.md", "grid.png", "synthetic.safetensors"]
    assert sum(f.startswith("data/train/") for f in seen["files"]) == 5  # and set.json
    assert torch.equal(seen["images"], made.images)
    assert "# me/tiny" in seen["card"]
    with pytest.raises(InputError, match="`repo` must be `user/name`; got 'tiny'"):
        push_to_hub(made, "tiny")


def test_card_says_licence_provenance_and_the_measured_table() -> None:
    row = {"set": "mtt|<i>", "model": "convnet", "mean": 0.5, "std": 0.01, "n": 5, "steps": 1000, "lr": 0.02}
    report = {"rows": [row], "split": "test", "protocol": "clean", "selection": "last", "origin": {"machine": "m"}}
    text = dataset_card(small(), report)
    licence = dd.data.load_card("cifar10").licence
    assert f"license_name: '{licence.replace(chr(39), chr(39) * 2)}'" in text
    assert "- selection: last \\<b\\>" in text
    assert "| mtt\\|\\<i\\> | convnet | 50.0 ± 1.0 | 5 | 1000 | 0.02 |" in text
    front = text.split("---")[1]
    assert "- dataset-distillation" in front
    seen = {"training_items": {"low": "q1wkAYKqNAFM" * 30, "limit": -8}}
    method = {"name": "mtt", "expert": {"lr": 0.1, "whiten": False}}
    nested = dataset_card(SyntheticImages(**{**vars(small()), "provenance": seen, "method": method}))
    assert "- method: expert (lr 0.1, whiten False), name mtt\n" in nested
    assert "q1wk" not in nested
    own = dataset_card(SyntheticImages(**{**vars(small()), "provenance": {"dataset": "custom"}}))
    assert "check it before you share" in own


def test_tensorboard_gets_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, *given: Any) -> None:
            seen.append(given)  # type: ignore[arg-type]

        def close(self) -> None:
            seen.append(("closed", 0, 0))

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with pytest.raises(MissingError, match=r"no log.jsonl"):
        to_tensorboard(tmp_path)
    append_jsonl(tmp_path / "log.jsonl", [{"iteration": 1, "loss": 0.5, "lr": 0.1}, {"iteration": 2, "skipped": "x"}])
    to_tensorboard(tmp_path)
    assert seen == [("loss", 0.5, 1), ("lr", 0.1, 1), ("closed", 0, 0)]


# Input


class Rows(list[dict[str, Any]]):
    """A Hugging Face split as far as `from_hf` sees it."""

    def __init__(self, key: str = "img") -> None:
        pictures = [Image.new(mode, (8, 8), color) for mode, color in (("RGB", "red"), ("RGBA", "cyan")) * 10]
        super().__init__({key: picture, "label": i % 2} for i, picture in enumerate(pictures))
        self.features = {"label": types.SimpleNamespace(names=["red", "cyan"])}
        self.column_names = [key, "label"]


@pytest.mark.filterwarnings("ignore:20 of 20 test images are also")
def test_a_hugging_face_dataset_is_data() -> None:
    real = dd.load_images(dd.Images(train=from_hf(Rows()), test=from_hf(Rows("image"))))
    assert real.classes == ("red", "cyan")
    assert real.test is not None
    assert real.test.pixels(slice(1, 2)).flatten(2)[0, :, 0].tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(InputError, match=r"one column of pictures, called 'image'; got photograph, label\. Name it"):
        from_hf(Rows("photograph"))
    with pytest.raises(InputError, match="`data` must be a map-style dataset"):
        from_hf(iter(Rows()))


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, format="PNG")
    return buffer.getvalue()


def test_tar_shards_are_data(tmp_path: Path) -> None:
    colours = ("red", "cyan")
    files = {
        f"a/{i:04}.{kind}": d for i in range(4) for kind, d in (("png", png(colours[i % 2])), ("cls", b"%d" % (i % 2)))
    }
    files |= {"a/._0000.png": b"what macOS adds", "a/.cls": b"none"}
    paths = [shard(tmp_path / f"{n}.tar", files) for n in range(2)]
    real = dd.load_images(dd.Images(train=from_webdataset(paths))).all_train()
    assert real.train.labels.tolist() == [0, 1] * 4
    assert real.train.pixels(slice(0, 1)).flatten(2)[0, :, 0].tolist() == [1.0, 0.0, 0.0]


def test_broken_shards(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        from_webdataset(tmp_path / "none.tar")
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(DamagedError, match="is not a tar file"):
        from_webdataset(tmp_path / "text.tar")
    with pytest.raises(DamagedError, match=r"has png; it needs a picture and .cls"):
        from_webdataset(shard(tmp_path / "a.tar", {"x.png": png("red")}))
    with pytest.raises(DamagedError, match="is not a whole number"):
        from_webdataset(shard(tmp_path / "b.tar", {"x.png": png("red"), "x.cls": b"cat"}))
    with pytest.raises(InputError, match="at least one sample"):
        from_webdataset(shard(tmp_path / "c.tar", {}))
    with pytest.raises(DamagedError, match="cannot be read"):
        from_webdataset(shard(tmp_path / "d.tar", {"x.png": b"no", "x.cls": b"0"}))[0]


def test_pictures_of_stored_images_are_exported(tmp_path: Path) -> None:
    made = dd.distill("digits", "random", ipc=1, factor=2, mirror=True, storage="uint8", progress=False)
    to_imagefolder(made, tmp_path)
    assert len(list((tmp_path / "train").rglob("*.png"))) == 80
    card = dataset_card(made)
    assert "- pictures: 80 images of 10 stored (factor 2, mirrored, uint8)" in card
    assert "- bytes: 640 images, 80 labels" in card
    assert "- pictures:" not in dataset_card(small())
