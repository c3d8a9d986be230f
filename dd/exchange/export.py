"""Sets for other libraries: image folders, Hugging Face datasets and the hub, with a card; TensorBoard's curves."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from dd.base.files import read_jsonl, refused, write_bytes, write_text
from dd.base.foreign import NOTE
from dd.base.names import file_name
from dd.base.paths import as_path
from dd.base.process import under_own_settings
from dd.data import list_cards, load_card
from dd.errors import MissingError, not_installed, refuse
from dd.evaluation import EvalReport
from dd.exchange.folder import write_note
from dd.synthetic import ImageSet, need_images
from dd.synthetic.figures import grid_png
from dd.synthetic.image_checks import how_many


@under_own_settings
def to_imagefolder(small: ImageSet, path: str | Path, split: str = "train") -> Path:
    """Write the images as PNG, `PATH/SPLIT/CLASS/00000.png`: what `imagefolder:PATH` and torchvision read.

    Classes are numbered in their names (`0-airplane`), so that every reader has them in label order. Pixels are rounded
    to 1/255 and clipped; soft labels become the most probable class. `PATH/SPLIT/set.json` says the rest: recipe,
    normalisation, class names, method, provenance. `dd.import_folder("PATH/SPLIT")` reads both, with pixels as rounded.
    The file of `small.save` loses nothing.

    Returns:
        The folder PATH.

    Raises:
        InputError: images of another number of channels than 1 or 3, a class without images, a split with a slash,
            canvases, or files in `PATH/SPLIT` that are not of this set: a reader would take them for its pictures.
        WriteError: the disk refuses.
    """
    small = need_images(small).hard()
    if small.channels not in (1, 3):
        raise refuse("small", "of 1 or 3 channels for PNG", small.channels)
    if small.canvas > 1:
        raise refuse("small", "a set without canvases, whose crops are the images", f"canvases of {small.canvas}²")
    if 0 in (counts := small.counts):
        got = f"none of {small.classes[counts.index(0)]!r}, whose folder no reader would count"
        raise refuse("small", "a set with an image of every class", got, "`small.save` keeps every class.")
    if not re.fullmatch(r"[\w.-]+", split) or split.strip(".") == "":
        raise refuse("split", "a name without slashes", repr(split))
    digits = len(str(len(small.classes) - 1))
    folders = [f"{k:0{digits}}-{file_name(name, '_', 'class')}" for k, name in enumerate(small.classes)]
    base = as_path(path) / split
    files = [base / folders[label] / f"{i:05}.png" for i, label in enumerate(small.labels.tolist())]
    _refuse_others(base, [*files, base / NOTE])
    for picture, file in zip(_pictures(small), files, strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        write_bytes(file, buffer.getvalue())
    write_note(base, small, folders)
    return as_path(path)


def _refuse_others(base: Path, own: Sequence[Path]) -> None:
    """Refuse a folder with other files than these, hidden ones aside."""
    others = {p for p in base.rglob("*") if p.is_file() and not p.name.startswith(".")} - set(own)
    if others:
        got = f"{base}, which has {len(others)} other file(s), such as {min(others).relative_to(base)}"
        raise refuse("path", "a folder without pictures of another set", got, "Name another one, or remove these.")


@under_own_settings
def to_hf(small: ImageSet) -> Any:
    """A `datasets.Dataset` with columns `image` and `label`, and `probabilities` where the set has soft labels.

    Raises:
        MissingError: datasets is not installed.
    """
    small, hf = need_images(small), _datasets()
    labels = small.hard().labels.tolist()
    columns: dict[str, Any] = {"image": _pictures(small), "label": labels}
    features: dict[str, Any] = {"image": hf.Image(), "label": hf.ClassLabel(names=list(small.classes))}
    soft = getattr(small, "labels", None)
    if soft is not None and soft.ndim == 2:
        columns["probabilities"] = soft.tolist()
        features["probabilities"] = hf.Sequence(hf.Value("float32"))
    return hf.Dataset.from_dict(columns, features=hf.Features(features))


@under_own_settings
def push_to_hub(
    small: ImageSet,
    repo: str,
    *,
    report: EvalReport | Mapping[str, Any] | None = None,
    private: bool = True,
    token: str | None = None,
) -> str:
    """Put a set on the Hugging Face hub: its own file, an image folder, a picture and the card; returns the address.

    Args:
        small: the set, with its transform ready.
        repo: `user/name`; made where it is not there.
        report: what it reached; its table goes into the card.
        private: of a new repository.
        token: of the hub; `None` takes the one of the machine's login.

    Raises:
        InputError: no `user/name`.
        MissingError: huggingface-hub is not installed.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise refuse("repo", "`user/name`", repr(repo))
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise not_installed("`push_to_hub`", "huggingface-hub", error) from error
    api = HfApi(token=token)
    api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dd-hub-") as folder:
        base = Path(folder)
        small.save(base / "synthetic.safetensors")
        if small.canvas == 1 and small.channels in (1, 3) and min(small.counts):
            to_imagefolder(small, base / "data")
        write_bytes(base / "grid.png", grid_png(small))
        write_text(base / "README.md", dataset_card(small, report, repo))
        api.upload_folder(folder_path=folder, repo_id=repo, repo_type="dataset", commit_message="Synthetic set")
    return f"datasets/{repo}"


