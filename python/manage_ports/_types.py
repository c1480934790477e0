"""The values that the functions of this package return."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, List, Mapping, NamedTuple, Optional, Tuple, Union


@dataclass(frozen=True)
class Allocation:
    """The two ports of one app, as they stood in the database when the call was made.

    Two allocations are equal if they hold the same row; ``created`` is not compared.
    """

    model: str
    app_num: int
    backend_port: int
    frontend_port: int
    is_available: bool
    #: When the row was made, in UTC; None if the row does not tell.
    created_at: Optional[datetime]
    #: When the row was last changed, in UTC; None if the row does not tell.
    updated_at: Optional[datetime]
    #: The end of the reservation, in UTC; None without one. What another program wrote there and
    #: cannot be read as a time stays a str.
    reserved_until: Union[datetime, str, None]
    #: Whether this call made the allocation; None where the command does not tell, which is
    #: everywhere but in ``allocate`` and ``reserve``.
    created: Optional[bool] = field(default=None, compare=False)


class App(NamedTuple):
    """The name of an app."""

    model: str
    app_num: int


@dataclass(frozen=True)
class Finding:
    """One conflict or warning that ``check`` found."""

    #: Such as ``duplicate_backend_port``; ``manage-ports check --help`` lists all kinds.
    kind: str
    message: str
    #: What to do about it.
    hint: str
    ports: Tuple[int, ...]
    apps: Tuple[App, ...]
    #: The file that declares the ports, and the line in it, where the finding is about a file.
    file: Optional[str]
    line: Optional[int]


@dataclass(frozen=True)
class Report:
    """What ``check`` found."""

    #: Whether there is no conflict; warnings do not count.
    ok: bool
    conflicts: List[Finding]
    warnings: List[Finding]


class Kept(NamedTuple):
    """An allocation whose app has no directory, and which ``cleanup`` kept all the same."""

    model: str
    app_num: int
    #: ``reserved``, ``too_recent``, ``listening``, ``unreadable``, ``unknown`` or ``changed``.
    reason: str


class Cleanup(NamedTuple):
    """What ``cleanup`` removed, or would remove in a dry run, and what it kept."""

    removed: List[Allocation]
    kept: List[Kept]


def allocation(told: Mapping[str, Any]) -> Allocation:
    """Read an allocation object of the program."""
    until = told["reserved_until"]
    return Allocation(
        model=told["model"],
        app_num=told["app_num"],
        backend_port=told["backend_port"],
        frontend_port=told["frontend_port"],
        is_available=told["is_available"],
        created_at=_moment(told["created_at"]),
        updated_at=_moment(told["updated_at"]),
        reserved_until=_moment(until) or until,
        created=told.get("created"),
    )


def finding(told: Mapping[str, Any]) -> Finding:
    """Read a finding of the program."""
    return Finding(
        kind=told["kind"],
        message=told["message"],
        hint=told["hint"],
        ports=tuple(told["ports"]),
        apps=tuple(App(app["model"], app["app_num"]) for app in told["apps"]),
        file=told["file"],
        line=told["line"],
    )


def kept(told: Mapping[str, Any]) -> Kept:
    """Read an allocation that a cleanup kept."""
    return Kept(told["model"], told["app_num"], told["reason"])


def _moment(text: Optional[str]) -> Optional[datetime]:
    """Read a time in UTC; None if the text is none, or lies outside the years that Python has."""
    if text is None or not text.endswith("Z"):
        return None
    try:
        # Python reads the Z itself since 3.11.
        return datetime.fromisoformat(f"{text[:-1]}+00:00")
    except ValueError:
        return None
