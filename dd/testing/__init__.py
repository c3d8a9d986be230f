"""For tests of a method of one's own: `check_method` proves of any value what the library's own methods promise.

    import dd.testing

    def test_my_method():
        dd.testing.check_method(MyMethod(ipc=2, iterations=3))

Runs are as short as the method's own settings make them: give it few iterations and small networks.
"""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = ["check_method", "tiny"]

if TYPE_CHECKING:
    from dd.testing.check import check_method
    from dd.testing.settings import tiny
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.testing.check": "check_method",
            "dd.testing.settings": "tiny",
        },
    )
