"""Whatever the caller has set, verbs make the same bytes, and give back what they changed; threads and allocator."""

from __future__ import annotations

import asyncio
import copy
import ctypes
import dataclasses
import inspect
import multiprocessing
import os
import platform
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.hosts import HOSTS, OTHERS, all_together, denormals_off, other_road, settings
from reference.jobs import DATA, JOBS, METHOD, NETWORK, SMALL, evaluated, told

import dd
from dd.base import process
from dd.base.process import keeping_pages, own_settings, tf32, tune_process, under_own_settings
from dd.cli.main import main
from dd.errors import InputError
from dd.evaluation import origin

DEAR = ("report", "distill, k-center")
"""Jobs that run once in a host of all settings."""


def made(name: str, folder: Path) -> object:
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "graphs under more than one class")
        return told(JOBS[name](folder))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the jobs make where nothing is set."""
    folder = tmp_path_factory.mktemp("usual")
    return {name: made(name, folder / str(i)) for i, name in enumerate(JOBS)}


@pytest.mark.parametrize("host", [*HOSTS, "all together", "other road"])
def test_every_verb_makes_the_same_bytes_and_gives_back_what_it_changed(
    host: str, tmp_path: Path, usual: dict[str, object]
) -> None:
    names = [name for name in JOBS if name not in DEAR or host == "all together"]
    with {**HOSTS, "all together": all_together, "other road": other_road}[host]():
        found = {}
        for i, name in enumerate(names):
            before = settings()
            found[name] = made(name, tmp_path / str(i))
            assert settings() == before, name
    assert [name for name in names if found[name] != usual[name]] == []


@pytest.mark.parametrize("name", [*HOSTS, *OTHERS, "denormals"])
def test_a_block_has_settings_of_its_own(name: str) -> None:
    usually = settings()
    host = denormals_off() if name == "denormals" else (HOSTS | OTHERS)[name]
    with host():
        before = settings()
        assert before != usually
        with own_settings():
            product = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_() @ torch.ones(64)
            assert (product.dtype, product.device.type) == (torch.float32, "cpu")
            assert product.requires_grad
            assert (2.0**-1022 / 2, np.geterr()["under"]) == (2.0**-1023, "ignore")
            inside = settings()
            with own_settings():
                assert settings() == inside
        assert settings() == before
    assert settings() == usually


def test_off_the_main_thread_and_in_an_event_loop(tmp_path: Path, usual: dict[str, object]) -> None:
    names = [name for name in JOBS if name not in DEAR]
    found: dict[str, object] = {}

    def work() -> None:
        found.update({name: made(name, tmp_path / str(i)) for i, name in enumerate(names)})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == {name: usual[name] for name in names}

    async def loop() -> object:
        return made("distill", tmp_path / "loop")

    assert asyncio.run(loop()) == usual["distill"]


def test_the_command_line_off_the_main_thread(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["list", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert "methods" in capsys.readouterr().out


def test_the_command_line_gives_back_signals_and_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    words = ["evaluate", str(SMALL.save(tmp_path / "set")), "digits", "--threads", str(threads + 1)]
    assert main(words) == 2  # other classes
    assert "got 10 (digits)" in capsys.readouterr().err
    assert torch.get_num_threads() == threads
    assert signal.getsignal(signal.SIGTERM) == before
    put: list[object] = []  # a handler that was not made by Python is None, which Python does not take back
    monkeypatch.setattr(signal, "signal", lambda number, handler: put.append(handler))
    assert main(["list", "--json"]) == 0
    assert put[-1] == signal.SIG_DFL


# Threads


def test_threads_are_those_of_the_call_alone() -> None:
    before, seen = torch.get_num_threads(), []

    def look(done: int, total: int, text: str) -> None:
        seen.append((torch.get_num_threads(), origin(0, torch.device("cpu"))["threads"]))
        if done == 2:
            raise KeyboardInterrupt

    report = evaluated(SMALL, DATA, baselines=(), threads=before + 1)
    assert report.origin["threads"] == before + 1  # type: ignore[attr-defined]
    assert torch.get_num_threads() == before
    with pytest.raises(KeyboardInterrupt):
        evaluated(SMALL, DATA, baselines=("random",), threads=before + 2, progress=look)
    assert set(seen) == {(before + 2, before + 2)}
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="`threads` must be a whole number of at least 1; got 0"):
        dd.calibration(SMALL, DATA, threads=0)
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_computes_in_one_thread(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        try:
            dd.train(SMALL, threads=2)
        except InputError as error:
            send.send((str(error), made("train", tmp_path / "child"), torch.get_num_threads()))

    before, process = torch.get_num_threads(), context.Process(target=child)
    torch.set_num_threads(2)
    try:
        torch.ones(1000, 1000).sum()  # starts the threads that a child has not
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the fork itself
            process.start()
        assert receive.poll(60), "the child waits"
        message, bytes_, threads = receive.recv()
    finally:
        process.kill()
        process.join()
        torch.set_num_threads(before)
    with own_settings(threads=1):
        assert bytes_ == made("train", tmp_path / "here")
    assert threads == 2  # as it was
    assert message.startswith("`threads` must be 1 in a process that was forked after this library had computed; got 2")
    assert 'multiprocessing.get_context("spawn")' in message


def test_the_last_of_several_threads_gives_back() -> None:
    inside, leave = threading.Event(), threading.Event()
    seen: list[torch.dtype] = []

    def other() -> None:
        with own_settings():
            inside.set()
            leave.wait(10)
            seen.append(torch.get_default_dtype())

    with HOSTS["default dtype"]():
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(10)
        with own_settings():
            pass
        assert torch.get_default_dtype() == torch.float32  # still the other's
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64
    assert seen == [torch.float32]


# Generators and functions


def test_a_method_read_step_by_step_leaves_its_reader_alone(tmp_path: Path) -> None:
    run = dd.Run(store=tmp_path)
    wanted = [[told(one.set) for one in step.candidates] for step in METHOD.distill(DATA, run)]
    with all_together():
        before, steps = settings(), []
        for step in METHOD.distill(DATA, run):
            assert settings() == before
            steps.append([told(one.set) for one in step.candidates])
        assert settings() == before
    assert steps == wanted
    assert len(steps) > 1
    assert any(steps)


def test_a_generator_is_closed_and_its_errors_go_through() -> None:
    told_: list[object] = []

    @under_own_settings
    def numbers(*, threads: int = 1) -> Iterator[int]:
        """Two numbers."""
        try:
            yield 1
            raise KeyError("two")
        finally:
            told_.append(torch.get_default_dtype())

    with HOSTS["default dtype"]():
        stream = numbers()
        assert next(stream) == 1
        stream.close()
        with pytest.raises(KeyError, match="two"):
            list(numbers())
        assert torch.get_default_dtype() == torch.float64
    assert told_ == [torch.float32] * 2
    assert numbers.__doc__ == "Two numbers."
    assert list(inspect.signature(numbers).parameters) == ["threads"]


PAPERS = (
    "AST",
    "CDA",
    "CVDD",
    "DATM",
    "DELT",
    "DM",
    "FTD",
    "IDM",
    "INFER",
    "MTT",
    "NCFM",
    "RDED",
    "SRE2L",
    "SRE2LPP",
    "TESLA",
)
PLAIN = {
    "cite": "text of a preset",
    "describe": "text of a preset",
    "list_methods": "names",
    "plan": "a file, of which others make shares",
    "load_recipe": "text of a file",
    "tune_process": "settings of the process, which are what it is for",
    **dict.fromkeys(PAPERS, "a value with the fields of a paper"),
}


def test_every_public_function_computes_under_own_settings_or_does_not_compute() -> None:
    functions = {name: getattr(dd, name) for name in dd.__all__ if inspect.isfunction(getattr(dd, name))}
    plain = {name for name, function in functions.items() if not hasattr(function, "own_settings")}
    assert plain == set(PLAIN)
    for function in functions.values():
        assert inspect.getdoc(function)
        assert "args" not in inspect.signature(function).parameters


SPECIAL = ("__init__", "__post_init__", "__getitem__", "__call__")
READ = (
    "drawn",
    "size",
    "ipc",
    "channels",
    "canvas",
    "members",
    "num_classes",
    "depth",
    "options",
    "mean",
    "std",
    "as_module",
    "layout",
    "budget",
    "stored_images",
    "stored_labels",
)
"""What is there, or what a function with settings of its own has made."""
EXCUSED = {
    "SyntheticImages": {"__getitem__", "ready_transform"},  # rows; what is there
    "CompensatedImages": {"attach", "ready_transform"},  # the set itself; what is there
    "TreeSummary": {"__post_init__", "trees", "with_recipe", "reading", "filtered"},  # shapes; rows; recipes
    "Teacher": {"__call__"},  # differentiable, in the modes of the caller's own loop
    "DSA": {"__post_init__"},  # words
}


@pytest.mark.parametrize(
    "name", ["SyntheticImages", "CompensatedImages", "TreeSummary", "Images", "Graphs", "Teacher", "DSA"]
)
def test_every_method_that_computes_has_them(name: str) -> None:
    kind, plain = getattr(dd, name), set()
    for key, value in vars(kind).items():
        function = getattr(value, "func", getattr(value, "fget", getattr(value, "__func__", value)))
        own = inspect.isfunction(function) and function.__code__.co_filename == inspect.getsourcefile(kind)
        if own and (not key.startswith("_") or key in SPECIAL) and not hasattr(function, "own_settings"):
            plain.add(key)
    assert plain <= set(READ) | EXCUSED.get(name, set())


# Tensors of inference mode


def test_tensors_that_were_made_in_inference_mode_are_data(tmp_path: Path) -> None:
    with torch.inference_mode():
        train, test = (
            (split.pixels(), split.labels.clone()) for split in (DATA.all_train().train, DATA.test) if split is not None
        )
        images, labels = SMALL.images.clone(), SMALL.labels.clone()
    assert train[0].is_inference()
    real = dd.Images(train=train, test=test, name="toy")
    small = dataclasses.replace(SMALL, images=images, labels=labels)
    assert told(dd.distill(real, "random", ipc=1, progress=False)) == told(
        dd.distill(
            dd.Images(train=(train[0] + 0, train[1] + 0), test=test, name="toy"), "random", ipc=1, progress=False
        )
    )
    assert told(dd.train(small)) == told(dd.train(SMALL))
    assert told(evaluated(small, real, baselines=())) == told(evaluated(SMALL, real, baselines=()))


def test_a_network_of_inference_mode_is_refused_and_a_copy_taken() -> None:
    with torch.inference_mode():
        net = copy.deepcopy(NETWORK)
        with pytest.raises(InputError, match=r"`torch.inference_mode`; got \w+, made inside. Give .*`copy.deepcopy"):
            dd.train(SMALL, net)
    assert told(dd.train(SMALL, copy.deepcopy(net))) == told(dd.train(SMALL, copy.deepcopy(NETWORK)))


# The process


def test_threads_are_set_and_recorded() -> None:
    before = torch.get_num_threads()
    try:
        assert tune_process(threads=1, allocator=False) == {"threads": 1}
        assert torch.get_num_threads() == 1
        with pytest.raises(InputError, match="`threads` must be a whole number of at least 1; got 0"):
            tune_process(threads=0, allocator=False)
        assert tune_process(allocator=False) == {}
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def malloc(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What malloc is told, as (option, value); `malloc_trim` is option 0."""
    calls: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            del name

        @staticmethod
        def mallopt(option: int, value: int) -> int:
            calls.append((option, value))
            return 1

        @staticmethod
        def malloc_trim(pad: int) -> int:
            calls.append((0, pad))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2"))
    monkeypatch.setattr(process, "_PAGES", process._Pages())
    for name in [n for n in os.environ if n.startswith("MALLOC_")] + ["DD_ALLOCATOR", "GLIBC_TUNABLES", "LD_PRELOAD"]:
        monkeypatch.delenv(name, raising=False)
    return calls


