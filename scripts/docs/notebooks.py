"""Run the notebooks and keep what they show: `python scripts/docs/notebooks.py` (a minute; where they changed).

Kept are the printed text and the last value of each cell, as a notebook shows it: HTML, a PNG, or text.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

NOTEBOOKS: Final = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
MOST: Final = 200_000
"""Bytes of a notebook."""


def outputs(source: str, title: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell in `names`; what a notebook keeps of it."""
    body = ast.parse(source, title)
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(body, title, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), title, "eval"), names)
    made: list[dict[str, Any]] = []
    if text := printed.getvalue():
        made.append({"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)})
    if value is not None:
        data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        elif hasattr(value, "_repr_png_"):
            data = {"image/png": base64.b64encode(value._repr_png_()).decode(), "text/plain": ["a picture"]}
        made.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return made


def executed(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of a run in the current folder."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(cells, 1):
        cell["outputs"] = outputs("".join(cell["source"]), f"{path.name}, cell {count}", names, count)
        cell["execution_count"] = count
    return notebook


def main() -> None:
    """Run all, each in a temporary folder."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            os.environ["DD_HOME"] = folder
            text = json.dumps(executed(path), ensure_ascii=False, indent=1) + "\n"
        if len(text.encode()) > MOST:
            raise SystemExit(f"{path.name} would have {len(text.encode()):,} bytes; at most {MOST:,}")
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
