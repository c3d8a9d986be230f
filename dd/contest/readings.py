"""What stands among `models` of images beside networks: `unseen`, and readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dd.errors import InputError, known_as, refuse, unknown
from dd.evaluation import Reader, reader_of
from dd.models import MODELS, UNSEEN, AnyModel, as_spec, strangers
from dd.models.images.convnet import Size
from dd.models.images.spec import WORDS, WRITTEN, check_size


def expanded(models: Iterable[AnyModel | Reader | None], own: AnyModel | None, size: Size) -> list[Any]:
    """The models of rows: networks as they were given, `unseen` as the set's own and three others, readers.

    Args:
        models: as in `dd.evaluate`; `None` is the set's own.
        own: the set's own network, by name; `None` where that is no network of the library's and was not given.
        size: height and width of the pictures.

    Raises:
        InputError: two models of one name; `unseen` or a reader without a network of its own, for a set of a network of
            the user's own; `unseen` for pictures that one of its networks does not take; a word that is neither one of
            `WORDS` nor a network of the library's.
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
            found += [None if None in models else own, *_strangers(own, size)]
        else:
            found.append(model if reader is None else reader)
    kept: dict[str, Any] = {}
    for model in found:
        if not _alike(model, there := kept.setdefault(called(model), model)):
            way_out = "Name your own: `dd.Model(factory, name=…)`."
            raise refuse("models", "of different names", f"two that are called {called(there)!r}", way_out)
    return list(kept.values())


def _alike(a: Any, b: Any) -> bool:
    """Whether two models of one name are one: readers by what they read, networks by how they are made."""
    if None in (a, b) or reader_of(a) or reader_of(b):
        return bool(a == b)
    return as_spec(a) == as_spec(b)


def _strangers(own: AnyModel, size: Size) -> list[AnyModel]:
    """The networks that a set has not seen, or a refusal where pictures are too small for one of them."""
    others: list[AnyModel] = [*strangers(own, size)]
    for other in others:
        try:
            check_size(other, channels=3, classes=2, size=size)
        except InputError as error:
            way_out = "Name networks that take them, `models=['convnet(depth=1, norm=batch)', …]`."
            expected = f"without `{UNSEEN}` for pictures of {size[0]} × {size[1]} px"
            raise refuse("models", expected, f"it, of whose networks {other} takes larger ones", way_out) from error
    return others


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