@under_own_settings
def dataset_card(small: ImageSet, report: EvalReport | Mapping[str, Any] | None = None, repo: str = "") -> str:
    """The Markdown card of a set: what it is, where it comes from, the source's licence, and what it reached.

    Args:
        small: the set.
        report: `dd.evaluate`'s answer or the content of `report.json`.
        repo: `user/name`, for the title.
    """
    small = need_images(small)
    told = small.provenance
    source = str(told.get("dataset", "unknown data"))
    card = load_card(source) if source in list_cards() else None
    licence = card.licence if card is not None else "that of the source; check it before you share the set"
    method, sizes = str(small.method.get("name", "imported")), small.nbytes
    head = ["license: other", f"license_name: {_yaml(licence)}", "task_categories:", "- image-classification"]
    head += ["tags:", "- dataset-distillation", f"- {_yaml(method)}", f"pretty_name: {_yaml(f'{method} on {source}')}"]
    lines = ["---", *head, "---", "", f"# {_text(repo or f'{method} on {source}')}", ""]
    lines += [
        f"{len(small)} synthetic images of {len(small.classes)} classes, distilled from {_text(source)} by "
        f"{_text(method)}.",
        "A network is trained on them in place of the data set; they are no photographs of anything.",
        "",
        "![The images, a row a class](grid.png)",
        "",
        "```python",
        "import dd",
        "",
        'small = dd.load("synthetic.safetensors")  # labels, transform and training recipe included',
        "net = dd.train(small)",
        "```",
        "",
        "## Provenance",
        "",
        *(f"- {_text(key)}: {_text(value)}" for key, value in sorted(told.items()) if key != "training_items"),
        f"- bytes: {sizes.images:,} images, {sizes.labels:,} labels, {sizes.extras:,} else, {sizes.total:,} in all",
        f"- licence of the source: {_text(licence)}",
    ]
    if not small.layout.plain:
        lines.append(f"- pictures: {_text(how_many(small))}")
    if card is not None:
        lines.append(f"- source: {_text(card.title)}, {card.url}")
    lines.append("- method: " + _fields(small.method))
    return "\n".join([*lines, *_measured(report), ""])


@under_own_settings
def to_tensorboard(run: str | Path, folder: str | Path | None = None) -> Path:
    """Write the curves of a run folder's `log.jsonl` as TensorBoard events; returns their folder.

    Args:
        run: the run folder; may still be written to.
        folder: of the events; by default `tensorboard/` inside it.

    Raises:
        MissingError: no log, or tensorboard is not installed.
        WriteError: the folder cannot be made.
    """
    rows = read_jsonl(as_path(run, "run") / "log.jsonl", "log")
    if not rows:
        raise MissingError(f"no log.jsonl with rows in {run}")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise not_installed("`to_tensorboard`", "tensorboard", error) from error
    target = Path(folder) if folder is not None else Path(run) / "tensorboard"
    with refused(target):
        writer: Any = SummaryWriter(str(target))
    for row in rows:
        for key, value in row.items():
            if key != "iteration" and isinstance(value, int | float) and not isinstance(value, bool):
                writer.add_scalar(key, value, int(row["iteration"]))
    writer.close()
    return target


def _datasets() -> Any:
    """Hugging Face's `datasets`; a folder of that name is none."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise not_installed("A Hugging Face dataset", "datasets", error) from error
    del load_dataset
    import datasets

    return datasets


def _pictures(small: ImageSet) -> list[Image.Image]:
    """The images, rounded to 1/255, as PIL images in grey or colour."""
    made = (small.pixels() * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x) for x in made]


def _measured(report: EvalReport | Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return []
    told = report.to_json() if isinstance(report, EvalReport) else report
    lines = ["", "## Measured", "", "| set | model | score % | n | steps | lr |", "|---|---|---|---|---|---|"]
    for row in told["rows"]:
        spread = "" if row["std"] is None else f" ± {100 * row['std']:.1f}"
        cells = (_text(row["set"]), _text(row["model"]), f"{100 * row['mean']:.1f}{spread}", row["n"], row["steps"])
        lines.append("| " + " | ".join(map(str, cells)) + f" | {row['lr']:.3g} |")
    origin = told.get("origin") or {}
    where = f"{told['split']} split, protocol {told['protocol']}: {told['selection']}; {origin.get('machine')}"
    return [
        *lines,
        "",
        _text(f"± is the sample standard deviation over networks. {where}, commit {origin.get('commit')}."),
    ]


def _fields(told: Mapping[str, Any]) -> str:
    """`name value` of fields in alphabetical order; those of a recipe in brackets."""
    texts = {k: f"({_fields(v)})" if isinstance(v, Mapping) else _text(v) for k, v in told.items()}
    return ", ".join(f"{_text(k)} {texts[k]}" for k in sorted(texts))


def _text(value: object) -> str:
    """Text that is no markup."""
    return re.sub(r"([\\|`*<>\[\]])", r"\\\1", str(value)).replace("\n", " ")


def _yaml(value: str) -> str:
    """A text as a quoted YAML scalar."""
    return "'" + value.replace("'", "''").replace("\n", " ") + "'"
