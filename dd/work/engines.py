"""Adapters of engines that have no `submit` of their own, for `executor=`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, final

from dd.errors import not_installed


@final
class RayExecutor:
    """Work as tasks of Ray: `dd.distill_many(…, executor=RayExecutor(num_cpus=1))`.

    Ray itself gives a task out again whose worker was lost, `max_retries` times; only then is it told here.

    Args:
        **options: of `ray.remote`: `num_cpus`, `num_gpus`, `memory`, `max_retries`, …

    Raises:
        MissingError: Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise not_installed("RayExecutor", "ray", error) from error
        self._task = self._ray.remote(_call).options(**options) if options else self._ray.remote(_call)

    def submit(self, function: Callable[..., Any], *given: Any) -> RayFuture:
        """Give out one task; Ray is started where it is not, as `ray.init` does by default."""
        return RayFuture(self._ray, self._task.remote(function, *given))


@final
class RayFuture:
    """A task that was given out."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference = ray, reference

    def result(self) -> Any:
        """What it gave; its error is raised."""
        return self._ray.get(self._reference)


def _call(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given)
