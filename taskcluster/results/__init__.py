"""Many runs: their numbers, means with intervals, claims and tables.

Python binds a package to its name as soon as any of its modules is loaded. The package is callable so that
`taskcluster.results` is still the library's function.
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
