"""Whitening: twin, invariants, the road back, storage and refit, refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
import torch
from reference import zca as twin
from torch import Tensor

from dd.data.images.splits import Rows
from dd.errors import DamagedError, InputError
from dd.transforms import whiten
from dd.transforms.whiten import ZCA, Normalise, fit_zca, transform_from


@dataclass(frozen=True, eq=False)
class Pixels:
    """The least a split must have."""

    images: Tensor

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: Tensor | slice | None = None) -> Tensor:
        return self.images if index is None else self.images[index]

    def stream(self, batches: Iterable[Rows]) -> Iterator[tuple[Rows, Tensor]]:
        return ((rows, self.pixels(rows)) for rows in batches)


def smooth(n: int, c: int = 3, h: int = 4, w: int = 4, seed: int = 0) -> Pixels:
    """Pictures in [0, 1] whose neighbouring pixels go together."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, c, 2, 2, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=True)
    return Pixels((0.9 * wide + 0.1 * torch.rand(n, c, h, w, generator=generator)).clamp(0, 1))


@pytest.fixture(scope="module")
def split() -> Pixels:
    return smooth(200)


@pytest.fixture(scope="module")
def zca(split: Pixels) -> ZCA:
    return fit_zca(split)


# --- ZCA -------------------------------------------------------------------------------------------------


def test_equals_the_twin(split: Pixels, zca: ZCA) -> None:
    mean, matrix, inverse = twin.fit(split.images, 0.1)
    torch.testing.assert_close(zca.mean.double(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(zca.matrix.double(), matrix, rtol=0, atol=1e-5)
    torch.testing.assert_close(zca.inverse_matrix.double(), inverse, rtol=0, atol=1e-5)
    z = zca.forward(split.images[:3])
    for i in range(3):
        expected = twin.forward(split.images[i], mean, matrix)
        torch.testing.assert_close(z[i].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [200, 30])
def test_chunks_equal_kornia(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    """Also with fewer pictures than pixels, where most eigenvalues are 0."""
    data = smooth(n, seed=5)
    whole = fit_zca(data)
    mean, matrix, inverse = whiten._fit_chunked(data, 0.1, chunk=7)
    torch.testing.assert_close(mean, whole.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(matrix, whole.matrix, rtol=0, atol=1e-5)
    torch.testing.assert_close(inverse, whole.inverse_matrix, rtol=0, atol=1e-5)
    monkeypatch.setattr(whiten, "KORNIA_VALUES", 100)
    assert torch.equal(fit_zca(data).matrix, whiten._fit_chunked(data, 0.1)[1])


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_whitened_covariance_has_eigenvalues_s_over_s_plus_eps(split: Pixels, eps: float) -> None:
    x = split.images.double()
    z = fit_zca(split, eps).forward(x)
    before = torch.linalg.eigvalsh(torch.cov(x.flatten(1).T))
    after = torch.linalg.eigvalsh(torch.cov(z.flatten(1).T))
    torch.testing.assert_close(after, before / (before + eps), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]), rtol=0, atol=1e-5)


def test_there_and_back(split: Pixels, zca: ZCA) -> None:
    other = smooth(20, seed=9).images
    for x in (split.images, other, torch.rand(4, 3, 4, 4)):
        torch.testing.assert_close(zca.inverse(zca.forward(x)), x, rtol=0, atol=1e-4)
        torch.testing.assert_close(zca.forward(zca.inverse(x)), x, rtol=0, atol=1e-4)


def test_symmetric_and_inverse(zca: ZCA) -> None:
    torch.testing.assert_close(zca.matrix, zca.matrix.T, rtol=0, atol=1e-5)
    product = zca.matrix.double() @ zca.inverse_matrix.double()
    torch.testing.assert_close(product, torch.eye(48).double(), rtol=0, atol=1e-5)


def test_type_and_rows(split: Pixels, zca: ZCA) -> None:
    x = split.images[:6]
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)):
        z = zca.forward(x.to(dtype))
        assert z.dtype == zca.inverse(z).dtype == dtype
        torch.testing.assert_close(z.float(), zca.forward(x), rtol=0, atol=tolerance)
    torch.testing.assert_close(zca.forward(x)[2:4], zca.forward(x[2:4]), rtol=0, atol=1e-5)


def test_gradients(zca: ZCA) -> None:
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(zca.forward, (x,))
    assert torch.autograd.gradcheck(zca.inverse, (x,))


def test_same_pictures_same_bytes_and_no_random_numbers(split: Pixels, zca: ZCA) -> None:
    before = torch.get_rng_state()
    again = fit_zca(Pixels(split.images.clone()))
    assert torch.equal(torch.get_rng_state(), before)
    assert again.hash == zca.hash
    assert torch.equal(again.mean, zca.mean)
    assert torch.equal(again.inverse_matrix, zca.inverse_matrix)


def test_only_the_split_given_is_read(zca: ZCA) -> None:
    """Test pictures are seen by `forward` alone, which changes nothing."""
    for seed in (1, 2):
        zca.forward(smooth(50, seed=seed).images * 10)
    assert zca.hash == fit_zca(smooth(200)).hash


def test_grey_and_oblong_pictures() -> None:
    data = smooth(40, c=1, h=3, w=5)
    zca = fit_zca(data)
    assert zca.shape == (1, 3, 5)
    torch.testing.assert_close(zca.inverse(zca.forward(data.images)), data.images, rtol=0, atol=1e-5)