TUNED = [(-4, 0), (-1, -1), (-8, 1)]  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
KEPT = [(-4, 0), (-1, 2**30)]
USUAL = [(-4, 65536), (-3, 2**25), (-1, 2**26), (0, 0)]  # M_MMAP_THRESHOLD is -3


def test_allocator_keeps_its_pages(malloc: list[tuple[int, int]]) -> None:
    assert tune_process() == {"allocator": True}
    assert malloc == TUNED
    assert dd.tune_process is tune_process


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DD_ALLOCATOR", "0"),
        ("MALLOC_TRIM_THRESHOLD_", "1"),
        ("GLIBC_TUNABLES", "glibc.malloc.x=1"),
        ("LD_PRELOAD", "libjemalloc.so"),
        ("", ""),
    ],
)
def test_allocator_of_others_is_left(
    malloc: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    if name:
        monkeypatch.setenv(name, value)
    else:
        monkeypatch.setattr(platform, "libc_ver", lambda: ("", "2"))  # musl, macOS
    assert tune_process() == {}
    assert keeping_pages(lambda: 5)() == 5
    assert malloc == []


def test_a_verb_keeps_pages_while_it_computes(malloc: list[tuple[int, int]]) -> None:
    @keeping_pages
    def inner(fails: bool) -> None:
        if fails:
            raise ValueError

    @keeping_pages
    def outer() -> None:
        inner(False)
        assert malloc == KEPT  # not again, and not yet taken back
        with pytest.raises(ValueError):
            inner(True)

    outer()
    assert malloc == KEPT + USUAL
    with pytest.raises(ValueError):
        inner(True)
    assert malloc == 2 * (KEPT + USUAL)
    tune_process()
    malloc.clear()
    inner(False)
    assert malloc == []  # the user's word holds


def test_tf32_is_a_choice_that_ends_with_its_block() -> None:
    def read() -> tuple[str, str]:
        return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision

    usual = read()
    with own_settings():
        before = read()
        with tf32():
            assert read() == ("tf32", "tf32")
            with own_settings():  # a verb inside leaves it
                assert read() == ("tf32", "tf32")
            assert read() == ("tf32", "tf32")
        assert read() == before
        with pytest.raises(KeyError), tf32():
            raise KeyError
        assert read() == before
    assert read() == usual


def test_verbs_that_compute_keep_pages(malloc: list[tuple[int, int]]) -> None:
    net = copy.deepcopy(NETWORK)
    dd.train(SMALL, net)
    assert malloc[:2] == KEPT
    assert malloc[-4:] == USUAL


def test_convolutions_on_cuda_are_not_tf32_and_records_say_so() -> None:
    cuda = torch.device("cuda")
    usual = torch.backends.cudnn.conv.fp32_precision
    with own_settings():
        assert (torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.rnn.fp32_precision) == ("ieee", "ieee")
        assert torch.backends.cuda.matmul.fp32_precision in ("ieee", "none")
        assert origin(0, cuda)["tf32"] is False
    assert torch.backends.cudnn.conv.fp32_precision == usual
    assert origin(0, cuda)["tf32"] is (usual == "tf32")
    assert "tf32" not in origin(0, torch.device("cpu"))
