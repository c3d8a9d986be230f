"""Sets as DC, DSA and DM save them: images and labels of each experiment in one file, beside NumPy scores."""

import re

import numpy as np
import pytest
import safetensors.torch
import torch

from dd.errors import DamagedError, InputError
from dd.exchange.importers import import_pt

STATISTICS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.25)}


def saved(tmp_path, value, name="images_best.pt"):
    torch.save(value, tmp_path / name)
    return tmp_path / name


def noise(c=3):
    return torch.randn(6, c, 4, 4, generator=torch.Generator().manual_seed(0))


def of_dc(tmp_path, experiments=1):
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    pairs = [[noise() + i, labels] for i in range(experiments)]
    scores = {"ConvNet": [np.float64(0.441), np.float32(0.4)]}
    return saved(tmp_path, {"data": pairs, "accs_all_exps": scores}, "res_DC_CIFAR10_ConvNet_2ipc.pt")


def test_a_set_of_dc_with_its_labels_and_numpy_scores(tmp_path):
    small = import_pt(of_dc(tmp_path), **STATISTICS, lr=0.01)
    assert torch.equal(small.images, noise())
    assert small.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert small.classes == ("0", "1", "2")


def test_one_of_several_experiments(tmp_path):
    path = of_dc(tmp_path, 3)
    assert torch.equal(import_pt(path, **STATISTICS, lr=0.01, experiment=2).images, noise() + 2)
    with pytest.raises(InputError, match=r"`experiment` must be given, 0 … 2: .* holds 3 sets.*Give `experiment=0`"):
        import_pt(path, **STATISTICS)
    assert torch.equal(import_pt(path, **STATISTICS, lr=0.01, experiment=0).images, noise())
    for wrong in (3, -1, True, "0"):
        with pytest.raises(InputError, match=r"`experiment` must be (0 … 2|a whole number)"):
            import_pt(path, **STATISTICS, experiment=wrong)


def test_a_set_of_dc_needs_no_labels_and_a_tensor_no_experiment(tmp_path):
    labels = saved(tmp_path, torch.zeros(6, dtype=torch.int64), "labels.pt")
    with pytest.raises(InputError, match="`labels_path` must be left out where the images' file holds the labels"):
        import_pt(of_dc(tmp_path), labels, **STATISTICS)
    with pytest.raises(InputError, match="`experiment` must be left out"):
        import_pt(saved(tmp_path, noise()), **STATISTICS, ipc=2, experiment=0)


def test_numpy_arrays_in_a_pickle_are_not_read(tmp_path):
    path = saved(tmp_path, {"data": [[noise(), np.zeros(6)]]})
    with pytest.raises(DamagedError, match="never read here"):
        import_pt(path, **STATISTICS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "`mean, std` must be given together, or `transform` instead; got none of them"),
        ({"mean": (0.5,)}, "got mean"),
        ({"mean": "0.5", "std": (0.2,)}, "`mean, std` must be one number a channel each"),
        (
            {"mean": ("a",), "std": (0.2,)},
            "`mean, std` must be one number a channel each; got others .*mean=\\(0.5,\\)",
        ),
        ({"mean": (0.5,), "std": (None,)}, "`mean, std` must be one number a channel each"),
        ({"mean": 0.5, "std": 0.2}, r"`mean` must be one number a channel; got 0\.5\. .*`mean=\(0\.5,\)`"),
    ],
)
def test_statistics_that_are_missing_or_no_sequences(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        import_pt(saved(tmp_path, noise(c=1)), ipc=2, **given)
    import_pt(saved(tmp_path, noise(c=1)), ipc=2, mean=(0.5,), std=(0.2,), lr=0.01)


def labels() -> torch.Tensor:
    return torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    "value",
    [
        [noise(), labels()],
        (noise(), labels()),
        [[noise(), labels()]],
        {"images": noise(), "labels": labels()},
        {"X": noise(), "y": labels(), "seed": 3},
        {"data": noise(), "targets": labels()},
    ],
    ids=["list", "tuple", "experiments", "images, labels", "x, y", "data, targets"],
)
def test_pairs_in_one_file(tmp_path, value):
    small = import_pt(saved(tmp_path, value), **STATISTICS, lr=0.01)
    assert torch.equal(small.images, noise())
    assert torch.equal(small.labels, labels())


def test_bytes_are_pixels(tmp_path):
    pixels = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    small = import_pt(saved(tmp_path, [pixels, labels()]), **STATISTICS, lr=0.01)
    assert torch.equal(small.pictures(), pixels)


def test_two_lines_make_a_pair_of_what_has_other_names(tmp_path, monkeypatch):
    path = saved(tmp_path, {"syn": noise(), "classes": labels()}, "theirs.pt")
    with pytest.raises(InputError, match=r"got one with 'syn', 'classes' in .*These two lines") as caught:
        import_pt(path, **STATISTICS)
    run_lines(str(caught.value), tmp_path, monkeypatch, "'syn'", "'classes'")
    assert torch.equal(import_pt("set.pt", **STATISTICS, lr=0.01).labels, labels())


def run_lines(message, folder, monkeypatch, images, labels_name):
    """Execute the two lines of a message, with names put in the place of I and L."""
    monkeypatch.chdir(folder)
    lines = re.findall(r"`((?:t = |torch\.save|numpy\.savez)[^`]*)`", message)
    assert len(lines) == 2
    code = "\n".join(lines).replace("[I]", f"[{images}]").replace("[L]", f"[{labels_name}]")
    exec(code, {"torch": torch, "numpy": np, "safetensors": safetensors})


@pytest.mark.parametrize(
    ("labels", "convert", "way_out"),
    [
        (
            torch.eye(3).repeat(2, 1).long(),
            lambda labels: labels.argmax(1),
            r"Of one-hot rows save `labels\.argmax\(1\)`",
        ),
        (
            (torch.arange(6) % 3)[:, None],
            lambda labels: labels.flatten().long(),
            r"Save `labels\.flatten\(\)\.long\(\)`",
        ),
        (
            (torch.arange(6) % 3).float(),
            lambda labels: labels.flatten().long(),
            r"Save `labels\.flatten\(\)\.long\(\)`",
        ),
    ],
)
def test_labels_of_another_form_have_a_way_out(tmp_path, labels, convert, way_out):
    with pytest.raises(InputError, match=way_out):
        import_pt(saved(tmp_path, [noise(c=1), labels]), mean=(0.5,), std=(0.2,))
    small = import_pt(saved(tmp_path, [noise(c=1), convert(labels)]), mean=(0.5,), std=(0.2,))
    assert small.labels.tolist() == [0, 1, 2, 0, 1, 2]