# --- storage ---------------------------------------------------------------------------------------------


def test_description_is_json(split: Pixels, zca: ZCA) -> None:
    described = json.loads(json.dumps(zca.describe()))
    assert described["kind"] == "zca"
    assert described["eps"] == 0.1
    assert described["shape"] == [3, 4, 4]
    assert described["refit"] == f"train split of {split.fingerprint}"
    assert described["hash"] == hashlib.sha256(zca.matrix.numpy().tobytes()).hexdigest()
    assert set(zca.tensors()) == {"whiten_mean"}
    assert set(zca.tensors(matrix=True)) == {"whiten_mean", "whiten_matrix"}


def test_back_from_the_matrix(split: Pixels, zca: ZCA) -> None:
    again = transform_from(json.loads(json.dumps(zca.describe())), zca.tensors(matrix=True))
    assert isinstance(again, ZCA)
    assert again.describe() == zca.describe()
    assert torch.equal(again.forward(split.images), zca.forward(split.images))
    torch.testing.assert_close(again.inverse_matrix, zca.inverse_matrix, rtol=0, atol=1e-5)


def test_back_from_the_split(
    split: Pixels, zca: ZCA, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = transform_from(zca.describe(), zca.tensors(), split)
    assert isinstance(again, ZCA)
    assert again.hash == zca.hash
    assert not caplog.records
    monkeypatch.setattr(whiten, "KORNIA_VALUES", 0)  # other roundings, as on another machine
    other = transform_from(zca.describe(), zca.tensors(), split)
    assert isinstance(other, ZCA)
    assert other.hash != zca.hash
    torch.testing.assert_close(other.matrix, zca.matrix, rtol=0, atol=1e-5)
    assert "differs from the saved one in rounding" in caplog.text


def test_wrong_pictures_are_refused(split: Pixels, zca: ZCA) -> None:
    with pytest.raises(InputError, match=r"`split` must be the pictures ZCA was fitted on .* mean off by"):
        transform_from(zca.describe(), zca.tensors(), smooth(200, seed=1))
    with pytest.raises(InputError, match="mean off by"):
        transform_from(zca.describe(), zca.tensors(), Pixels(split.images[:-1]))
    with pytest.raises(InputError, match=r"pictures of shape \[3, 4, 4\]; got \[1, 4, 4\]"):
        transform_from(zca.describe(), zca.tensors(), smooth(10, c=1))
    with pytest.raises(InputError, match="the ZCA matrix is not stored; got none"):
        transform_from(zca.describe(), zca.tensors())


def test_damaged_tensors_are_refused(zca: ZCA) -> None:
    kept = zca.tensors(matrix=True)
    with pytest.raises(DamagedError, match=r"`whiten_mean` must be a tensor \[48\]; got none"):
        transform_from(zca.describe(), {})
    with pytest.raises(DamagedError, match=r"got shape \[5\]"):
        transform_from(zca.describe(), {"whiten_mean": torch.zeros(5)})
    with pytest.raises(DamagedError, match="square with side 48"):
        transform_from(zca.describe(), {**kept, "whiten_matrix": torch.eye(3)})
    with pytest.raises(DamagedError, match="must have sha256"):
        transform_from(zca.describe(), {**kept, "whiten_matrix": kept["whiten_matrix"] * 1.001})


# --- normalisation ---------------------------------------------------------------------------------------


def test_normalise_there_and_back() -> None:
    transform = Normalise((0.5, 0.25), (0.5, 0.125))
    x = torch.rand(3, 2, 4, 5, dtype=torch.float64)
    z = transform.forward(x)
    assert z.dtype == torch.float64
    torch.testing.assert_close(z[:, 1], (x[:, 1] - 0.25) * 8, rtol=0, atol=0)
    torch.testing.assert_close(transform.inverse(z), x, rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(transform.forward, (x.requires_grad_(),))
    assert transform.tensors(matrix=True) == {}
    assert transform_from(json.loads(json.dumps(transform.describe())), {}) == transform


def test_normalise_refuses() -> None:
    with pytest.raises(InputError, match=r"`std` must be as long as mean \(2"):
        Normalise((0.5, 0.5), (1.0,))
    with pytest.raises(InputError, match="`std` must be above 0"):
        Normalise((0.5,), (0.0,))
    with pytest.raises(InputError, match="`mean` must be finite"):
        Normalise((float("nan"),), (1.0,))
    with pytest.raises(InputError, match="with C = 1"):
        Normalise((0.5,), (1.0,)).forward(torch.zeros(2, 3, 4, 4))


# --- refusals --------------------------------------------------------------------------------------------


def test_fits_are_refused(zca: ZCA) -> None:
    with pytest.raises(InputError, match=r"at most 64 px a side for ZCA; got 65×4 .* load the pictures with size=64"):
        fit_zca(Pixels(torch.rand(3, 1, 65, 4)))
    with pytest.raises(InputError, match="at least 2 pictures for ZCA; got 1"):
        fit_zca(Pixels(torch.rand(1, 3, 4, 4)))
    for eps in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="`eps` must be above 0"):
            fit_zca(smooth(5), eps)
    with pytest.raises(InputError, match="unknown transform 'pca'; known: normalise, zca"):
        transform_from({"kind": "pca"}, {})
    with pytest.raises(InputError, match="with H = 4"):
        zca.forward(torch.zeros(2, 3, 5, 4))
