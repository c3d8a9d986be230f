"""Settings that a caller may have made before a verb is called, and what can be read of them."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ImageFile

Host = Callable[[], AbstractContextManager[object]]


def with_setting(write: Callable[[Any], Any], value: object, usual: object) -> Host:
    @contextmanager
    def host() -> Iterator[None]:
        write(value)
        try:
            yield
        finally:
            write(usual)

    return host


def precision(value: str) -> None:
    torch.backends.fp32_precision = value


@contextmanager
def rough_products() -> Iterator[None]:
    """By torch's older call, which leaves the newer names at `ieee` where they had nothing of their own."""
    newer = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = [part.fp32_precision for part in newer]
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        for part, value in zip(newer, before, strict=True):
            part.fp32_precision = value


def denormals_off() -> Host:
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor keeps denormal numbers")
    return with_setting(torch.set_flush_denormal, True, False)


HOSTS: dict[str, Host] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype": with_setting(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": with_setting(torch.set_default_device, "meta", None),
    "matmul precision": rough_products,
}
OTHERS: dict[str, Host] = {
    "float16": with_setting(torch.set_default_dtype, torch.float16, torch.float32),
    "device": lambda: torch.device("meta"),
    "fp32_precision": with_setting(precision, "bf16", "none"),
    "numpy": lambda: np.errstate(all="raise"),
    "mkldnn": with_setting(lambda on: setattr(torch.backends.mkldnn, "enabled", on), False, True),
    "truncated pictures": with_setting(lambda on: setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", on), True, False),
    "cudnn": with_setting(lambda on: setattr(torch.backends.cudnn, "benchmark", on), True, False),
}
TOGETHER = ("inference_mode", "autocast", "float16", "device", "mkldnn", "matmul precision")


@contextmanager
def all_together() -> Iterator[None]:
    with ExitStack() as stack:
        for name in TOGETHER:
            stack.enter_context((HOSTS | OTHERS)[name]())
        yield


@contextmanager
def other_road() -> Iterator[None]:
    """What does not change bytes is left as the caller has it: here all of it at once."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(with_setting(torch.use_deterministic_algorithms, True, False)())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that it is slow
            enter(torch.autograd.detect_anomaly())
        enter(np.errstate(all="raise"))
        enter(np.printoptions(precision=1, threshold=3))
        enter(with_setting(os.chdir, "/", os.getcwd())())
        streams = torch.get_rng_state(), np.random.get_state(), random.getstate()
        stack.callback(lambda: (torch.set_rng_state(streams[0]), np.random.set_state(streams[1])))
        stack.callback(random.setstate, streams[2])
        torch.random.default_generator.manual_seed(99)
        np.random.seed(99)
        random.seed(99)
        patch = enter(pytest.MonkeyPatch.context())
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        yield


def settings() -> tuple[object, ...]:
    """What the caller can read of its settings, and the global random streams."""
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set by the newer names
        products = "by the newer names"
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    defaults = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), products
    backends = torch.backends.mkldnn.enabled, torch.backends.cudnn.benchmark, torch.backends.fp32_precision
    pictures = ImageFile.LOAD_TRUNCATED_IMAGES
    newer = torch.backends.mkldnn.matmul.fp32_precision, torch.backends.mkldnn.conv.fp32_precision
    streams = torch.get_rng_state().numpy().tobytes(), str(np.random.get_state()), random.getstate()
    return modes, defaults, backends, newer, pictures, streams, tuple(np.geterr().items()), 2.0**-1022 / 2 == 0.0
