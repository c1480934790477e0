"""The exceptions of this package: one class for each kind of failure that a caller can tell apart."""

from __future__ import annotations

from typing import Dict, Optional, Type


class Error(Exception):
    """The program failed, or could not be run; the subclasses tell the common kinds apart.

    ``kind`` is the program's name for the kind of failure: that of a subclass, or ``io`` (a file could
    not be read or written, or the program itself could not be run) or ``interrupted``. ``message``
    says what failed, ``hint`` what to do about it if anything is known, and ``exit_code`` is the
    program's exit code.
    """

    def __init__(self, kind: str, message: str, hint: Optional[str], exit_code: int) -> None:
        # All arguments go to the base class, so that the exception can be pickled.
        super().__init__(kind, message, hint, exit_code)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(Error):
    """An argument is wrong, such as app number 0; nothing was done (exit code 2)."""


class ConfigError(Error):
    """The configuration file or an environment variable is wrong (exit code 2)."""


class DatabaseError(Error):
    """The database is missing, damaged, read-only or not one of this program (exit code 3)."""


class LockedError(Error):
    """Other writers kept the database locked for longer than ``timeout`` (exit code 3).

    The writer may be the caller itself: a call that is made while the caller's own write transaction
    is open on the same database waits for that transaction, which cannot end before the call returns.
    Commit first, then call.
    """


class ExhaustedError(Error):
    """No free pair of ports is left (exit code 4)."""


class AppsDirError(Error):
    """The apps directory is missing, unreadable or suspiciously empty; nothing was removed (exit code 5)."""


class ConflictError(Error):
    """The ports asked for by number are taken or refused (exit code 6)."""


_CLASSES: Dict[str, Type[Error]] = {
    "usage": UsageError,
    "config": ConfigError,
    "database": DatabaseError,
    "locked": LockedError,
    "exhausted": ExhaustedError,
    "apps_dir": AppsDirError,
    "conflict": ConflictError,
}

_COMMIT_FIRST = "if a write transaction of your own is open on this database, commit first"


def error(kind: str, message: str, hint: Optional[str], exit_code: int) -> Error:
    """Return the exception for a kind of failure; it is not raised yet."""
    if kind == "locked":
        hint = f"{hint}; {_COMMIT_FIRST}" if hint else _COMMIT_FIRST
    return _CLASSES.get(kind, Error)(kind, message, hint, exit_code)
