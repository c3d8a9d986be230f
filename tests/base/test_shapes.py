"""The checks of public entry points: what passes, and what the refusals say."""

from __future__ import annotations

import pytest
import torch

from dd.base.shapes import as_list, check, check_finite, check_number, check_whole
from dd.errors import InputError


def test_check_gives_back_what_fits() -> None:
    x = torch.zeros(2, 3, 4, 5)
    assert check(x, "x", "N C H W") is x
    assert check(x, "x", "N C H W", C=3, W=5) is x
    scalar = torch.tensor(0)
    assert check(scalar, "x", "") is scalar


@pytest.mark.parametrize(
    ("value", "axes", "sizes", "text"),
    [
        ([1], "N", {}, r"`x` must be a tensor \[N\]; got list\."),
        (torch.zeros(2), "N C", {}, r"`x` must be a tensor \[N C\]; got shape \[2\]\."),
        (torch.zeros(2, 4), "N C", {"C": 3}, r"`x` must be a tensor \[N C\] with C = 3; got shape \[2, 4\]\."),
    ],
)
def test_check_refuses(value: object, axes: str, sizes: dict[str, int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        check(value, "x", axes, **sizes)


def test_check_finite_counts() -> None:
    x = torch.tensor([0.0, float("nan"), float("inf"), -float("inf")])
    with pytest.raises(InputError, match=r"`x` must be finite; got 3 NaN or infinite of 4 values\. Look\."):
        check_finite(x, "x", "Look.")
    for fine in (x[:1], torch.tensor([2**62]), torch.empty(0)):
        assert check_finite(fine, "x") is fine


def test_numbers() -> None:
    assert check_number(-2, "x") == -2
    assert check_number(0.0, "x", low=0) == 0
    for value in (float("nan"), float("inf"), -0.1, True, "1", None):
        with pytest.raises(InputError, match=r"`x` must be a finite number of at least 0; got"):
            check_number(value, "x", low=0)
    with pytest.raises(InputError, match=r"`x` must be a finite number; got nan"):
        check_number(float("nan"), "x")
    assert check_whole(1, "n") == 1
    for value in (0, -1, True, 2.0, "2", None):
        with pytest.raises(InputError, match=r"`n` must be a whole number of at least 1; got"):
            check_whole(value, "n")


def test_a_text_or_a_value_alone_is_a_list_of_one() -> None:
    module = torch.nn.Sequential(torch.nn.ReLU())  # iterable, and one network
    for alone in ("random", 0.1, module, None):
        assert as_list(alone) == [alone]
    for many in (["a", "b"], ("a", "b"), {"a": 0, "b": 1}.keys()):
        assert as_list(many) == ["a", "b"]
