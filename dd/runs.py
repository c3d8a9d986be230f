"""The folder of one run: log, checkpoint, result; resume to the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.errors import DamagedError, InputError, MissingError
from dd.files import (
    append_jsonl,
    digest,
    dump_json,
    load_tensors,
    read_json,
    read_jsonl,
    remove,
    save_tensors,
    write_json,
    write_text,
)
from dd.methods import Step
from dd.synthetic.file import SET

REPORT: Final = "report.json"
MEASURES: Final = ("adversarial", "architectures", "calibration", "continual", "membership", "neighbours", "robust")
"""Each is kept in the set's run folder as `NAME.json`."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()
"""A field that one of two requests does not have: that of another version, say."""


class RunFolder:
    """`synthetic.safetensors, log.jsonl, checkpoint.safetensors, run.json` of one request.

    Every random stream is named by its iteration, so the state in a checkpoint has no generator in it, and a
    resumed run ends with the bytes of an unbroken one.

    Args:
        path: the folder; made when something is written.
        request: what identifies the run (data hash, method fields, seed, protocol, precision).
        origin: versions, machine, commit; recorded, not compared.
        resume: whether to go on from what is there.

    Raises:
        InputError: the folder holds another run.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], origin: Mapping[str, Any], resume: bool) -> None:
        self.path, self._request = path, dict(request)
        self.synthetic = path / SET
        self.log_file = path / "log.jsonl"
        self._checkpoint = path / "checkpoint.safetensors"
        self._pending: list[Mapping[str, Any]] = []
        self.finished = False
        try:
            found = read_json(path / "run.json")
        except MissingError:
            found = None
        if found is not None and resume:
            if dump_json(found.get("request")) != dump_json(self._request):
                raise InputError(
                    f"`out` = {path} holds another run ({_difference(found.get('request'), self._request)}). "
                    "Name another folder, or give resume=False (`--restart`) to replace it."
                )
            self.finished = bool(found.get("finished")) and self.synthetic.exists()
            self._origin = found.get("origin", dict(origin))
            return
        self._origin = dict(origin)
        remove(self._checkpoint)
        remove(self.log_file)
        if found is not None:  # what was measured was of the set that is replaced
            for name in (REPORT, "index.html", *(f"{measure}.json" for measure in MEASURES)):
                remove(path / name)
        self._write_run(finished=False)

    def _write_run(self, finished: bool, **more: Any) -> None:
        run = {"request": self._request, "origin": self._origin, "finished": finished, **more}
        write_json(self.path / "run.json", run)

    def restore(self) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
        """(state to go on from or `None`, what the caller kept beside it); the log is cut back to it."""
        if not self._checkpoint.exists():
            remove(self.log_file)
            return None, {}
        state, kept = load_tensors(self._checkpoint)
        sums = kept.pop("sha256", {})
        if set(sums) != set(state) or any(digest(state[name]) != expected for name, expected in sums.items()):
            raise DamagedError(
                f"{self._checkpoint} does not match its checksums. Remove it; the run starts again from its experts."
            )
        done = int(state["iteration"])
        rows = [row for row in read_jsonl(self.log_file) if row["iteration"] <= done]
        write_text(self.log_file, "".join(dump_json(row) + "\n" for row in rows))
        return state, kept

    def log(self, step: Step) -> None:
        """Keep a row for the log; rows are written with the next checkpoint or every 20."""
        self._pending.append(_json_row(step.metrics))
        if len(self._pending) >= 20:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            append_jsonl(self.log_file, self._pending)
            self._pending = []

    def checkpoint(self, step: Step, kept: Mapping[str, Any], extra: Mapping[str, Tensor]) -> None:
        """Write the state after `step`, with the caller's own values (`kept`) and tensors (`extra`)."""
        self._flush()
        tensors = {**step.state, **extra}
        sums = {name: digest(t) for name, t in tensors.items()}
        save_tensors(self._checkpoint, tensors, {**kept, "sha256": sums})

    def finish(self, **more: Any) -> None:
        """Mark the run as done; the checkpoint is no longer needed."""
        self._flush()
        self._write_run(finished=True, **more)
        remove(self._checkpoint)


def _json_row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics without values that JSON has no word for."""
    bad = {float("inf"), float("-inf")}
    return {k: v for k, v in metrics.items() if not (isinstance(v, float) and (v != v or v in bad))}


def _difference(found: Any, wanted: Mapping[str, Any], prefix: str = "") -> str:
    """The first few fields that differ, in words."""
    if not isinstance(found, dict):
        return "unreadable"
    parts = []
    for key in sorted(set(found) | set(wanted)):
        a, b = found.get(key, ABSENT), wanted.get(key, ABSENT)
        if isinstance(a, dict) and isinstance(b, dict):
            if dump_json(a) != dump_json(b):
                parts.append(_difference(a, b, f"{prefix}{key}."))
        elif ABSENT in (a, b) or dump_json(a) != dump_json(b):
            parts.append(f"{prefix}{key}: {a!r} there, {b!r} asked for")
    return "; ".join(parts[:3])


def split_state(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors without the prefix, tensors with it, prefix removed)."""
    rest = {k: t for k, t in tensors.items() if not k.startswith(prefix)}
    return rest, {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def to_device(state: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors with more than a counter in them on `device`; counters (int64 scalars) stay on the CPU."""
    return {k: t if t.dtype == torch.int64 and t.ndim == 0 else t.to(device) for k, t in state.items()}
