"""Which network: its name and options as a value, and `build`, which makes it from a seed."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, final

import torch
from torch import nn

from dd.base.bounds import check_memory, check_ranges
from dd.base.seeding import isolated
from dd.base.texts import shown
from dd.errors import find_name, known_as, refuse, unknown
from dd.models.images.convnet import Size
from dd.models.images.pretrained import ZOOS, check_zoo_name, split_zoo
from dd.models.probe import check_network, count_parameters
from dd.models.table import MODELS

Value = int | float | bool | str
Factory = Callable[..., nn.Module]

_SPEC = re.compile(r"\s*([\w:.-]+)\s*(?:\((.*)\))?\s*", re.ASCII | re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_INT = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
WRITTEN: Final = "torchvision's are written tv:NAME, timm's timm:NAME."
WORDS: Final = ("unseen", "ridge", "nearest_mean")
"""What evaluation takes beside names of networks."""
_BOOLS: Final = {"true": True, "True": True, "false": False, "False": False}


def _factory(name: str) -> Factory:
    """The factory of `name`, or refuse and list the known ones."""
    prefix, short = split_zoo(name)
    if prefix:
        check_zoo_name(prefix, short)
        return partial(ZOOS[prefix].make, short)
    if name not in MODELS:
        raise unknown("model", name, MODELS, _way_out(name))
    return MODELS[name]


def _called(name: str) -> str:
    """The name of a model however it is written; that of a zoo as it is."""
    return name if split_zoo(name)[0] else find_name("model", name, MODELS, _way_out(name))


def _way_out(name: str) -> str:
    """How the name of a network is written, and what a word that is none is of."""
    word = known_as(name, WORDS)
    return f"{WRITTEN} `{word}` is a word of `dd.evaluate` and `dd.benchmark`." if word else WRITTEN


def defaults(factory: Callable[..., object]) -> dict[str, object]:
    """The options of a factory (its keyword-only parameters) and their defaults."""
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _same(value: object, default: object) -> bool:
    """Equality that tells 1 from True and from 1.0."""
    return type(value) is type(default) and value == default


def _value(text: str) -> Value:
    """The value that `text` writes: a bool, an int, a float or else a bare word."""
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text) and len(text) < 1000:
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _text(value: Value) -> str:
    """`value` as `_value` reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_call(text: str) -> tuple[str, dict[str, Value]]:
    """(name, options) of a text `name` or `name(option=value, option=value)`; blanks do not matter.

    Raises:
        InputError: not of that form, or an option given twice.
    """
    grammar = "of the form name(option=value, option=value)"
    match = _SPEC.fullmatch(text)
    if match is None:
        raise refuse("model", grammar, repr(text))
    options: dict[str, Value] = {}
    inside = match[2] or ""
    for part in inside.split(",") if inside.strip() else ():
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not (option and equals and value):
            raise refuse("model", grammar, repr(text))
        if option in options:
            raise refuse("model", "a text that gives each option once", f"{option!r} twice in {text!r}")
        options[option] = _value(value)
    return match[1], options


def write_call(name: str, options: Iterable[tuple[str, Value]]) -> str:
    """The text that `read_call` reads."""
    inside = ", ".join(f"{option}={_text(value)}" for option, value in options)
    return f"{name}({inside})" if inside else name


def canonical(options: Mapping[str, Value], known: Mapping[str, object]) -> tuple[tuple[str, Value], ...]:
    """Options sorted by name, without those at their default."""
    return tuple(sorted((k, v) for k, v in options.items() if k not in known or not _same(v, known[k])))


def check_options(maker: str, name: str, options: tuple[tuple[str, Value], ...], known: Mapping[str, object]) -> None:
    """Refuse options that are unknown, cannot be written, or not in the canonical form that `maker`.of gives."""
    for option, value in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known, "" if known else "It has no options.")
        writable = (
            bool(_WORD.fullmatch(value)) and value not in _BOOLS
            if isinstance(value, str)
            else isinstance(value, int | float) and -math.inf < value < math.inf
        )
        if not writable:
            raise refuse(option, "a whole number, a finite number, true, false or a word", shown(value))
        check_ranges(option, value)
    if options != canonical(dict(options), known):
        expected = "sorted, each once and without those at their default"
        raise refuse("options", expected, options, f"Use `{maker}.of(name, option=value)`.")


