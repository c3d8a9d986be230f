"""What specs of networks on graphs share, whatever table they are of: a name with options, and a user's own factory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from dd.base.bounds import check_memory
from dd.base.seeding import isolated
from dd.errors import find_name, refuse, unknown
from dd.models.images.spec import Value, canonical, check_options, defaults, read_call, write_call
from dd.models.probe import count_parameters


@dataclass(frozen=True)
class NamedNet:
    """A network of a table and its options, as a value; `parse(str(spec)) == spec`, as with `ModelSpec`.

    Attributes:
        table, what, elsewhere: of the class: name → factory, what a message calls an entry, and where others are.
        name: a key of the table.
        options: (name, value) pairs, sorted and without those at their default. `of` makes them.

    Raises:
        InputError: unknown name or option, a value that cannot be written, or options not in canonical form.
    """

    table: ClassVar[Mapping[str, Callable[..., nn.Module]]]
    what: ClassVar[str]
    elsewhere: ClassVar[str] = ""
    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if any(option == "dropout" for option, _ in self.options):
            raise refuse("model", "without `dropout`, which the training recipe has", repr(str(self)))
        if self.name not in self.table:
            raise unknown(self.what, self.name, self.table)
        check_options(type(self).__name__, self.name, self.options, defaults(self.table[self.name]))

    @classmethod
    def of(cls, name: str, **options: Value) -> Self:
        """The spec of `name` with `options`, in canonical form.

        Raises:
            InputError: unknown name or option, or a value that cannot be written.
        """
        name = find_name(cls.what, name, cls.table, cls.elsewhere)
        return cls(name, canonical(options, defaults(cls.table[name])))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name` or `name(option=value, option=value)`, such as `gcn(width=128)`.

        Raises:
            InputError: not of that form, an option given twice, or an unknown name or option.
        """
        name, options = read_call(text)
        return cls.of(name, **options)

    def __str__(self) -> str:
        """The canonical text, which `parse` reads."""
        return write_call(self.name, self.options)

    def make(self, *arguments: Any) -> nn.Module:
        """The network of the factory's positional arguments, drawn from the global stream."""
        return self.table[self.name](*arguments, **dict(self.options))

    def check_size(self, seed: int, *arguments: Any) -> None:
        """Refuse a network that this machine cannot hold, without memory for it.

        Raises:
            InputError: with both figures.
        """
        with isolated(seed, "init"), torch.device("meta"):
            parameters = count_parameters(self.make(*arguments))
        check_memory(f"{self} and its gradient", [2, parameters], "Take a smaller one.")


@dataclass(frozen=True)
class OwnFactory:
    """A user's own network on graphs, by its factory.

    Attributes:
        form, table, what: of the class: how the factory is called, and the library's networks with their name.
        factory: each call must make a new network.
        name: how reports call it.

    Raises:
        InputError: the factory is not callable, or is a network already; or the name is one of this library's.
    """

    form: ClassVar[str]
    table: ClassVar[Mapping[str, Callable[..., nn.Module]]]
    what: ClassVar[str]
    factory: Callable[..., nn.Module]
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.factory, nn.Module) or not callable(self.factory):
            way_out = "A network that is made already cannot be drawn anew: pass its class or a function."
            expected = f"a function {self.form} -> nn.Module"
            raise refuse("factory", expected, f"a {type(self.factory).__name__}", way_out)
        if self.name in self.table:
            raise refuse("name", f"other than the library's {self.what}", repr(self.name))

    def __str__(self) -> str:
        """The name, or the factory's own name in angle brackets."""
        own = getattr(self.factory, "__qualname__", type(self.factory).__name__)
        return self.name if self.name is not None else f"<{own}>"
