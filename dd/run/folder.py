"""The folder of one run: log, checkpoint, result; resume to the same bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.files import (
    append_jsonl,
    clear,
    dump_json,
    file_digest,
    load_tensors,
    read_json,
    read_jsonl,
    read_meta,
    remove,
    save_tensors,
    sweep,
    write_json,
    write_jsonl,
)
from dd.base.jsons import AGAIN
from dd.base.leases import still_held
from dd.base.locks import holder, locked
from dd.base.paths import is_there, names_in
from dd.errors import DamagedError, DDError, InputError, MissingError, WriteError, refuse
from dd.methods import METHODS, Step
from dd.methods.base import DONE
from dd.synthetic import AnySet
from dd.synthetic.file import SET

REPORT: Final = "report.json"
EARLIER: Final = r"report-\d+\.json"
"""Earlier reports, of other data than the last one."""
MEASURES: Final = ("adversarial", "architectures", "calibration", "continual", "membership", "neighbours", "robust")
"""Each is kept in the set's run folder as `NAME.json`."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()
"""A field that one of two requests does not have: that of another version, say."""


OWN: Final = (SET, "labels", "log.jsonl", "checkpoint.safetensors", "checkpoint", "preview.png")
"""What a run writes beside its `run.json`."""
_PART: Final = r"\d{5}-[0-9a-f]{16}\.safetensors"
"""Of a checkpoint, in the folder `checkpoint`: what of the state is finished, named by its content."""
PICTURES: Final = ("grid.png", "trees.png")
"""What the command line adds."""


