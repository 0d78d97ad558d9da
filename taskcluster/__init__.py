"""Watch how a language model comes to represent tasks while it trains."""

__version__ = "0.1.0"
