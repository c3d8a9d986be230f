"""The soft-label store: replayed to the bit in this and another process, loud when a piece is gone (13 to 18)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dd.base.files import digest, read_json, write_json
from dd.base.seeding import child
from dd.errors import DamagedError, InputError, MissingError
from dd.synthetic.labels import LabelRecord, LabelStore, batch_ids
from dd.transforms.views import MixKind, draw_mix, draw_shuffle, draw_views

N, K, B, SIZE = 10, 5, 4, (8, 12)
PICTURES = torch.randint(0, 256, (N, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PIXELS = PICTURES.float() / 255


def record(ids: torch.Tensor, i: int, kind: MixKind) -> LabelRecord:
    views = draw_views(len(ids), SIZE, child(0, "views", i))
    mix = draw_mix(kind, len(ids), SIZE, child(0, "mix", i))
    seen = mix(views(PIXELS[ids.long()]))
    logits = torch.cat([seen.mean((1, 2, 3))[:, None] * (k + 1) for k in range(K)], 1)  # a teacher that can be rerun
    return LabelRecord(ids, views, mix, logits.half())


def store(kind: MixKind = "cutmix", epochs: int = 3) -> LabelStore:
    parts = [record(ids, i, kind) for i, ids in enumerate(batch_ids(N, B, epochs, seed=42))]
    return LabelStore(tuple(parts), digest(PICTURES), {"members": ["t"], "bn_mode": "batch"})


@pytest.mark.parametrize("kind", ["none", "cutmix", "mixup"])
def test_replay_is_what_the_teacher_saw(kind: MixKind, tmp_path: Path) -> None:
    made = store(kind)
    back = LabelStore.load(made.save(tmp_path / "labels"))
    back.check(PICTURES)
    assert len(back) == len(made) == 9  # ⌈10 / 4⌉ batches an epoch
    for (x, z), (y, w), one in zip(made.replay(PIXELS), back.replay(PIXELS), made.records, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(z, w)
        again = torch.cat([y.mean((1, 2, 3))[:, None] * (k + 1) for k in range(K)], 1)
        assert torch.equal(again.half(), one.logits)  # the teacher's answer to the replayed batch
    assert back.made == made.made


def shuffled(factor: int = 2) -> LabelStore:
    made = []
    for i, one in enumerate(store().records):
        shuffle = draw_shuffle(len(one.ids), factor, child(0, "shuffle", i))
        made.append(LabelRecord(one.ids, one.views, one.mix, one.logits, shuffle))
    return LabelStore(tuple(made), digest(PICTURES))


def test_shuffled_patches_are_replayed_and_counted(tmp_path: Path) -> None:
    made = shuffled()
    back = LabelStore.load(made.save(tmp_path / "labels"))
    for (x, _), (y, _), one in zip(made.replay(PIXELS), back.replay(PIXELS), made.records, strict=True):
        assert torch.equal(x, y)
        assert one.shuffle is not None
        assert torch.equal(x, one.mix(one.views(one.shuffle(PIXELS[one.ids.long()]))))
    assert any(
        not torch.equal(x, y) for (x, _), (y, _) in zip(made.replay(PIXELS), store().replay(PIXELS), strict=True)
    )
    assert made.nbytes == store().nbytes + 3 * N * 2 * 2
    assert made.file_bytes == sum(f.stat().st_size for f in (tmp_path / "labels").iterdir())
    manifest = tmp_path / "labels" / "manifest.json"
    for other, way_out in ((1, "distil again"), (3, "Upgrade dd")):
        write_json(manifest, {**read_json(manifest), "format": other})
        with pytest.raises(DamagedError, match=f"format version {other}; this version reads 2.*{way_out}"):
            LabelStore.load(tmp_path / "labels")
    with pytest.raises(InputError, match="all with shuffles of one factor, or all without"):
        LabelStore((*made.records, *store().records), digest(PICTURES))
    with pytest.raises(InputError, match="of one factor"):
        LabelStore((*made.records, *shuffled(4).records), digest(PICTURES))
    one = made.records[0]
    with pytest.raises(InputError, match="`shuffle` must be of 4 images; got 3"):
        LabelRecord(one.ids, one.views, one.mix, one.logits, draw_shuffle(3, 2, child(0)))


def test_another_process_replays_the_same_bytes(tmp_path: Path) -> None:
    store().save(tmp_path / "labels")
    code = (
        "import sys, torch; from dd.synthetic.labels import LabelStore; from dd.base.files import digest;"
        "g = torch.Generator().manual_seed(0);"
        f"x = torch.randint(0, 256, {(N, 3, *SIZE)}, generator=g, dtype=torch.uint8).float() / 255;"
        "print(digest(torch.cat([x for x, _ in LabelStore.load(sys.argv[1]).replay(x)])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "labels")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(torch.cat([x for x, _ in store().replay(PIXELS)]))


def test_same_records_same_bytes_and_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dd.synthetic.records._SHARD_BYTES", 400)
    a, b = (store().save(tmp_path / name) for name in ("a", "b"))
    files = sorted(p.name for p in a.iterdir())
    assert len(files) > 3
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in files)
    rest = store().pruned(500).save(a)  # a smaller store in the same folder leaves no old shard
    assert len(list(rest.glob("*.safetensors"))) < len(files) - 1
    assert len(LabelStore.load(rest)) == len(store().pruned(500))


def test_a_missing_image_or_shard_or_byte_is_loud(tmp_path: Path) -> None:
    made = store()
    for others in (PICTURES[:-1], PICTURES.flip(0), PICTURES.clone().index_fill_(0, torch.tensor([3]), 7)):
        with pytest.raises(DamagedError, match="made for other images"):
            made.check(others)
    folder = made.save(tmp_path / "labels")
    (shard,) = folder.glob("00000-*.safetensors")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedError, match="do not match their checksum"):
        LabelStore.load(folder)
    shard.unlink()
    with pytest.raises(MissingError, match=rf"shard {shard.name} .* is missing"):
        LabelStore.load(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(MissingError, match=r"no manifest.json. Copy the folder of labels that lies beside the set"):
        LabelStore.load(folder)


def test_bytes_and_pruning() -> None:
    made = store(epochs=30)
    rows = 30 * N
    assert made.nbytes == 2 * rows * K + 25 * rows + 20 * len(made)
    part = made.pruned(made.nbytes // 4)
    assert made.nbytes // 5 < part.nbytes <= made.nbytes // 4
    logits = [r.logits for r in made.records]
    places = [next(i for i, one in enumerate(logits) if torch.equal(one, r.logits)) for r in part.records]
    assert places == sorted(places)
    assert part.made["pruned"]["kept"] == len(part)
    again = made.pruned(made.nbytes // 4)  # seeded
    assert all(torch.equal(one.logits, two.logits) for one, two in zip(part.records, again.records, strict=True))
    with pytest.raises(InputError, match="`nbytes` must be at least"):
        made.pruned(10)


def test_records_are_a_sequence_of_views() -> None:
    made = store()
    assert [len(r.ids) for r in made.records] == [len(r.ids) for r in made.records[:]] == [4, 4, 2] * 3
    assert torch.equal(made.records[-1].ids, made.records[8].ids)
    with pytest.raises(IndexError):
        made.records[9]
    (shard,) = made.parts()
    assert made.records[1].logits.data_ptr() == shard["logits"][4:].data_ptr()


def test_a_store_takes_no_copy_to_be_counted_or_saved_and_one_to_be_loaded(
    tmp_path: Path, peak_of: Callable[[Callable[[], object]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of small batches, whose records would weigh more as tensors of their own."""
    ids, views, mix = torch.arange(4).int(), draw_views(4, SIZE, child(0)), draw_mix("cutmix", 4, SIZE, child(0))
    one = LabelRecord(ids, views, mix, torch.ones(4, 100).half())
    made = LabelStore((one,) * 600, digest(PICTURES))
    size = made.nbytes
    monkeypatch.setattr("dd.synthetic.label_checks._ROWS", 100)  # beside a store that is not tiny they are few
    monkeypatch.setattr("dd.base.shapes._PART", 1000)
    assert peak_of(lambda: made.save(tmp_path / "labels")) < 0.2 * size
    assert peak_of(lambda: LabelStore.load(tmp_path / "labels")) < 1.2 * size
    assert peak_of(lambda: made.check(PICTURES, 100)) < 0.2 * size
    fresh = LabelStore(made.records, made.images)
    monkeypatch.setattr("dd.base.seals.data_digest", None)  # nothing is hashed
    assert fresh.file_bytes == sum(f.stat().st_size for f in (tmp_path / "labels").iterdir())


