__version__ = "0.1.0"

__all__ = ["UserError", "load"]

_HOME = {"load": "aliases", "UserError": "settings"}


def __getattr__(name: str):
    """Find a public name in its module when it is first asked for, so that importing stays instant."""
    from importlib import import_module

    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
