"""A label store that says what no labelling gives is refused, however right its checksums are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dd.base.files import digest, file_digest, read_json, save_tensors, write_json
from dd.base.schema import SET_FORMAT
from dd.base.seeding import child
from dd.errors import DamagedError
from dd.synthetic.labels import LabelRecord, LabelStore
from dd.transforms.views import draw_mix, draw_shifts, draw_shuffle, draw_views

N, K, SIZE = 10, 5, (8, 12)
PICTURES = torch.zeros(N, 3, *SIZE, dtype=torch.uint8)


def record(i: int, count: int = 4, shuffle: int = 2) -> LabelRecord:
    ids = torch.randperm(N, generator=child(i, "ids"))[:count].int()
    views = draw_shifts(count, SIZE, child(i)) if i % 2 else draw_views(count, SIZE, child(i))
    mix = draw_mix(("none", "cutmix", "mixup")[i % 3], count, SIZE, child(i, "mix"))
    strips = draw_shuffle(count, shuffle, child(i, "shuffle")) if shuffle else None
    return LabelRecord(ids, views, mix, torch.zeros(count, K).half(), strips)


def store(shuffle: int = 2) -> LabelStore:
    return LabelStore(tuple(record(i, 1 + i % 4, shuffle) for i in range(9)), digest(PICTURES))


def edited(folder: Path, change: Callable[[dict[str, Tensor]], Any], **more: Any) -> Path:
    """A saved store with other tensors, `more` that its shard says of itself, and the names and checksums of these."""
    made = store()
    made.save(folder)
    (tensors,) = made.parts()
    change(tensors)
    manifest = read_json(folder / "manifest.json")
    about = {"kind": "labels", "format": SET_FORMAT, **more}
    sha256 = file_digest(tensors, about)
    shard = {**manifest["shards"][0], "file": f"00000-{sha256[:16]}.safetensors", "sha256": sha256}
    save_tensors(folder / shard["file"], tensors, about)
    write_json(folder / "manifest.json", {**manifest, "shards": [shard]})
    return folder


def put(name: str, place: Any, value: Any) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name].clone()
        tensors[name][place] = value

    return change


def whole(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: make(tensors[name]).contiguous()})


ALONE = {
    "ids below 0": (put("ids", 3, -1), r"`ids` must be at least 0; got -1"),
    "ids of another type": (whole("ids", Tensor.long), r"`ids` must be int32 \[\d+\]; got int64"),
    "a row too few": (whole("flips", lambda t: t[1:]), r"`flips` must be bool \[\d+\]"),
    "a crop without height": (put("boxes", (2, 2), 0), r"`sides of `boxes`` must be at least 1; got 0"),
    "boxes of three": (whole("boxes", lambda t: t[:, :3]), r"`boxes` must be int32 \[\d+, 4\]"),
    "no permutation": (put("order", slice(1, 3), 0), r"`order` must be a permutation"),
    "order of another record": (whole("order", lambda t: t + 1), r"`order` must be a permutation"),
    "a kind of mixing that is none": (put("kinds", 0, 3), r"`kinds` must be in 0…2; got 0…3|`kinds` must be in 0…2"),
    "shares that are no number": (put("shares", 1, float("nan")), r"`shares` must be finite"),
    "shares above 1": (put("shares", 1, 1.5), r"`shares` must be in 0…1"),
    "mixing boxes below 0": (put("mix_boxes", (0, 0), -2), r"`mix_boxes` must be at least 0"),
    "strips that repeat": (put("shuffles", (0, slice(None)), 0), r"`shuffles` must be orders of 0…1"),
    "strips that do not pair": (whole("shuffles", lambda t: t[:, :3]), r"`shuffles` must be uint8"),
    "logits that are no number": (put("logits", (0, 0), float("nan")), r"`logits` must be finite"),
    "logits without columns": (whole("logits", lambda t: t[:, 0]), r"`logits` must be float16 \[\d+, K\]"),
    "lengths of 0": (put("lengths", 0, 0), r"`lengths` must be at least 1"),
    "lengths of more rows": (put("lengths", 0, 400), r"`\w+` must be .*\[420"),
    "a tensor too many": (lambda t: t.update(more=torch.zeros(1)), r"`tensors` must be .*; got .*more"),
    "a tensor too few": (lambda t: t.pop("order"), r"`tensors` must be boxes, .*order"),
}


@pytest.mark.parametrize("name", ALONE)
def test_tensors_that_no_labelling_gives(tmp_path: Path, name: str) -> None:
    change, text = ALONE[name]
    folder = edited(tmp_path / "labels", change)
    with pytest.raises(DamagedError, match=rf"labels holds what no label store can have: {text}.*Label the set anew"):
        LabelStore.load(folder)


OF_PICTURES = {
    "an image that is not there": (put("ids", 0, N), r"`ids` must be in 0…9; got \d…10"),
    "a crop left of the picture": (put("boxes", 0, torch.tensor([0, -1, 4, 4])), r"`boxes` must be in a picture of 8"),
    "a crop below it": (put("boxes", 0, torch.tensor([5, 0, 4, 4])), r"`boxes` .*got \[5, 0, 4, 4\]"),
    "a shift too far": (
        put("boxes", 0, torch.tensor([0, 5, 8, 12])),
        r"`boxes` .*moved by up to 4 pixels; got \[0, 5, 8, 12\]",
    ),
    "a mixing box outside": (put("mix_boxes", 1, torch.tensor([0, 0, 9, 1])), r"`mix_boxes` must be in a picture"),
    "a mixing box backwards": (put("mix_boxes", 1, torch.tensor([3, 0, 2, 1])), r"`mix_boxes` must be in a picture"),
    "a column too many": (whole("logits", lambda t: torch.cat([t, t[:, :1]], 1)), r"`logits` must be of 5 classes"),
}


@pytest.mark.parametrize("name", OF_PICTURES)
def test_records_that_do_not_fit_their_pictures(tmp_path: Path, name: str) -> None:
    change, text = OF_PICTURES[name]
    back = LabelStore.load(edited(tmp_path / "labels", change))
    with pytest.raises(DamagedError, match=rf"the soft labels are not of these images: {text}"):
        back.check(PICTURES, K)


def test_strips_that_do_not_fit_the_picture() -> None:
    made = store(shuffle=5)
    with pytest.raises(DamagedError, match="`shuffles` must be of a number of strips that divides 8 and 12; got 5"):
        made.check(PICTURES, K)


@pytest.mark.parametrize("shuffle", [0, 2, 4])
def test_whatever_is_drawn_is_accepted(tmp_path: Path, shuffle: int) -> None:
    made = LabelStore(tuple(record(i, 1 + i % 9, shuffle) for i in range(60)), digest(PICTURES))
    LabelStore.load(made.save(tmp_path)).check(PICTURES, K)
    made.pruned(made.nbytes // 2).check(PICTURES, K)


NAMES = ["../../x.safetensors", "/etc/passwd", "00000-0123456789abcdef.safetensors/../x", "x.safetensors", "", 3, None]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_that_names_another_file_is_refused(tmp_path: Path, name: Any) -> None:
    folder = store().save(tmp_path / "a" / "labels")
    manifest = read_json(folder / "manifest.json")
    (shard,) = folder.glob("*.safetensors")
    (tmp_path / "x.safetensors").write_bytes(shard.read_bytes())  # it would load
    write_json(folder / "manifest.json", {**manifest, "shards": [{**manifest["shards"][0], "file": name}]})
    with pytest.raises(DamagedError, match=r"`shards\[0\]\.file` must be a name of the form .*Restore it, or label"):
        LabelStore.load(folder)


@pytest.mark.parametrize("sha256", [[], {}, "", "0" * 64, None])
def test_a_shard_is_the_one_that_the_manifest_names(tmp_path: Path, sha256: Any) -> None:
    folder = store().save(tmp_path / "labels")
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, "shards": [{**manifest["shards"][0], "sha256": sha256}]})
    with pytest.raises(
        DamagedError,
        match=r"`shards\[0\]\.sha256` must be a sha256|is not the file that was written with what names it",
    ):
        LabelStore.load(folder)


def test_shards_of_another_store_and_odd_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match="is no shard of this store"):
        LabelStore.load(edited(tmp_path / "other", lambda _: None, of="another"))
    folder = store().save(tmp_path / "labels")
    manifest = read_json(folder / "manifest.json")
    for change in ({"shards": 3}, {"shards": []}, {"shards": ["x"]}, {"images": None}, {"made": []}):
        write_json(folder / "manifest.json", {**manifest, **change})
        with pytest.raises(DamagedError, match=r"manifest\.json is no label store's manifest: `.*` must be .*; got"):
            LabelStore.load(folder)
