"""A set with stored labels saved over another one: both or neither, whatever the disk does, and nothing is left."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import dd
from dd.base import files
from dd.errors import DamagedError, MissingError, WriteError
from dd.synthetic import LabelStore, from_tensors, to_tensors
from dd.synthetic.file import labels_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.campaigns.jobs import content, labelled, told

OLD, NEW = labelled(0), labelled(1)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def full_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let `count` files be written and no more; the files that were asked for."""
    asked: list[Path] = []
    write = files.write_bytes

    def limited(path: Path, data: bytes) -> None:
        asked.append(path)
        if len(asked) > count:
            raise WriteError(f"could not write {path}: No space left on device.")
        write(path, data)

    monkeypatch.setattr(files, "write_bytes", limited)
    return asked


def test_a_full_disk_at_any_file_leaves_the_old_set_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = OLD.save(tmp_path / "set.safetensors")
    before, points = tree(tmp_path), 0
    while True:
        with monkeypatch.context() as patch:
            asked = full_after(points, patch)
            try:
                NEW.save(path)
                break
            except WriteError:
                points += 1
        assert len(asked) == points
        assert tree(tmp_path) == before
        assert content(dd.load(path)) == content(OLD)
    assert points == 4  # two shards, the manifest, the set
    assert content(dd.load(path)) == content(NEW)
    NEW.save(tmp_path / "fresh" / "set.safetensors")
    made = {name for name in tree(tmp_path) if not name.startswith("fresh")}
    assert made == set(tree(tmp_path / "fresh"))  # no shard of the old one


def test_the_same_set_over_itself_and_a_damaged_shard_is_written_anew(tmp_path: Path) -> None:
    path = OLD.save(tmp_path / "set.safetensors")
    before = tree(tmp_path)
    shard = next(labels_folder(path).rglob("00000-*"))
    shard.write_bytes(b"")
    with pytest.raises(DamagedError):
        dd.load(path)
    OLD.save(path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["set.safetensors", "synthetic.safetensors", "set.bin"])
def test_a_set_without_labels_removes_the_old_ones_and_no_more(tmp_path: Path, name: str) -> None:
    path = OLD.save(tmp_path / name)
    folder = "labels" if name == "synthetic.safetensors" else f"{name}.labels"
    assert {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*.json")} == {folder}
    OLD.hard().save(path)
    assert set(tree(tmp_path)) == {name}
    assert not (tmp_path / folder).exists()
    OLD.save(path)
    own = [f"{folder}/notes.txt", f"{folder}/0123456789abcdef/mine.safetensors", f"{folder}/mine/manifest.json"]
    for file in own:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"the user's own")
    OLD.hard().save(path)
    assert set(tree(tmp_path)) == {name, *own}


@pytest.mark.parametrize("other", ["a.bin", "a"])
def test_two_sets_of_one_stem_do_not_share_labels(tmp_path: Path, other: str) -> None:
    for name, small in (("a.safetensors", OLD), (other, NEW)):
        small.save(tmp_path / name)
    for name, small in (("a.safetensors", OLD), (other, NEW)):
        assert content(dd.load(tmp_path / name)) == content(small)
    NEW.hard().save(tmp_path / other)
    assert content(dd.load(tmp_path / "a.safetensors")) == content(OLD)


@pytest.mark.parametrize("name", ["set.safetensors", "synthetic.safetensors"])
def test_the_labels_of_a_set_behind_a_link_lie_beside_what_it_leads_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk").mkdir()
    path, link = tmp_path / "disk" / name, tmp_path / "link.safetensors"
    link.symlink_to(path)
    OLD.save(path)
    assert content(dd.load(link)) == content(OLD)
    NEW.save(link)
    assert link.is_symlink()
    for place in (link, path):
        assert content(dd.load(place)) == content(NEW)
        assert "every checksum matches" in dd.verify(place)
    NEW.hard().save(link)
    assert set(tree(tmp_path)) == {f"disk/{name}", "link.safetensors"}


