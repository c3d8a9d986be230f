"""Others' sets and buffers: read by the tensors-only reader, checked, and never executed."""

import logging
import pickle

import pytest
import torch
from PIL import Image
from torch import nn

from dd.data import Images
from dd.errors import DamagedError, InputError, MissingError
from dd.exchange.importers import import_buffer, import_folder, import_pt
from dd.exchange.pt import read_pt
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import ZCA, Normalise

STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.25)}


class Evil:
    """Unpickling it makes the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def saved(tmp_path, value, name="images_best.pt", **how):
    torch.save(value, tmp_path / name, **how)
    return tmp_path / name


def noise(n=6, c=3, side=4):
    return torch.randn(n, c, side, side, generator=torch.Generator().manual_seed(0))


# --- .pt sets ----------------------------------------------------------------------------------------------


def test_import_pt_and_round_trip(tmp_path):
    images, labels = noise(), torch.tensor([0, 2, 1, 1, 0, 2])
    small = import_pt(
        saved(tmp_path, nn.Parameter(images)),
        saved(tmp_path, labels, "labels_best.pt"),
        **STATISTICS,
        classes=("cat", "dog", "owl"),
        recipe=TrainRecipe(lr=0.03),
    )
    assert torch.equal(small.images, images)
    assert small.labels.tolist() == labels.tolist()
    assert small.classes == ("cat", "dog", "owl")
    assert small.recipe.lr == 0.03
    assert not small.images.requires_grad
    assert set(small.provenance["imported"]) == {"images_best.pt", "labels_best.pt"}
    again = SyntheticImages.load(small.save(tmp_path / "set.safetensors"))
    assert torch.equal(again.pixels(), small.pixels())


@pytest.mark.parametrize("given", [{"classes": ("a", "b", "c")}, {"classes": 3}, {"ipc": 2}])
def test_without_labels_images_come_class_by_class(tmp_path, given):
    small = import_pt(saved(tmp_path, noise()), **STATISTICS, **given)
    assert small.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(small.classes) == 3


def test_other_dtypes_and_the_old_file_format(tmp_path):
    old = saved(tmp_path, noise().double(), _use_new_zipfile_serialization=False)
    labels = saved(tmp_path, torch.arange(6, dtype=torch.int32) % 2, "labels.pt")
    small = import_pt(old, labels, **STATISTICS)
    assert small.images.dtype == torch.float32
    assert small.labels.dtype == torch.int64


def test_soft_labels(tmp_path):
    soft = noise(6, 1, 2).flatten(1)
    path = saved(tmp_path, noise())
    small = import_pt(path, saved(tmp_path, soft.softmax(1), "labels.pt"), **STATISTICS)
    assert small.labels.shape == (6, 4)
    with pytest.raises(InputError, match=r"rows of probabilities.*For logits save `.softmax\(1\)`"):
        import_pt(path, saved(tmp_path, soft, "labels.pt"), **STATISTICS)
    with pytest.raises(InputError, match="`classes` must be 4 names"):
        import_pt(path, saved(tmp_path, soft.softmax(1), "labels.pt"), **STATISTICS, classes=3)


def test_a_whitened_set(tmp_path):
    eye = torch.eye(48)
    zca = ZCA(torch.full((48,), 0.5), eye, eye, (3, 4, 4), 0.1, "fingerprint")
    small = import_pt(saved(tmp_path, noise()), transform=zca, ipc=2)
    torch.testing.assert_close(small.pixels(), (noise() + 0.5).clamp(0, 1))
    with pytest.raises(InputError, match="`images` must be what the zca makes"):
        import_pt(saved(tmp_path, noise(side=5)), transform=zca, ipc=2)


@pytest.mark.parametrize("old", [False, True])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, old, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # must not open the door
    trap = tmp_path / "executed"
    values = {"images": noise(), "more": Evil(trap)}
    path = saved(tmp_path, values, _use_new_zipfile_serialization=not old)
    with pytest.raises(DamagedError, match=r"tensors and plain lists or dicts alone.*never read here"):
        import_pt(path, **STATISTICS, ipc=1)
    assert not trap.exists()


def test_a_malicious_bare_pickle_is_refused_everywhere(tmp_path):
    trap = tmp_path / "executed"
    path = tmp_path / "replay_buffer_0.pt"
    path.write_bytes(pickle.dumps([Evil(trap)]))
    for read in (read_pt, lambda p: read_pt(p, mapped=True), lambda p: import_pt(p, **STATISTICS, ipc=1)):
        with pytest.raises(DamagedError, match="never read here"):
            read(path)
    with pytest.raises(DamagedError, match="never read here"):
        import_buffer(path, store_of(tmp_path), NORMALISE)
    assert not trap.exists()
    pickle.loads(path.read_bytes())[0].close()  # the trap works
    assert trap.exists()


def test_foreign_and_truncated_files_are_refused(tmp_path):
    whole = saved(tmp_path, noise()).read_bytes()
    for content in (b"", b"hello", b"PK\x03\x04", whole[: len(whole) // 2], whole[:-10]):
        path = tmp_path / "broken.pt"
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"broken\.pt must hold tensors"):
            import_pt(path, **STATISTICS, ipc=1)
    with pytest.raises(MissingError, match="no file"):
        import_pt(tmp_path / "none.pt", **STATISTICS, ipc=1)


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (noise(), {"ipc": 1, "mean": (0.5,), "std": None}, "`mean, std` must be given together"),
        (noise(), {"ipc": 1, "transform": Normalise((0.5,) * 3, (1.0,) * 3)}, "`mean, std` must be given"),
        (noise(), {}, "`labels_path` must be given, or else `classes` or `ipc`"),
        (noise(), {"classes": 4}, "must be a multiple of 4, as no labels are given; got 6"),
        (noise(), {"ipc": 4}, "a multiple of 4, as no labels are given; got 6"),
        (noise(), {"ipc": 3, "classes": 3}, "`ipc` must be 2, for 6 images of 3 classes; got 3"),
        (noise(), {"ipc": 0}, "`ipc` must be at least 1"),
        (noise(), {"classes": ("a", "a")}, "`classes` must be different names"),
        (noise(c=1), {"ipc": 1}, "`images` must be what the normalise makes"),
        (noise() * float("nan"), {"ipc": 1}, "`images` must be finite"),
        (noise()[:0], {"ipc": 1}, "`images` must be at least one"),
        (noise()[0], {"ipc": 1}, r"`images` must be a tensor \[N C H W\]"),
        ((noise() * 9).long(), {"ipc": 1}, r"floats in model space, or uint8 pixels; .*`x\.to\(torch\.uint8\)`"),
        ({"one": noise(), "y": noise()}, {"ipc": 1}, "or of images and labels; got one with 'one', 'y' in .*two lines"),
        ([noise()], {"ipc": 1}, "a file of one tensor or of images and labels; got a list of 1 in"),
    ],
)
def test_import_pt_refusals(tmp_path, images, arguments, message):
    with pytest.raises(InputError, match=message):
        import_pt(saved(tmp_path, images), **{**STATISTICS, **arguments})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5, dtype=torch.int64), "one for each of 6 images"),
        (torch.tensor(1), "one for each of 6 images"),
        (torch.arange(6), "`labels` must be 0 … 2"),
        (torch.arange(6) - 3, "`labels` must be 0 … 2"),
        (torch.zeros(6), r"integers \[N\] or floats \[N, K\]"),
    ],
)
def test_label_refusals(tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        import_pt(saved(tmp_path, noise()), saved(tmp_path, labels, "l.pt"), **STATISTICS, classes=3)


# --- image folders -----------------------------------------------------------------------------------------


def folder(tmp_path, names=("ant", "bee"), files=("1.png", "0.jpg", "2.JPEG"), mode="RGB", size=(5, 4)):
    for k, name in enumerate(names):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i, file in enumerate(files):
            value = 40 * k + 20 * i
            Image.new(mode, size, value if mode == "L" else (value, 200, 7)).save(tmp_path / "set" / name / file)
        (tmp_path / "set" / name / "notes.txt").write_text("not an image")
    (tmp_path / "set" / ".cache").mkdir()
    return tmp_path / "set"


def test_import_folder(tmp_path):
    path = folder(tmp_path, files=("1.png", "0.png"))
    small = import_folder(path, **STATISTICS)
    assert small.images.shape == (4, 3, 4, 5)
    assert small.classes == ("ant", "bee")
    assert small.labels.tolist() == [0, 0, 1, 1]
    red = (small.pixels()[:, 0, 0, 0] * 255).round().tolist()
    assert red == [20, 0, 60, 40]  # by file name
    other = import_folder(path, **STATISTICS, classes=("bee", "ant"))
    assert other.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(other.images[:2], small.images[2:])
    assert other.provenance != small.provenance


def test_jpeg_and_resizing(tmp_path):
    assert import_folder(folder(tmp_path), **STATISTICS, size=8).images.shape == (6, 3, 8, 8)


def test_grey_images(tmp_path):
    path = folder(tmp_path, mode="L")
    assert import_folder(path, mean=(0.5,), std=(0.5,)).channels == 1
    assert import_folder(path, **STATISTICS).channels == 3


def test_import_folder_refusals(tmp_path):
    with pytest.raises(MissingError, match="Expected layout"):
        import_folder(tmp_path / "none", **STATISTICS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder of images for each class"):
        import_folder(tmp_path / "empty", **STATISTICS)
    path = folder(tmp_path)
    with pytest.raises(InputError, match=r"`classes` must be the 2 folder names .*\['bee', 'cow'\]"):
        import_folder(path, **STATISTICS, classes=("ant", "cow"))
    with pytest.raises(InputError, match="a grey image, as the mean has one channel; got colours"):
        import_folder(path, mean=(0.5,), std=(0.5,))
    Image.new("RGB", (9, 9)).save(path / "bee" / "3.png")
    with pytest.raises(InputError, match=r"images of one size \(4×5\); got 9×9 in .*3.png. Give `size=`"):
        import_folder(path, **STATISTICS)
    (path / "bee" / "3.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DamagedError, match=r"3\.png cannot be read"):
        import_folder(path, **STATISTICS)
    (path / "cow").mkdir()
    with pytest.raises(InputError, match=r"folders with images .* got none in cow"):
        import_folder(path, **STATISTICS)


def test_numbered_folders_whose_order_is_not_clear(tmp_path):
    path = folder(tmp_path, names=[str(k) for k in range(11)], files=("0.png",))
    with pytest.raises(InputError, match="Give the label order with `classes=`"):
        import_folder(path, **STATISTICS)
    small = import_folder(path, **STATISTICS, classes=[str(k) for k in range(11)])
    assert (small.pixels()[:, 0, 0, 0] * 255 / 40).round()[:6].tolist() == [0, 1, 2, 3, 4, 5]


# --- expert buffers ----------------------------------------------------------------------------------------

NORMALISE = Normalise((0.5,), (0.5,))
RECIPE = ExpertRecipe(name="theirs", model="convnet(width=4, depth=1)", batch_size=4, experts=3, snapshots=2)


def real(val=None):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (10, 1, 4, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(10) % 2
    return Images(train=(pixels, labels), test=(pixels.flip(-1), labels), val=val)


def store_of(tmp_path, recipe=RECIPE, data=None):
    return ExpertStore(tmp_path / "store", recipe, data or real())


def trajectory(seed, snapshots=3, recipe=RECIPE):
    """Lists of parameter tensors as the published buffers have them."""
    student = make_student(recipe, real(), 0)
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(s, generator=generator) for s in student.shapes] for _ in range(snapshots)]


def flat(snapshot):
    return torch.cat([part.reshape(-1) for part in snapshot])


def test_import_buffers_of_a_folder(tmp_path):
    store, files = store_of(tmp_path), tmp_path / "buffers"
    files.mkdir()
    experts = [trajectory(seed) for seed in range(3)]
    saved(files, experts[2:], "replay_buffer_10.pt")
    saved(files, experts[:2], "replay_buffer_9.pt")
    seen = []
    seeds = import_buffer(files, store, NORMALISE, progress=lambda *args: seen.append(args))
    assert seeds == [0, 1, 2]
    assert [(done, total) for done, total, _ in seen] == [(1, 2), (2, 2), (1, 1)]
    for seed in seeds:
        for row, theta in enumerate(store.read(seed, [0, 1, 2])):
            assert torch.equal(theta, flat(experts[seed][row]))
        steps, accuracy = store.curve(seed)
        assert steps.tolist() == [0, 3, 6]  # 10 images in batches of 4
        assert accuracy.isnan().tolist() == [True, True, False]
    assert store.missing(3, 2) == []

    before = [store.path(seed).read_bytes() for seed in seeds]
    assert import_buffer(files, store, NORMALISE) == seeds
    assert [store.path(seed).read_bytes() for seed in seeds] == before
    assert import_buffer(files / "replay_buffer_10.pt", store, NORMALISE, first=7) == [7]


def test_an_imported_expert_can_be_continued(tmp_path):
    store = store_of(tmp_path)
    import_buffer(saved(tmp_path, [trajectory(0)], "replay_buffer_0.pt"), store, NORMALISE)
    store.ensure(NORMALISE, experts=1, snapshots=3)
    assert store.length(0) == 4
    assert store.curve(0)[0].tolist() == [0, 3, 6, 9]


def test_another_expert_is_never_overwritten(tmp_path):
    store = store_of(tmp_path)
    import_buffer(saved(tmp_path, [trajectory(0)], "a.pt"), store, NORMALISE)
    with pytest.raises(InputError, match="`seed` must be a number no other expert has; got 0"):
        import_buffer(saved(tmp_path, [trajectory(1)], "b.pt"), store, NORMALISE)
    assert torch.equal(store.read(0, [0])[0], flat(trajectory(0)[0]))


def test_snapshots_without_a_copy_are_refused(tmp_path):
    live = trajectory(0, 1)[0]
    path = saved(tmp_path, [[live, live, live]], "replay_buffer_0.pt")
    store = store_of(tmp_path)
    with pytest.raises(InputError, match=r"all different; got 1 different ones of 3.*kept without a copy"):
        import_buffer(path, store, NORMALISE)
    assert store.length(0) == 0


def test_near_chance_is_a_warning(tmp_path, caplog):
    constant = [[torch.zeros_like(p) + t for p in snap] for t, snap in enumerate(trajectory(0))]
    path = saved(tmp_path, [constant], "replay_buffer_0.pt")
    with caplog.at_level(logging.WARNING):
        import_buffer(path, store_of(tmp_path), NORMALISE)
    assert "trajectory 0 of replay_buffer_0.pt classifies 50.0 % of the test images" in caplog.text


def test_import_buffer_refusals(tmp_path):
    path = saved(tmp_path, [trajectory(0)], "replay_buffer_0.pt")
    wide = ExpertRecipe(model="convnet(width=8, depth=1)")
    with pytest.raises(InputError, match=r"in snapshot 0 of trajectory 0 .*Choose the model \(width"):
        import_buffer(path, store_of(tmp_path, wide), NORMALISE)
    with pytest.raises(InputError, match="tensors, as the recipe's model; got 6"):
        import_buffer(path, store_of(tmp_path, ExpertRecipe(model="convnet(width=4, depth=2)")), NORMALISE)
    with pytest.raises(InputError, match=r"one snapshot an epoch, .*; got one every 1 steps"):
        import_buffer(path, store_of(tmp_path, ExpertRecipe(snapshot_unit="step")), NORMALISE)
    held_out = real(val=(torch.rand(2, 1, 4, 4), torch.arange(2)))
    with pytest.raises(InputError, match=r'real.all_train\(\)`, that is protocol="paper"'):
        import_buffer(path, store_of(tmp_path, data=held_out), NORMALISE)
    with pytest.raises(MissingError, match=r"no replay_buffer_<n>\.pt in it"):
        import_buffer(tmp_path / "store", store_of(tmp_path), NORMALISE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "a list of trajectories; got an empty list or a dict"),
        ([], "a list of trajectories; got an empty list"),
        ([[]], "a list of snapshots"),
        ([[torch.zeros(3)]], "a list of parameter tensors; got an empty list or a Tensor"),
        ([[[1, 2, 3, 4, 5, 6]]], r"`[\w.]+ in snapshot 0 .*; got int"),
        ([trajectory(0, 1)], "at least two snapshots; got 1"),
        ([[trajectory(0, 1)[0], [p * float("inf") for p in trajectory(0, 1)[0]]]], "must be finite"),
    ],
)
def test_other_contents_of_a_buffer_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        import_buffer(saved(tmp_path, content, "replay_buffer_0.pt"), store_of(tmp_path), NORMALISE)
    assert not list((tmp_path / "store").rglob("*.safetensors"))
