"""For tests of a method of one's own: `check_method` proves of any value what the library's own methods promise.

    import dd.testing

    def test_my_method():
        dd.testing.check_method(MyMethod(ipc=2, iterations=3))

Runs are as short as the method's own settings make them: give it few iterations and small networks.
"""

from dd.testing.check import check_method
from dd.testing.settings import tiny

__all__ = ["check_method", "tiny"]