def test_a_set_and_its_labels_in_a_tree_of_links(tmp_path: Path) -> None:
    """As a cache of the hub keeps them: each file is a link to one that is named by its content."""
    OLD.save(tmp_path / "real" / "synthetic.safetensors")
    (tmp_path / "blobs").mkdir()
    for number, file in enumerate(sorted(p for p in (tmp_path / "real").rglob("*") if p.is_file())):
        link = tmp_path / "snapshot" / file.relative_to(tmp_path / "real")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.rename(tmp_path / "blobs" / f"{number}"))
    assert content(dd.load(tmp_path / "snapshot")) == content(OLD)


def test_labels_of_another_set_are_refused(tmp_path: Path) -> None:
    path = OLD.save(tmp_path / "set.safetensors")
    NEW.save(tmp_path / "other" / "set.safetensors")
    (own,), (other,) = (
        labels_folder(folder / "set.safetensors").iterdir() for folder in (tmp_path, tmp_path / "other")
    )
    shutil.rmtree(own)
    with pytest.raises(MissingError, match=r"no label store in .* it has no manifest.json"):
        dd.load(path)
    shutil.copytree(other, own)
    with pytest.raises(DamagedError, match=r"manifest.json does not match its checksum"):
        dd.load(path)


def test_reported_bytes_are_those_on_the_disk(tmp_path: Path) -> None:
    path = OLD.save(tmp_path / "set.safetensors")
    NEW.save(path)
    assert NEW.store is not None
    assert NEW.nbytes.total == sum(map(len, tree(tmp_path).values()))
    assert NEW.store.file_bytes == NEW.nbytes.total - path.stat().st_size


def test_a_store_alone_keeps_files_that_are_not_its_own(tmp_path: Path) -> None:
    assert OLD.store is not None
    assert NEW.store is not None
    OLD.store.save(tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"the user's own")
    NEW.store.save(tmp_path)
    assert told(LabelStore.load(tmp_path)) == told(NEW.store)
    assert (tmp_path / "mine.safetensors").read_bytes() == b"the user's own"
    named = {shard["file"] for shard in files.read_json(tmp_path / "manifest.json")["shards"]}
    assert {p.name for p in tmp_path.iterdir()} == {*named, "manifest.json", "mine.safetensors"}


def test_a_reader_meets_the_old_or_the_new_set(tmp_path: Path) -> None:
    """The set is replaced, and the old labels removed, between reading its file and reading its labels."""
    path = OLD.save(tmp_path / "set.safetensors")
    load: Callable[..., LabelStore] = LabelStore.load

    with pytest.MonkeyPatch.context() as patch:

        def late(folder: Path, sha256: str) -> LabelStore:
            patch.undo()
            NEW.save(path)
            return load(folder, sha256)

        patch.setattr(LabelStore, "load", staticmethod(late))
        assert content(dd.load(path)) == content(NEW)


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    sets = [OLD, NEW, OLD.hard()] * 3
    threads = [threading.Thread(target=small.save, args=(path,)) for small in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = dd.load(path)
    assert content(found) in [content(small) for small in sets]
    found.save(tmp_path / "fresh" / "set.safetensors")
    assert {n for n in tree(tmp_path) if not n.startswith("fresh")} == set(tree(tmp_path / "fresh"))


@pytest.mark.parametrize("small", [OLD, OLD.hard(), dataclasses.replace(OLD, provenance={"seed": 1})])
def test_a_set_goes_through_tensors_and_back(small: dd.SyntheticImages, tmp_path: Path) -> None:
    back = from_tensors(*to_tensors(small))
    assert isinstance(back, dd.SyntheticImages)
    assert content(back) == content(small)
    for name, one in (("a", small), ("b", back)):
        one.save(tmp_path / name / "set.safetensors")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
