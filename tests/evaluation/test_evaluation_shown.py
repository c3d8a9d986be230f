"""Reports and benchmarks in a notebook: one line, a table of the numbers of the text, a data frame of plain numbers."""

from __future__ import annotations

import html
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dd.errors import InputError, MissingError
from dd.evaluation import EvalReport, Row
from dd.evaluation.leaderboard import Benchmark

EVIL = "<script>alert(1)</script>"


def row(name: str = "mtt", values: tuple[float, ...] = (0.5, 0.6), model: str = "mlp", **more: Any) -> Row:
    return Row(**{"set": name, "model": model, "values": values, "steps": 9, "lr": 0.1, "seconds": 1.5, **more})


def report(*rows: Row, **more: Any) -> EvalReport:
    told: dict[str, Any] = {"dataset": "digits", "split": "test", "protocol": "clean", "selection": "last iterate"}
    told |= {"method": "mtt, 10 images", "bytes": {"images": 9, "total": 12_345}, "origin": {}, **more}
    return EvalReport(rows=rows or (row(), row("random", (0.25,))), **told)


def cell(name: str, values: list[float], **more: Any) -> dict[str, Any]:
    fixed = {"set": name, "budget": 10, "seed": 0, "model": "mlp", "metric": "accuracy", "steps": 100, "streams": [0]}
    return {**fixed, "bytes": {"total": 9}, "train_seconds": 2.0, "lr": 0.1, "values": values, **more}


def board(*cells: dict[str, Any], **more: Any) -> Benchmark:
    fixed: dict[str, Any] = {"dataset": "toy", "protocol": "clean", "unit": "ipc", "models": ("mlp",)}
    return Benchmark(**{**fixed, **more}, cells=cells)


FAILED = cell("infer", [], refused="`ipc` must be at least 2", bytes=None, metric=None, steps=None, lr=None)
BOARD = board(cell("random", [0.2, 0.4]), cell("mtt", [0.5, 0.7]), FAILED)


def cells_of(shown: str) -> list[list[str]]:
    lines = re.findall(r"<tr>(.*?)</tr>", shown)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]


def test_at_the_prompt_they_are_one_line() -> None:
    text = "EvalReport('mtt, 10 images' on 'digits', accuracy 55.0 ± 7.1 % with mlp, 2 rows, protocol clean)"
    assert repr(report()) == text
    text = "Benchmark('toy', 3 sets, 10 ipc, 1 model, 1 of 3 rows n/a, accuracy 30.0 to 60.0 %, protocol clean)"
    assert repr(BOARD) == text
    assert repr(board()) == "Benchmark('toy', 0 sets, no ipc, 1 model, no number, protocol clean)"
    assert "n/a, no number" in repr(board(FAILED))


@pytest.mark.parametrize(
    "made",
    [
        report(),
        report(row(EVIL, (0.5,)), notes=(EVIL,), method=EVIL, support={"a": 90, "b": 5}),
        report(row(values=(math.nan, 0.5))),
        BOARD,
        board(cell(EVIL, [0.5]), notes=(EVIL,)),
        board(FAILED),
        board(),
    ],
)
def test_a_notebook_shows_the_table_of_the_text(made: EvalReport | Benchmark) -> None:
    shown, text = made._repr_html_(), str(made)
    heads, rows = made.table()
    assert cells_of(shown) == [heads, *rows]
    assert all(" ".join(value.split()) in " ".join(text.split()) for line in (heads, *rows) for value in line)
    assert "<script" not in shown
    assert all(html.escape(line) in shown for line in made.legend)
    assert html.escape(made.head) in shown


def test_a_report_is_a_frame_of_plain_numbers() -> None:
    pytest.importorskip("pandas")
    two = row(other_metrics={"balanced_accuracy": (0.4, 0.5)})
    frame = report(two, row("random", (0.25,)), row("random", (0.5,), "gin")).to_dataframe()
    assert list(frame.columns) == "set model metric mean std interval95 n bytes steps lr seconds".split()
    assert frame[["set", "model", "metric"]].values.tolist() == [
        ["mtt", "mlp", "accuracy"],
        ["mtt", "mlp", "balanced_accuracy"],
        ["random", "mlp", "accuracy"],
        ["random", "gin", "accuracy"],
    ]
    assert frame["mean"].tolist() == pytest.approx([0.55, 0.45, 0.25, 0.5])
    assert (frame["std"][0], frame["interval95"][0]) == (two.std, two.interval)
    assert math.isnan(frame["std"][2])
    assert math.isnan(frame["bytes"][0])
    assert all(frame[name].dtype.kind in "if" for name in frame.columns[3:])
    alone = report(row(values=(0.5,))).to_dataframe()
    assert alone["std"].dtype.kind == "f"  # also where none is known


def test_a_benchmark_is_a_frame_of_plain_numbers() -> None:
    pytest.importorskip("pandas")
    frame = BOARD.to_dataframe()
    assert frame["set"].tolist() == ["random", "mtt", "infer"]
    assert frame["mean"].tolist()[:2] == pytest.approx([0.3, 0.6])
    assert math.isnan(frame["mean"][2])
    assert frame["refused"][2] == "`ipc` must be at least 2"
    assert frame["minus_random"][1] == pytest.approx(0.3)
    texts = {"dataset", "protocol", "set", "unit", "model", "metric", "paired", "selection", "refused"}
    assert all(frame[name].dtype.kind in "if" for name in set(frame.columns) - texts)
    assert list(frame.columns) == BOARD.to_csv().splitlines()[0].split(",")
    assert len(board().to_dataframe()) == 0


@pytest.mark.parametrize("make", [report, lambda: BOARD])
def test_without_pandas_it_says_how_to_get_it(
    make: Callable[[], EvalReport | Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingError, match=r"^A data frame needs the package pandas \(.*\): pip install pandas$"):
        make().to_dataframe()


def test_a_report_without_rows_is_none() -> None:
    with pytest.raises(InputError, match="`rows` must be at least one, that of the set; got none"):
        EvalReport(**{**vars(report()), "rows": ()})