@final
@dataclass(frozen=True)
class ModelSpec:
    """A model of `MODELS`, of torchvision or of timm, and its options, as a value.

    `parse(str(spec)) == spec`, and two texts of one network give one spec: options are sorted by name and
    those at their default are left out, so `convnet(width=128)` is `convnet` and shares its stored experts.

    Attributes:
        name: a key of `MODELS`, or `tv:` and torchvision's name, or `timm:` and timm's.
        options: (name, value) pairs in that canonical form. `ModelSpec.of` makes it from keywords.

    Raises:
        InputError: unknown name or option, a value that cannot be written as a word or number, or options
            that are not in canonical form.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        check_options("ModelSpec", self.name, self.options, defaults(_factory(self.name)))

    @staticmethod
    def of(name: str, **options: Value) -> ModelSpec:
        """The spec of `name` with `options`, in canonical form.

        Raises:
            InputError: unknown name or option, or a value that cannot be written.
        """
        name = _called(name)
        return ModelSpec(name, canonical(options, defaults(_factory(name))))

    @staticmethod
    def parse(text: str) -> ModelSpec:
        """Read `name` or `name(option=value, option=value)`; blanks do not matter.

        Values are ints, floats, `true`/`false` or bare words: `convnet(width=32, norm=batch)`,
        `tv:mobilenet_v2(weights=default)`.

        Raises:
            InputError: not of that form, an option given twice, or an unknown name or option.
        """
        name, options = read_call(text)
        return ModelSpec.of(_called(name), **options)

    def __str__(self) -> str:
        """The canonical text, which `parse` reads."""
        return write_call(self.name, self.options)

    @property
    def key(self) -> str:
        """What stands for this model in the key of a store."""
        return str(self)

    def make(self, channels: int, classes: int, size: Size) -> nn.Module:
        """The factory's network, drawn from the global stream; `build` is the way to a seeded one."""
        return _factory(self.name)(channels, classes, size, **dict(self.options))


@final
@dataclass(frozen=True)
class Model:
    """A user's own network, by its factory.

    Attributes:
        factory: `f(channels, classes, size) -> nn.Module`; called with three positional arguments, `size`
            as (height, width) in pixels. Each call must make a new network. A class may be a factory.
        name: what stands for it in stores and reports: letters, digits, `.`, `_` and `-`. Choose another name
            when the network changes, or stored experts of the old one will be taken for it.

    Raises:
        InputError: the factory is not callable, or is a network already; or the name has other characters
            or is one of this library's.
    """

    factory: Factory
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.factory, nn.Module) or not callable(self.factory):
            got = f"a {type(self.factory).__name__}"
            way_out = "A network that is made already cannot be drawn anew: pass its class or a function."
            raise refuse("factory", "a function f(channels, classes, size) -> nn.Module", got, way_out)
        if self.name is not None and not _WORD.fullmatch(self.name):
            raise refuse("name", "letters, digits, `.`, `_` and `-`, a letter first", repr(self.name))
        if known_as(self.name, [*MODELS, *WORDS]) is not None:
            raise refuse("name", "other than the library's models and words of evaluation", repr(self.name))

    def __str__(self) -> str:
        """The name, or the factory's own name in angle brackets."""
        own = getattr(self.factory, "__qualname__", type(self.factory).__name__)
        return self.name if self.name is not None else f"<{own}>"

    @property
    def key(self) -> str:
        """What stands for this model in the key of a store.

        Raises:
            InputError: it has no name.
        """
        if self.name is None:
            way_out = 'Wrap it: dd.Model(factory, name="...").'
            raise refuse("model", "named where a store key is made", f"the bare factory {self}", way_out)
        return self.name

    def make(self, channels: int, classes: int, size: Size) -> nn.Module:
        """What the factory returns; `build` checks it.

        Raises:
            InputError: the factory cannot be called with (channels, classes, size).
        """
        return call_factory(self.factory, f"{self}", "f(channels, classes, size)", channels, classes, size)


def is_own_name(text: str) -> bool:
    """Whether a text, as a file holds it, is the name of a `Model`, whose code no file holds."""
    return bool(_WORD.fullmatch(text)) and known_as(text, MODELS) is None


