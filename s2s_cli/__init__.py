"""s2s: train, run and score sequence-to-sequence translation models from one YAML file.

`from s2s_cli import Translator` translates from Python (docs/python.md). What is named here is imported only when it is
asked for, so that `import s2s_cli` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2s_cli.errors import RunFailed, S2SError, UserError
    from s2s_cli.translate.entry import Entry, Notices, Translation
    from s2s_cli.translate.translator import Translator
    from s2s_cli.translate.wishes import Term, Wishes

__version__ = "0.1.0"
__all__ = ["Entry", "Notices", "RunFailed", "S2SError", "Term", "Translation", "Translator", "UserError", "Wishes"]

_HOMES = {
    "Entry": "s2s_cli.translate.entry",
    "Notices": "s2s_cli.translate.entry",
    "RunFailed": "s2s_cli.errors",
    "S2SError": "s2s_cli.errors",
    "Term": "s2s_cli.translate.wishes",
    "Translation": "s2s_cli.translate.entry",
    "Translator": "s2s_cli.translate.translator",
    "UserError": "s2s_cli.errors",
    "Wishes": "s2s_cli.translate.wishes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