class RunFolder:
    """`synthetic.safetensors, log.jsonl, checkpoint.safetensors, run.json` of one request, for one process at a time.

    A checkpoint is one file and the parts that it names, which earlier ones wrote: what of a state stays as it is
    (`dd.methods.base.DONE`) is written once, and before the checkpoint that first needs it.

    Every random stream is named by its iteration, so the state in a checkpoint has no generator in it, and a
    resumed run ends with the bytes of an unbroken one. The checkpoint has the request too, so that a damaged `run.json`
    is made anew. Use it as a context: inside, an unfinished run is locked, and a finished one is only read.

    Args:
        path: the folder; made when it is entered.
        request: what identifies the run (data hash, method fields, seed, protocol, precision).
        origin: versions, machine, commit; recorded, not compared.
        resume: whether to go on from what is there.

    Raises:
        InputError: the folder holds another run, is in use by another process, or has such files and is of no run.
        DamagedError: its `run.json` is damaged, and no checkpoint tells what it was.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], origin: Mapping[str, Any], resume: bool) -> None:
        self.path, self._request, self._origin, self._resume = path, dict(request), dict(origin), resume
        self.synthetic = path / SET
        self.log_file = path / "log.jsonl"
        self._checkpoint = path / "checkpoint.safetensors"
        self._folder = path / "checkpoint"
        self._parts: list[dict[str, str]] = []
        self._written: set[str] = set()
        self._lock = path / ".run.lock"
        self._pending: list[Mapping[str, Any]] = []
        self._held = contextlib.ExitStack()
        self.finished = self._new = self._replaces = False

    def is_finished(self) -> bool:
        """Whether the run is done; the folder is only looked at.

        Raises:
            InputError, DamagedError: as when it is entered.
        """
        self._found()
        return self.finished

    def __enter__(self) -> RunFolder:
        with contextlib.ExitStack() as held:
            found = self._found()
            if found is None or not self._resume or not self._is_done(found):
                if not held.enter_context(locked(self._lock, keep=False)):
                    raise InputError(
                        f"`out` = {self.path} is in use by {holder(self._lock)}. Wait until it has finished, or name "
                        "another folder."
                    )
                sweep(self.path, "|".join(re.escape(name) for name in ("run.json", *OWN)))
                self._open(self._found())  # as it is under the lock
            elif any(map(is_there, (self._checkpoint, self._folder, self._lock))):
                with contextlib.suppress(WriteError), locked(self._lock, keep=False) as free:
                    if free:
                        self._forget()
            self._held = held.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A new run that was refused before its first step leaves nothing that would stop the next one."""
        try:
            begun = any((self.path / name).exists() for name in OWN)
            if self._new and kind is not None and issubclass(kind, InputError) and not begun and not self._pending:
                remove(self.path / "run.json")
        finally:
            self._held.close()

    def _found(self) -> dict[str, Any] | None:
        """What the folder says of its run, or `None` where there is none yet; another one is refused."""
        found = self._told()
        if found is None or not self._resume:
            return found
        if dump_json(found["request"]) != dump_json(self._request):
            raise InputError(
                f"`out` = {self.path} holds another run ({_difference(found['request'], self._request)}). "
                "Name another folder, or give resume=False (`--restart`) to replace it."
            )
        self.finished = self._is_done(found)
        return found

    def _is_done(self, found: Mapping[str, Any]) -> bool:
        return bool(found["finished"]) and is_there(self.synthetic)

    def _told(self) -> dict[str, Any] | None:
        """The content of `run.json`; where it is not there or damaged, what the checkpoint says of the run."""
        file, damage = self.path / "run.json", ""
        try:
            return read_json(file, "run")
        except MissingError:
            pass
        except DamagedError as error:
            damage = str(error).replace(AGAIN, "").rstrip(". ")
        with contextlib.suppress(DDError):
            kept = read_meta(self._checkpoint, "checkpoint")
            return {"request": kept["request"], "origin": kept.get("origin", {}), "finished": False}
        if not damage:
            self._refuse_others()
            return None
        ours = self._has_set()
        if ours and not self._resume:
            return {"request": {}, "finished": False}
        what = "The set there is whole: `dd.load` reads it. " if ours else ""
        way_out = ", or give resume=False (`--restart`) to replace the run" if ours else ", or move what is there away"
        raise DamagedError(
            f"`out` = {self.path} has a run.json that cannot be used ({damage}), and no checkpoint says which run it "
            f"was. {what}Name another folder{way_out}."
        )

    def _has_set(self) -> bool:
        """Whether a set that a run made is there."""
        with contextlib.suppress(DDError):
            return "provenance" in read_meta(self.synthetic, "any")
        return False

    def _refuse_others(self) -> None:
        there = [name for name in (*OWN, *PICTURES) if is_there(self.path / name)]
        if there:
            raise refuse(
                "out",
                "a new folder, or one of a run",
                f"{self.path}, which has {', '.join(there)} and no run.json",
                "Name another folder, or move these files away.",
            )

    def _open(self, found: Mapping[str, Any] | None) -> None:
        """Begin or go on, under the lock."""
        if found is not None and self._resume:
            self._origin = found.get("origin", self._origin)
            if not self.finished:
                self._write_run(finished=False)
            return
        self._new, self._replaces = found is None, found is not None
        if self._new:
            self._write_run(finished=False)
            self._clear()

    def _begin(self) -> None:
        """Replace the run that was there, once the new one has a step: one that is refused before costs nothing."""
        if not self._replaces:
            return
        self._replaces = False
        earlier = [path.name for path in names_in(self.path) if re.fullmatch(EARLIER, path.name)]
        for name in (REPORT, *earlier, "index.html", *(f"{measure}.json" for measure in MEASURES)):
            remove(self.path / name)  # what was measured was of the set that is replaced
        self._write_run(finished=False)
        self._clear()

    def _clear(self) -> None:
        """After the request is written: a checkpoint of another one is never gone on from."""
        self._forget()
        remove(self.log_file)

    def _forget(self) -> None:
        """Remove the checkpoint, and then its parts, which nothing names any more."""
        remove(self._checkpoint)
        clear(self._folder, _PART)

    def _write_run(self, finished: bool, **more: Any) -> None:
        run = {"request": self._request, "origin": self._origin, "finished": finished, **more}
        write_json(self.path / "run.json", run)

    def restore(self) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
        """(state to go on from or `None`, what the caller kept beside it); the log is cut back to it."""
        if self._replaces:
            return None, {}
        state, kept = load_tensors(self._checkpoint, "checkpoint") if is_there(self._checkpoint) else ({}, {})
        if dump_json(kept.get("request")) != dump_json(self._request):
            self._forget()
            remove(self.log_file)
            return None, {}
        self._parts = list(kept["parts"])
        for part in self._parts:
            finished = self._read_part(part)
            self._written |= finished.keys()
            state |= finished
        clear(self._folder, _PART, [part["file"] for part in self._parts])  # of a checkpoint that was never written
        rows: dict[int, dict[str, Any]] = {}
        for row in read_jsonl(self.log_file, "log"):
            if row["iteration"] <= kept["iteration"]:
                rows.setdefault(row["iteration"], row)  # one that an interruption has had written twice is there once
        write_jsonl(self.log_file, list(rows.values()))
        return state, kept["kept"]

    def _read_part(self, part: Mapping[str, str]) -> dict[str, Tensor]:
        try:
            return load_tensors(self._folder / part["file"], "any", part["sha256"])[0]
        except (MissingError, DamagedError) as error:
            raise DamagedError(
                f"{self._folder / part['file']}, a part of the checkpoint, is damaged or missing. Restore it, or "
                f"remove {self._checkpoint}; the run begins anew."
            ) from error

    def log(self, step: Step) -> None:
        """Keep a row for the log; rows are written with the next checkpoint or every 20."""
        self._begin()
        self._pending.append(_json_row({"iteration": step.iteration, **step.metrics}))
        if len(self._pending) >= 20:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            before = self._logged()
            try:
                append_jsonl(self.log_file, self._pending)
            finally:  # an interruption comes while they are written, or just after it
                if self._logged() != before:
                    self._pending = []

    def _logged(self) -> int:
        """Bytes of the log."""
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def checkpoint(self, step: Step, kept: Mapping[str, Any], extra: Mapping[str, Tensor]) -> None:
        """Write the state after `step`, with the caller's own values (`kept`) and tensors (`extra`).

        Raises:
            MissingError: another process has taken the run over; nothing is written.
        """
        self._check_held()
        self._flush()
        finished = {name: t for name, t in step.state.items() if name.startswith(DONE)}
        if fresh := {name: t for name, t in finished.items() if name not in self._written}:
            sha256 = file_digest(fresh, {})
            part = {"file": f"{len(self._parts):05d}-{sha256[:16]}.safetensors", "sha256": sha256}
            save_tensors(self._folder / part["file"], fresh, {})
            self._parts.append(part)
            self._written |= fresh.keys()
        tensors = {**{name: t for name, t in step.state.items() if name not in finished}, **extra}
        about = {"request": self._request, "origin": self._origin, "iteration": step.iteration, "kept": dict(kept)}
        save_tensors(self._checkpoint, tensors, {**about, "parts": self._parts})

    def _check_held(self) -> None:
        if not still_held(self._lock):
            raise MissingError(
                f"the run in {self.path} was taken over by {holder(self._lock)}: this process had given no sign of "
                "life for too long. Leave it to that one, or raise DD_LEASE_SECONDS."
            )

    def finish(self, **more: Any) -> None:
        """Mark the run as done; the checkpoint is no longer needed. Raises as `checkpoint`."""
        self._check_held()
        self._flush()
        self._write_run(finished=True, **more)
        self._forget()


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a folder's `run.json`; without it the run cannot be made again, so nobody is told to remove it.

    Raises:
        MissingError: no `run.json`.
        DamagedError: it cannot be read.
    """
    try:
        return read_json(folder / "run.json", "run")
    except DamagedError as error:
        way_out = "Restore it, or distil again with resume=False (`--restart`)."
        raise DamagedError(str(error).replace(AGAIN, way_out)) from error


def check_run(folder: Path, small: AnySet) -> None:
    """Compare the `run.json` of a folder with what its set says of itself.

    Raises:
        MissingError: no `run.json`.
        DamagedError: it cannot be read, or is of another run than the set.
    """
    request = read_run(folder)["request"]
    data, method = request.get("data") or {}, request.get("method") or {}
    wanted: dict[str, Any] = {"dataset": data.get("name"), "data_sha256": data.get("sha256")}
    wanted |= {name: request.get(name) for name in ("protocol", "seed")}
    told = {name: small.provenance.get(name) for name in wanted}
    if method.get("name") in METHODS:  # a user's own may say less of its sets
        wanted["method"], told["method"] = method, dict(small.method)
    if dump_json(wanted) != dump_json(told):
        raise DamagedError(
            f"{folder / 'run.json'} is not of the set beside it ({_difference(wanted, told, got='in the set')}). "
            "Restore the one that was changed, or distil again with resume=False."
        )


def _json_row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics without values that JSON has no word for."""
    bad = {float("inf"), float("-inf")}
    return {k: v for k, v in metrics.items() if not (isinstance(v, float) and (v != v or v in bad))}


def _difference(found: Any, wanted: Mapping[str, Any], prefix: str = "", got: str = "asked for") -> str:
    """The first few fields that differ, in words; names first, since other fields follow from them."""
    if not isinstance(found, dict):
        return "unreadable"
    parts = []
    for key in sorted(set(found) | set(wanted), key=lambda key: (key != "name", key)):
        a, b = found.get(key, ABSENT), wanted.get(key, ABSENT)
        if isinstance(a, dict) and isinstance(b, dict):
            if dump_json(a) != dump_json(b):
                parts.append(_difference(a, b, f"{prefix}{key}.", got))
        elif ABSENT in (a, b) or dump_json(a) != dump_json(b):
            parts.append(f"{prefix}{key}: {a!r} there, {b!r} {got}")
    return "; ".join(parts[:3])


def split_state(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors without the prefix, tensors with it, prefix removed)."""
    rest = {k: t for k, t in tensors.items() if not k.startswith(prefix)}
    return rest, {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def to_device(state: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Tensors with more than a counter in them on `device`; counters (int64 scalars) stay on the CPU."""
    return {k: t if t.dtype == torch.int64 and t.ndim == 0 else t.to(device) for k, t in state.items()}