def call_factory(factory: Factory, name: str, form: str, *arguments: object) -> nn.Module:
    """What a user's factory returns for some arguments.

    Raises:
        InputError: it cannot be called with them.
    """
    try:
        inspect.signature(factory).bind(*arguments)
    except TypeError as error:
        raise refuse("factory", f"callable as {form}", f"{name}: {error}") from error
    except ValueError:  # some callables in C have no signature; calling them will tell
        try:
            return factory(*arguments)
        except TypeError as error:
            raise refuse("factory", f"callable as {form}", f"{name}: {error}") from error
    return factory(*arguments)


AnyModel = str | ModelSpec | Model | Factory
"""A text such as `convnet(width=32)`, a spec, a named factory or a bare one."""


def as_spec(value: AnyModel) -> ModelSpec | Model:
    """A text, a spec, a `Model` or a bare factory (which stays nameless) as `ModelSpec` or `Model`.

    Raises:
        InputError: none of these; a network that is made already; or a text that `ModelSpec.parse` refuses.
    """
    if isinstance(value, ModelSpec | Model):
        return value
    if isinstance(value, str):
        return ModelSpec.parse(value)
    if isinstance(value, nn.Module) or not callable(value):
        expected = "a name such as convnet(width=32), a dd.Model or a function f(channels, classes, size)"
        way_out = (
            "Each run draws its own network: give what makes one, such as `lambda channels, classes, size: Net()`."
        )
        raise refuse("model", expected, f"a {type(value).__name__}", way_out)
    return Model(value)


@lru_cache(maxsize=256)
def _parameters(model: ModelSpec, channels: int, classes: int, size: Size) -> int:
    """Parameters of one of `MODELS`, without memory for them."""
    with isolated(0, "init"), torch.device("meta"):
        return count_parameters(model.make(channels, classes, size))


def check_size(model: AnyModel, channels: int, classes: int, size: Size) -> None:
    """Refuse a network that does not take such pictures, or would not fit, before memory is taken for it.

    Raises:
        InputError: no such network, or one of the library's that cannot be built; others are known when they are made.
    """
    spec = as_spec(model)
    if isinstance(spec, ModelSpec) and spec.name in MODELS:
        numbers = _parameters(spec, channels, classes, size)
        if spec.options:
            check_memory(f"{spec} and its gradient", [2, numbers], "Take a smaller one.")


def build(
    spec: AnyModel,
    *,
    channels: int,
    classes: int,
    size: Size,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A fresh network on the CPU, in train mode, that maps `[N, C, H, W]` to logits `[N, K]`.

    Equal seeds give equal weights, in every dtype up to its rounding, and the global stream is untouched. A
    forward pass of two black pictures checks the output; a user's own network is asked in train mode too.

    Args:
        spec: a text, a `ModelSpec`, a `Model` or a bare factory.
        channels: C, ≥ 1.
        classes: K, ≥ 1.
        size: height and width in pixels.
        seed: of the run or repeat; the initialisation is its stream "init".
        dtype: floating type of parameters and buffers.

    Raises:
        InputError: an argument is out of range, the model does not take such pictures, or a factory does not
            give a network with K outputs.
    """
    for argument, value in (("channels", channels), ("classes", classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise refuse(argument, "a whole number of at least 1", repr(value))
    if not (isinstance(size, tuple) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
        raise refuse("size", "a pair (height, width) of whole numbers of at least 1", repr(size))
    if not dtype.is_floating_point:
        raise refuse("dtype", "a floating type", dtype)
    model = as_spec(spec)
    check_size(model, channels, classes, size)
    with isolated(seed, "init"):
        net = model.make(channels, classes, size)
        if not isinstance(net, nn.Module):
            raise refuse("model", "a factory that returns an nn.Module", f"{type(net).__name__} from {model}")
        way_out = "Make the factory use its `classes` and return the logits alone."
        check_network(net, str(model), channels, classes, size, way_out, train=isinstance(model, Model))
    if tangled := [name for name, p in net.named_parameters() if p.is_complex()]:
        way_out = "Hold their real and imaginary parts, as by `torch.view_as_real`."
        raise refuse("model", "a network of real weights", f"{model}, whose {tangled[0]} is complex", way_out)
    return net.to(dtype)
