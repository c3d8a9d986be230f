"""`load`: a saved set, and where what is measured of it is kept."""

from __future__ import annotations

from pathlib import Path

from dd.base.foreign import pictures
from dd.base.paths import as_path, is_folder, is_there
from dd.base.process import under_own_settings
from dd.errors import MissingError
from dd.synthetic import AnySet, load_set
from dd.synthetic.file import Kept, mark_kept, set_in


@under_own_settings
def load(path: str | Path) -> AnySet:
    """Read a saved set; a run folder means its `synthetic.safetensors`, and then what is measured is kept there.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`; of files of others with the verb that imports them.
    """
    path = as_path(path)
    if not is_folder(path):
        return load_set(path)
    if not is_there(set_in(path)) and (way_out := pictures(path)):
        raise MissingError(f"no set of this library in {path}. {way_out}")
    kept = Kept.of(path)
    return mark_kept(load_set(set_in(path)), kept)
