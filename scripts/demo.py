"""The main jobs on data that come with scikit-learn, without a download or a GPU.

Buffer, distil one image a class of the digits with FTD, evaluate: writes `runs/demo/`, the set, its log, a picture grid
and a page. Beside it, in a process of its own, Mirage on the digits as graphs of pixels: `runs/demo-graphs/`; what that
says is printed when the first is done. One thread each, which serves networks of this size as well as two. The row
`random_tuned` of README's evaluation is left out: it takes half of the time of all. The same call again only evaluates
again.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from dd.cli.main import main

OUT, GRAPHS = "runs/demo", "runs/demo-graphs"
IMAGE_STEPS = (
    ["distill", "digits", "ftd", "--ipc", "1", "--out", OUT],
    ["evaluate", OUT, "digits", "--repeats", "3", "--baselines", "random", "class_mean"],
)
GRAPH_STEPS = (
    ["distill", "digits-graphs", "mirage", "--patterns", "single", "--budget-bytes", "8192", "--out", GRAPHS],
    ["evaluate", GRAPHS, "digits-graphs", "--repeats", "3", "--baselines", "random", "naive_bayes", "node_count"],
)


def through(steps: Sequence[Sequence[str]]) -> int:
    """Run commands up to the first that fails; returns its exit code, or 0."""
    return next((code for code in map(main, steps) if code), 0)


def apart(steps: Sequence[Sequence[str]], told: Path) -> None:
    """The same as a process, with what is said in a file."""
    with told.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        code = through(steps)
    raise SystemExit(code)


def demo() -> int:
    """Both parts beside each other; the first exit code that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        told.touch()
        graphs = multiprocessing.get_context("fork").Process(target=apart, args=(GRAPH_STEPS, told))
        graphs.start()  # torch is not loaded yet: nothing that a fork would break
        code = through(IMAGE_STEPS)
        if code:
            graphs.terminate()
        graphs.join()
        print(told.read_text(encoding="utf-8"), end="", flush=True)
    return code or graphs.exitcode or 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(demo())
