"""Watch how a language model comes to represent tasks while it trains.

The names in __init__.pyi are the library: stable, and loaded when they are first used.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
