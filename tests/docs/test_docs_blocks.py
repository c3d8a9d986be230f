"""Every code block of README and docs runs as printed: here with tiny budgets, in full among the slow tests.

The text of a block is executed as it stands but for `OTHER_WORDS` and, of budgets that are printed, `CHEAPER`. All
other budgets shrink beneath it, in the rows of the presets and in the shipped recipes of experts.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

import dd
from dd.cli.main import main
from dd.synthetic import TrainRecipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
MANUAL = sorted(page for page in (ROOT / "docs").glob("*.md") if "```" in page.read_text(encoding="utf-8"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *MANUAL, *PAGES]
OTHER_WORDS = {  # printed → executed here
    "distill NCI1 mirage --preset paper --split published --root data": "distill digits-graphs mirage",
    "distill cifar10 ftd --ipc 10 --root data": "distill digits ftd --ipc 10",  # CIFAR-10 has files
    "distill cifar10 mtt --ipc 1 --preset paper --protocol paper --root data": "distill digits mtt --ipc 1 "
    "--protocol paper",
    "buffer cifar10 mtt-zca --protocol paper --root data": "buffer digits cpu-digits-mtt --protocol paper",
    "evaluate runs/paper cifar10 --root data": "evaluate runs/paper digits",
    "CUDA_VISIBLE_DEVICES=0 ": "",
    "CUDA_VISIBLE_DEVICES=1 ": "",
    "distill cifar10 ftd --ipc 10 --preset paper --root data": "distill digits ftd --ipc 10",
    "benchmark cifar10 --methods mtt,ftd --ipc 10 --root data": "benchmark digits --methods mtt,ftd --ipc 1 "
    "--workers 1",
}
CHEAPER = {
    'print(dd.evaluate(small, "digits"))  # by the published': 'print(dd.evaluate(small, "digits", steps=3))  #',
    '"digits", lr="tuned"))': '"digits", lr="tuned", steps=3, repeats=2))',
    "experts=4, snapshots=10": "experts=2, snapshots=3",
    "max_start_epoch=8": "max_start_epoch=1",
    'models="convnet(width=32)", baselines=("random",), repeats=2': 'models="convnet(width=4)", steps=2, repeats=1, '
    'baselines=("random",)',
    "student_steps=50, iterations=300": "student_steps=3, iterations=2, max_start_epoch=2",
    '"all", ipc=1, out="runs/board"': '["mtt", "rded"], ipc=1, models="convnet(width=4)", steps=2, repeats=1, '
    'baselines=("random", "herding", "class_mean", "random_labels", "full"), out="runs/board"',
    "--out SHARED/board": "--models 'convnet(width=4)' --steps 2 --repeats 1 --baselines random --out SHARED/board",
    "--methods all --ipc 1": "--methods mtt rded --ipc 1 --workers 1 --models 'convnet(width=4)' --steps 2 --repeats 1 "
    "--baselines random herding class_mean random_labels full",
}
NOT_RUN = {
    "make demo": "makes an environment; its script is run below",
    "make test": "this suite",
    ". .venv/bin/activate": "the tests run in it",
    "torchrun --nproc-per-node 4 -m dd buffer cifar10 ftd-alpha0.3-zca --root data": "several processes: "
    "tests/experts/test_experts_store.py",
    "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint FIRST_HOST:29500 -m dd buffer cifar10 "
    "ftd-alpha0.3-zca --root data --store SHARED/experts": "several machines",
    "torchrun --nproc-per-node 2 -m dd distill cifar10 sre2l++ --ipc 10 --root data --store SHARED/store "
    "--out SHARED/set": "several processes: tests/work/test_torchrun.py",
    'torchrun --nproc-per-node 2 -m dd teach cifar10 "resnet18(norm=batch)" --recipe.ranks 2 --root data '
    "--store SHARED/store": "several processes: tests/work/test_torchrun.py",
    "torchrun --nproc-per-node 2 -m dd evaluate SHARED/set cifar10 --root data --store SHARED/store": "likewise",
    "sh scripts/gpu_check.sh pack --root DATA": "wheels of a registry: scripts/gpu_carry.py has its own tests",
    "sh scripts/gpu_check.sh": "minutes of a GPU",
    "sh scripts/gpu_check.sh --device cpu --seconds 120": "two minutes",
}
MOST = {"iterations": 2, "student_steps": 2, "max_start_epoch": 2, "label_epochs": 1, "steps": 3, "epochs": 1}
MOST |= {"current_start_epoch": 1, "window_iterations": 1}
MOST |= {"last_snapshot": 4, "queue_steps": 1, "batch_real": 8, "frequencies": 16}
EXPERTS: dict[str, Any] = {"experts": 2, "snapshots": 4, "snapshot_every": 4, "model": "convnet(width=4)"}


class Block(NamedTuple):
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Fenced blocks of a page, in their order."""
    text = path.read_text(encoding="utf-8")
    found = [Block(*pair) for pair in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    assert 2 * len(found) == text.count("```"), path
    return found


def commands(text: str) -> Iterator[str]:
    """The commands of a block for a shell, a line or a part up to `;` each, without comments."""
    for line in text.splitlines():
        for part in re.sub(r"\s+#.*$", "", line).split(";"):
            if part.strip():
                yield part.strip()


def replaced(text: str, words: dict[str, str]) -> str:
    for printed, other in words.items():
        text = text.replace(printed, other)
    return text


def less(row: dict[str, Any]) -> dict[str, Any]:
    """A row of presets with at most `MOST` of everything."""
    cut = {k: min(v, MOST[k]) if k in MOST and isinstance(v, int) else v for k, v in row.items()}
    cut |= {k: less(v) for k, v in row.items() if k in ("train", "teacher")}
    if "expert" in cut:
        cut["expert_fields"] = {**cut.get("expert_fields", {}), **EXPERTS}
    if "expert_epochs" in cut:
        cut["expert_epochs"] = 1
    return cut


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with one store for all pages, and budgets of seconds."""
    base = tmp_path_factory.mktemp("docs")
    rows, load_recipe = dd.methods.presets.rows, dd.load_recipe
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DD_HOME", str(base / "home"))
        patch.chdir(base)
        patch.setattr(dd.methods.presets, "rows", lambda method: [less(row) for row in rows(method)])
        for module in (dd, dd.experts, dd.run.buffer):
            patch.setattr(module, "load_recipe", lambda name: dataclasses.replace(load_recipe(name), **EXPERTS))
        for recipe in (TrainRecipe, dd.TreeRecipe, dd.NodeRecipe):
            patch.setitem(recipe.__init__.__kwdefaults__, "steps", MOST["steps"])
        patch.setitem(TrainRecipe.__init__.__kwdefaults__, "model", "convnet(width=4)")
        patch.setitem(dd.TeacherRecipe.__init__.__kwdefaults__, "epochs", MOST["epochs"])
        patch.setattr(dd.Teacher, "check", lambda *_: 1.0)  # of one epoch: no better than chance
        for module in ("dd.evaluation.learners", "dd.evaluation.trees"):
            patch.setattr(f"{module}.LR_GRID", (0.01, 0.03))
        yield base


def run_block(block: Block, names: dict[str, Any], title: str) -> None:
    """Execute every line of a block; a Python one in `names`, which later ones see."""
    text = replaced(block.text, {**OTHER_WORDS, **CHEAPER})
    if block.language == "python":
        exec(compile(text, title, "exec"), names)
        return
    assert block.language == "sh", title
    for command in commands(text):
        if command not in NOT_RUN:
            program, *words = shlex.split(command)
            assert program == "ddistill", command
            assert main(words) == 0, command


def test_every_block_of_the_readme_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(ROOT / "README.md")):
        run_block(block, names, f"README.md, block {number}")
    assert isinstance(names["net"], torch.nn.Module)
    assert names["page"] == Path("runs/digits/index.html")
    assert {path.name for path in Path("runs/digits").iterdir()} >= {"report.json", "index.html", "run.json"}
    assert "nan" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", [page for page in MANUAL if page.stem not in ("how", "performance")], ids=lambda path: path.stem
)
def test_every_block_of_a_page_of_the_manual_runs(place: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    made = [block for block in blocks(path) if block.language != "text"]
    assert made
    for number, block in enumerate(made):
        run_block(block, names, f"{path.name}, block {number}")
    assert "nan" not in capsys.readouterr().out


PLAIN_SETS = {
    "as printed": "",
    "whitened, soft labels": """
import dataclasses
small = dd.distill((pixels[:1400], classes[:1400]), "random", ipc=10, whiten=True)
soft = 0.9 * torch.eye(10)[small.labels] + 0.01
dataclasses.replace(small, labels=soft).save("digits.safetensors", whitening_matrix=True)
""",
}
_SAME_BY_DD = """
def mlp(channels, classes, size):
    layers = torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)