def test_a_pruned_store_is_a_pool_whose_epochs_are_composed_anew(tmp_path: Path) -> None:
    whole = store(epochs=6)
    part = LabelStore.load(whole.pruned(whole.nbytes // 2).save(tmp_path / "labels"))
    kept = [(x, z) for x, z in part.replay(PIXELS)]  # without a generator: the stored order
    full = list(whole.replay(PIXELS))
    assert 3 < len(kept) < len(full)
    assert all(any(torch.equal(x, y) and torch.equal(z, w) for y, w in full) for x, z in kept)  # the same bytes

    def epoch(number: int) -> list[int]:
        """Which of the kept batches come, one after the other."""
        seen = part.replay(PIXELS, child(0, "order", number))
        return [next(i for i, (y, _) in enumerate(kept) if torch.equal(x, y)) for x, _ in seen]

    orders = [epoch(number) for number in range(3)]
    assert all(sorted(order) == list(range(len(kept))) for order in orders)  # every kept batch, once
    assert len({tuple(order) for order in orders}) == 3
    assert epoch(1) == orders[1]
    for (x, _), (y, _) in zip(whole.replay(PIXELS, child(0, "order", 0)), full, strict=True):
        assert torch.equal(x, y)  # a whole store keeps the order in which it was labelled


def test_orders_are_seeded_epoch_by_epoch() -> None:
    first, again = (torch.cat(list(batch_ids(N, B, 2, seed=42))) for _ in range(2))
    assert torch.equal(first, again)
    assert sorted(first[:N].tolist()) == sorted(first[N:].tolist()) == list(range(N))
    assert first[:N].tolist() != first[N:].tolist()
    assert [len(rows) for rows in batch_ids(9, 4, 1, seed=0, least=2)] == [4, 4]  # a tail of one is left out


def test_half_precision_is_enough_at_high_temperature() -> None:
    z = 4 * torch.randn(50, 1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    apart = ((z / 20).softmax(1) - (z.half().double() / 20).softmax(1)).abs().max()
    assert float(apart) < 1e-6


def test_refusals() -> None:
    ids = torch.arange(3, dtype=torch.int32)
    views, mix = draw_views(3, SIZE, child(0)), draw_mix("none", 3, SIZE, child(0))
    with pytest.raises(InputError, match=r"`logits` must be float16 \[3, K\]"):
        LabelRecord(ids, views, mix, torch.zeros(3, K))
    with pytest.raises(InputError, match="65,504"):
        LabelRecord(ids, views, mix, torch.full((3, K), 1e6).half())
    with pytest.raises(InputError, match="of 3 images"):
        LabelRecord(ids, draw_views(2, SIZE, child(0)), mix, torch.zeros(3, K).half())
    with pytest.raises(InputError, match="`records` must be at least one"):
        LabelStore((), "")
