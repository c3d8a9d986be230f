"""Micro-batches side by side give what one after the other gives."""

from __future__ import annotations

import threading

import pytest
import torch

from dd.inner.fast.workers import Workers


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_from_two_threads(two_threads):
    meet = threading.Barrier(2, timeout=30)

    def work(item):
        if item < 2:
            meet.wait()  # passes only if two items are under way at once
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    found = list(Workers(torch.device("cpu")).map(work, range(6)))
    assert [item for item, _, _ in found] == list(range(6))
    assert {threads for _, threads, _ in found} == {1}
    assert not any(grad for _, _, grad in found)


def test_threads_of_the_caller_are_as_before(two_threads):
    list(Workers(torch.device("cpu")).map(lambda x: x, [1, 2]))
    assert torch.get_num_threads() == 2


def test_an_error_in_a_worker_reaches_the_caller(two_threads):
    def work(item):
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(Workers(torch.device("cpu")).map(work, [0, 1]))


def test_the_threads_stay_and_survive_an_error(two_threads):
    workers = Workers(torch.device("cpu"))
    with pytest.raises(ZeroDivisionError):
        list(workers.map(lambda x: 1 // x, [0, 1, 2, 3]))
    names = [set(workers.map(lambda _: threading.get_ident(), range(8))) for _ in range(2)]
    assert names[0] | names[1] <= {t.ident for t in threading.enumerate() if t.name.startswith("dd-fast")}


def test_one_thread_needs_no_pool():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        workers = Workers(torch.device("cpu"))
        assert workers.count == 1
        assert list(workers.map(lambda _: threading.current_thread(), [0, 1])) == [threading.main_thread()] * 2
    finally:
        torch.set_num_threads(before)
