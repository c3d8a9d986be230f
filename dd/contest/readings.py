"""What stands among `models` of images beside networks: `unseen`, and readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dd.errors import known_as, refuse, unknown
from dd.evaluation import READERS, Reader, reader_of
from dd.models import MODELS, UNSEEN, AnyModel, as_spec, strangers
from dd.models.images.convnet import Size
from dd.models.images.spec import WRITTEN

WORDS: Final = (UNSEEN, *READERS)
"""Words that are no networks."""


def expanded(models: Iterable[AnyModel | Reader | None], own: AnyModel | None, size: Size) -> list[Any]:
    """The models of rows: networks as they were given, `unseen` as the set's own and three others, readers.

    Args:
        models: as in `dd.evaluate`; `None` is the set's own.
        own: the set's own network, by name; `None` where that is no network of the library's and was not given.
        size: height and width of the pictures.

    Raises:
        InputError: `unseen` or a reader without a network of its own, for a set of a network of the user's own; a word
            that is neither one of `WORDS` nor a network of the library's.
    """
    found: list[Any] = []
    for model in map(_known, models):
        reader = reader_of(model)
        if own is None and (model == UNSEEN or (reader is not None and reader.net is None)):
            way_out = "Give networks by name, and `dd.evaluation.Reader(rule, net=…)`."
            raise refuse(
                "models", "without it for a set that was made for a network of your own", f"`{model}`", way_out
            )
        if model == UNSEEN:
            assert own is not None
            found += [None if None in models else own, *strangers(own, size)]
        else:
            found.append(model if reader is None else reader)
    kept: dict[str, Any] = {}
    for model in found:
        kept.setdefault(called(model), model)
    return list(kept.values())


def _known(model: AnyModel | Reader | None) -> AnyModel | Reader | None:
    """A model as it was given; what is one of `WORDS`, capitals aside, as that is written.

    Raises:
        InputError: a word that is no network of the library's either.
    """
    if not isinstance(model, str):
        return model
    if (word := known_as(model, WORDS)) is not None:
        return word
    if model.replace("_", "").isalnum() and known_as(model, MODELS) is None:  # else whoever builds it reads it
        raise unknown("model", model, [*MODELS, *WORDS], WRITTEN)
    return model


def called(model: Any) -> str:
    """What a model is called; the empty text for the set's own."""
    if model is None:
        return ""
    reader = reader_of(model)
    return str(as_spec(model)) if reader is None else str(reader)
