"""`load`: a saved set, and where what is measured of it is kept."""

from __future__ import annotations

from pathlib import Path

from dd.base.paths import as_path, is_folder, is_there
from dd.base.process import under_own_settings
from dd.synthetic import AnySet, set_at
from dd.synthetic.file import Kept, mark_kept, set_in


@under_own_settings
def load(path: str | Path) -> AnySet:
    """Read a saved set; a run folder means its `synthetic.safetensors`, and then what is measured is kept there.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`; of files of others with the verb that imports them.
    """
    path = as_path(path)
    kept = Kept.of(path) if is_folder(path) and is_there(set_in(path)) else None
    return mark_kept(set_at(path), kept)
