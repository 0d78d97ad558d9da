"""Many runs: their numbers, means with intervals, claims and tables.

Python puts a package in the place of its name as soon as any of its modules is loaded. So that `taskcluster.results` is
the library's function all the same, the package can be called.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcluster.results.frame import results as results
else:

    class _Callable(ModuleType):
        def __call__(self, folder: Any) -> Any:
            from taskcluster.results.frame import results

            return results(folder)

    results = sys.modules[__name__]
    results.__class__ = _Callable