whole = dd.Images(train=(pixels[:1400], classes[:1400]), test=(pixels[1400:], classes[1400:]))
print("by dd:", dd.evaluate("digits.safetensors", whole, models=mlp, repeats=3, baselines=(), out=False).mean)
"""


@pytest.mark.parametrize("name", PLAIN_SETS)
def test_plain_pytorch_trains_on_a_set_as_well_as_this_library(name: str, tmp_path: Path) -> None:
    first, *others = [block.text for block in blocks(ROOT / "docs" / "plain.md")]
    assert not any("dd." in text for text in others)
    names = "[name for name in sys.modules if name.partition('.')[0] == 'dd']"
    gone = f"import sys\nsys.modules.update(dict.fromkeys({names} + ['dd']))"
    again = f"for seed in range(3):\n    torch.manual_seed(seed)\n    exec({''.join(others)!r}, globals())\n"
    script = "\n".join([first, PLAIN_SETS[name], _SAME_BY_DD, gone, again])
    words = [sys.executable, "-W", "ignore", "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    plain = [int(value) / 100 for value in re.findall(r"(\d+) % of 397 digits", done.stdout)]
    told = re.search(r"by dd: (0\.\d+)", done.stdout)
    assert told
    assert len(plain) == 3
    assert sum(plain) / 3 == pytest.approx(float(told[1]), abs=0.04)  # three networks have a spread of one point
    assert float(told[1]) > 0.7


@pytest.mark.parametrize("path", [page for page in PAGES if page.stem != "README"], ids=lambda path: path.stem)
def test_the_block_of_a_page_runs(place: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [block for block in blocks(path) if block.language != "bibtex"]
    assert [block.language for block in made] == ["python"]
    run_block(made[0], {"__name__": "__main__"}, path.name)
    assert "accuracy %" in capsys.readouterr().out


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script of `make demo`; it forks a process, of which Python warns where threads are."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the script sets it
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield module


def test_the_demo_runs(place: Path, demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"^demo:.*\n\t\$\(BIN\)/python scripts/demo\.py$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert demo.demo() == 0
    told = capsys.readouterr()
    for page in ("runs/demo/index.html", "runs/demo-graphs/index.html"):  # as the README says
        assert Path(page).exists()
    assert "page: runs/demo/index.html" in told.err
    assert told.out.index("class_mean") < told.out.index("page: runs/demo-graphs/index.html")  # not mixed


@pytest.mark.parametrize(("images", "graphs", "wanted"), [(0, 0, 0), (3, 0, 3), (0, 4, 4)])
def test_the_demo_ends_with_the_code_of_the_part_that_failed(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, images: int, graphs: int, wanted: int
) -> None:
    monkeypatch.setattr(demo, "main", lambda words: graphs if "digits-graphs" in words else images)
    assert demo.demo() == wanted


def test_words_for_a_torchrun_are_words_of_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts]
    shell = [block.text for path in pages for block in blocks(path) if block.language == "sh"]
    told = {command.partition(" -m dd ")[2] for text in shell for command in commands(text) if "torchrun" in command}
    assert len(told) > 5
    for number, words in enumerate(sorted(told)):
        assert main([*shlex.split(words), "--plan", f"{number}.json"]) == 0, words


def test_nothing_is_replaced_or_left_out_that_is_not_printed() -> None:
    every = {path: blocks(path) for path in TEXTS}
    assert {block.language for found in every.values() for block in found} == {"python", "sh", "bibtex", "text", "toml"}
    text = "".join(block.text for found in every.values() for block in found)
    assert [words for words in {**OTHER_WORDS, **CHEAPER} if words not in text] == []
    shell = [block.text for found in every.values() for block in found if block.language == "sh"]
    assert set(NOT_RUN) <= {command for block in shell for command in commands(block)}


def printed_in_full(path: Path) -> list[list[str]]:
    """Programs of a page's blocks in their order: its Python as one script, then the shell."""
    made, script = [], ""
    for block in blocks(path):
        text = replaced(block.text, OTHER_WORDS)
        if block.language == "python":
            script += text
        else:
            made += [shlex.split(command) for command in commands(text) if command not in NOT_RUN]
    return [[sys.executable, "-c", script], *([sys.executable, "-m", "dd", *words] for _, *words in made)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/start.md", "docs/graphs.md"])
def test_a_page_in_full(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DD_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    for program in printed_in_full(ROOT / name):
        done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (program, done.stderr[-2000:])
