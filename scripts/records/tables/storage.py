"""The table of what rounding stored images costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dd.evaluation import mean_std
from dd.evaluation.spread import interval95
from scripts.records import kept
from scripts.records.tables.accuracy import origin_words, told_once

STORAGES: Final = ("fp32", "fp16", "uint8")
"""In the order of the table; differences are to the first."""


def storage_records() -> list[dict[str, Any]]:
    """A record a seed."""
    return list(kept.named("storage-*").values())


def differences(records: Sequence[dict[str, Any]], storage: str, split: str) -> list[float]:
    """Of each set: mean accuracy of its networks on the rounded images less that of the same ones in float32."""
    means = [{form: mean_std(record["forms"][form][split])[0] for form in (storage, STORAGES[0])} for record in records]
    return [mean[storage] - mean[STORAGES[0]] for mean in means]


def storage_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table, and how it was measured."""
    if not records:
        return ["Not measured yet: `python -m scripts.records.make.storage --root DATA`."]
    head = "| storage | bytes of images | validation % | difference, 95 % | test % | difference, 95 % |"
    lines = [head, "|---|---|---|---|---|---|"]
    for storage in STORAGES:
        cells = [f"{records[0]['forms'][storage]['bytes']['images']:,}"]
        for split in ("val", "test"):
            mean, _ = mean_std([mean_std(record["forms"][storage][split])[0] for record in records])
            cells += [f"{100 * mean:.2f}", _paired(differences(records, storage, split), storage)]
        lines.append(f"| `{storage}` | {' | '.join(cells)} |")
    first = records[0]
    machines = "; ".join(told_once([origin_words(record["origin"]) for record in records]))
    distilled = [seconds for record in records if (seconds := record["distill_cpu_seconds"] or 0) > 1]  # and not loaded
    minutes = (sum(distilled) + sum(record["networks_cpu_seconds"] for record in records)) / 60
    lacking = len(records) - len(distilled)
    but = f", without the distillation of {lacking} set(s) that were begun in an earlier call" if lacking else ""
    return [
        *lines,
        "",
        f"`{first['method']['name']}` on {first['dataset']}, {first['ipc']} images a class, {len(records)} set(s), "
        f"each distilled in float32 and then rounded; {len(first['forms']['fp32']['val'])} networks a set and storage, "
        "of equal initialisation, order and augmentation. Differences are to `fp32`, paired by set, with the half "
        f"width of their 95 % interval (Student's t). {machines}; {minutes:.0f} minutes of processor time{but}.",
    ]


def _paired(found: Sequence[float], storage: str) -> str:
    """Mean and half width of the interval, in points."""
    if storage == STORAGES[0]:
        return ""
    width = interval95(found)
    return f"{100 * mean_std(found)[0]:+.2f}" + ("" if width is None else f" ± {100 * width:.2f}")
