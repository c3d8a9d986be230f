"""Shared by all tests: gated markers, the twins of `tests/reference`, the real data beside the checkout."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))  # so that tests can say `from reference import ...`

GATED = {"slow": "takes minutes", "gpu": "needs a CUDA device", "online": "needs the internet"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for mark, reason in GATED.items():
        parser.addoption(f"--run-{mark}", action="store_true", help=f"run tests marked {mark} ({reason})")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for mark, reason in GATED.items():
        if config.getoption(f"--run-{mark}"):
            continue
        skip = pytest.mark.skip(reason=f"{reason}; run with --run-{mark}")
        for item in items:
            if mark in item.keywords:
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """What imports and collection have made stays: the collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs goes into a folder of its own, not into the checkout's stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def peak_of() -> Callable[[Callable[[], object]], int]:
    """`peak_of(call)`: the most bytes that torch and Python have allocated beside each other during a call.

    Counted are those that the call allocates, its result among them, each at its own highest moment.
    """

    def peak(call: Callable[[], object]) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            tracemalloc.start()
            try:
                kept = call()
                python = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        del kept
        assert profile.profiler is not None
        held = highest = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        return highest + python

    return peak


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """`shared_data("cifar10", "NCI1")` unpacks real data once a machine and gives the folder that holds it.

    The layout is that of `unpack.py`: `cifar10/cifar-10-batches-py`, `tiny-imagenet-20/train`, `tu/NCI1/raw`, ….
    """
    unpack = TESTS.parents[1] / "shared" / "data" / "unpack.py"

    def get(*names: str) -> Path:
        if not unpack.is_file():
            pytest.skip(f"the real data is not beside the checkout ({unpack})")
        home = Path(tempfile.gettempdir()) / "dd-shared-data"
        home.mkdir(parents=True, exist_ok=True)
        for name in names:
            _unpack(unpack, home, name)
        return home

    return get


def _unpack(unpack: Path, home: Path, name: str) -> None:
    """Unpack one name beside its final place and rename it, so that what is there is whole."""
    places = (home / name, home / "tu" / name)
    if any(place.is_dir() for place in places):
        return
    fresh = Path(tempfile.mkdtemp(dir=home, prefix=f".{name}-"))
    try:
        subprocess.run([sys.executable, str(unpack), str(fresh), name], check=True, capture_output=True)
        for place in places:
            made = fresh / place.relative_to(home)
            if made.is_dir():
                place.parent.mkdir(exist_ok=True)
                try:
                    os.rename(made, place)
                except OSError:  # another test process was first
                    if not place.is_dir():
                        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@pytest.fixture
def unbuilt() -> Iterator[None]:
    """The kernels of our own are not built yet, nor afterwards."""
    from dd.inner.fast import native

    def forget() -> None:
        native.library.cache_clear()
        native._built.cache_clear()

    forget()
    yield
    forget()
