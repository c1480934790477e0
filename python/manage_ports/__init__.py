"""Gives every generated app a backend and a frontend port of its own, safely from many processes.

    >>> import manage_ports
    >>> pair = manage_ports.allocate("openai_gpt-4.1", 3)
    >>> pair.backend_port, pair.frontend_port
    (5001, 8001)

Each function runs the program ``manage-ports`` that was installed with this package, and returns when
it has ended; what was allocated, reserved or released is durable then. The functions may be called from
any number of threads and processes. ``manage-ports COMMAND --help`` describes each command in full.

**Commit first.** The program is another process than yours. If your process has a write transaction open
on the same database, the program waits for it, and your transaction cannot end before the call returns:
the call fails with ``LockedError`` after ``timeout``. Call with no transaction of your own open, or
commit it before you call.

Every function takes the same settings, all of them optional. A setting that is left out comes from the
environment (``MANAGE_PORTS_DATABASE`` and so on), then from ``manage-ports.toml`` in the current folder
or the nearest one above it:

- ``database``: a path or a URL, such as ``postgresql://user@host/ports``
- ``apps_dir``: the folder that holds ``<model>/app<N>``
- ``config``: the configuration file
- ``timeout``: the longest wait for other writers, a ``timedelta``

Every function raises a subclass of ``Error``: ``UsageError`` if an argument is wrong, ``ConfigError`` if
the configuration is, ``DatabaseError`` if the database cannot be used and ``LockedError`` if it stayed
locked; ``Error`` itself for the rest, for example if the program cannot be run. What else a function
raises is said there. What the program notes and warns of goes to the logger ``manage_ports``.
"""

from __future__ import annotations

import json
import operator
import os
from datetime import timedelta
from typing import Iterable, Iterator, List, Optional, Union, overload

from ._errors import (
    AppsDirError,
    ConfigError,
    ConflictError,
    DatabaseError,
    Error,
    ExhaustedError,
    LockedError,
    UsageError,
)
from ._program import run as _run
from ._types import Allocation, App, Cleanup, Finding, Kept, Report
from ._types import allocation as _allocation
from ._types import finding as _finding
from ._types import kept as _kept

__all__ = [
    "Allocation",
    "App",
    "AppsDirError",
    "Cleanup",
    "ConfigError",
    "ConflictError",
    "DatabaseError",
    "Error",
    "ExhaustedError",
    "Finding",
    "Kept",
    "LockedError",
    "Report",
    "UsageError",
    "allocate",
    "check",
    "cleanup",
    "list_allocations",
    "release",
    "reserve",
    "show",
]

_Path = Union[str, "os.PathLike[str]"]

# The most apps that the program takes in one call. One more is passed on, so that the program says so.
_APPS_MAX = 10_000


@overload
def allocate(
    model: str,
    app_or_apps: int,
    *,
    backend_port: Optional[int] = None,
    frontend_port: Optional[int] = None,
    probe: bool = True,
    env_file: Optional[_Path] = None,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Allocation: ...


@overload
def allocate(
    model: str,
    app_or_apps: Iterable[int],
    *,
    backend_port: Optional[int] = None,
    frontend_port: Optional[int] = None,
    probe: bool = True,
    env_file: Optional[_Path] = None,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> List[Allocation]: ...


def allocate(
    model: str,
    app_or_apps: Union[int, Iterable[int]],
    *,
    backend_port: Optional[int] = None,
    frontend_port: Optional[int] = None,
    probe: bool = True,
    env_file: Optional[_Path] = None,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Union[Allocation, List[Allocation]]:
    """Give an app its two ports, or several apps theirs: the ones they have, or the lowest free pair.

    Returns an ``Allocation`` for one app, and a list with one for each number, in the order given, for an
    iterable of numbers (at most 10,000). Several apps are given ports all together or not at all. Calling
    again returns the same ports again.

    ``backend_port`` with ``frontend_port`` asks for that pair, for one app. ``probe=False`` hands out ports
    that something on this machine listens on, too; ``probe=True`` follows the configuration. ``env_file``
    names a file to set the ports in, in which ``{model}``, ``{safe_model}``, ``{app}`` and ``{dir}`` stand
    for what they are of each app.

    Raises ``ExhaustedError`` if no free pair is left, ``ConflictError`` if the pair that was asked for is
    taken or refused, and ``Error`` with the kind ``io`` if the file cannot be written.
    """
    arguments = _options(
        apps_dir, config, timeout, backend_port=backend_port, frontend_port=frontend_port, env_file=env_file
    )
    if not probe:
        arguments.append("--no-probe")
    return _give("allocate", database, model, app_or_apps, arguments)


@overload
def reserve(
    model: str,
    apps: int,
    duration: timedelta,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Allocation: ...


@overload
def reserve(
    model: str,
    apps: Iterable[int],
    duration: timedelta,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> List[Allocation]: ...


def reserve(
    model: str,
    apps: Union[int, Iterable[int]],
    duration: timedelta,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Union[Allocation, List[Allocation]]:
    """Give planned apps their ports, and hold them for ``duration`` from now on.

    ``cleanup`` leaves the apps alone until then, whether they have a directory or not. Reserving again
    extends the time and never shortens it. Returns what ``allocate`` returns.

    Raises ``ExhaustedError`` if no free pair is left.
    """
    arguments = _options(apps_dir, config, timeout)
    arguments.append(f"--for={_duration(duration)}")
    return _give("reserve", database, model, apps, arguments)


@overload
def release(
    model: str,
    app_or_apps: int,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> bool: ...


@overload
def release(
    model: str,
    app_or_apps: Iterable[int],
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> List[Allocation]: ...


def release(
    model: str,
    app_or_apps: Union[int, Iterable[int]],
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Union[bool, List[Allocation]]:
    """Release the ports of an app, or of several apps in one transaction.

    Returns for one app whether it had ports, and for an iterable of numbers those allocations that were
    found and released, by number.
    """
    apps = _numbers(app_or_apps)
    released: List[Allocation] = []
    if apps:
        arguments = [*_options(apps_dir, config, timeout), *_named(model, apps)]
        released = [_allocation(row) for row in json.loads(_call("release", database, arguments))["released"]]
    return bool(released) if isinstance(app_or_apps, int) else released


def list_allocations(
    model: Optional[str] = None,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> List[Allocation]:
    """List all allocations, or those of the models that match a glob such as ``openai_*``.

    They are sorted by model, then by app number.
    """
    arguments = _options(apps_dir, config, timeout, model=model)
    return [_allocation(row) for row in json.loads(_call("list", database, arguments))]


def show(
    model: str,
    app: int,
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Optional[Allocation]:
    """Look up the allocation of an app without making one; None if the app has none."""
    arguments = [*_options(apps_dir, config, timeout), *_named(model, [operator.index(app)])]
    answer = _call("show", database, arguments)
    return _allocation(json.loads(answer)) if answer else None


def check(
    *,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Report:
    """Find conflicts among the allocations, and between them and the files of the apps.

    Nothing is changed. Conflicts are in the report and raise nothing.

    Raises ``AppsDirError`` if an apps directory was named and is missing or unreadable.
    """
    report = json.loads(_call("check", database, _options(apps_dir, config, timeout)))
    conflicts, warnings = ([_finding(told) for told in report[part]] for part in ("conflicts", "warnings"))
    return Report(report["ok"], conflicts, warnings)


def cleanup(
    model: Optional[str] = None,
    *,
    dry_run: bool = False,
    min_age: Optional[timedelta] = None,
    database: Optional[_Path] = None,
    apps_dir: Optional[_Path] = None,
    config: Optional[_Path] = None,
    timeout: Optional[timedelta] = None,
) -> Cleanup:
    """Remove the allocations of apps whose directory is gone, all or those of the models that match a glob.

    An allocation is kept while it is reserved, younger than ``min_age`` (10 minutes, unless the
    configuration says otherwise), or while something listens on its ports. ``dry_run=True`` returns what
    would be removed, and removes nothing.

    Raises ``AppsDirError`` if the apps directory is missing, unreadable or suspiciously empty; nothing is
    removed then.
    """
    arguments = _options(apps_dir, config, timeout)
    if dry_run:
        arguments.append("--dry-run")
    if min_age is not None:
        arguments.append(f"--min-age={_duration(min_age)}")
    if model is not None:
        arguments += ["--", model]
    report = json.loads(_call("cleanup", database, arguments))
    return Cleanup([_allocation(row) for row in report["removed"]], [_kept(told) for told in report["kept"]])


def _give(
    command: str,
    database: Optional[_Path],
    model: str,
    app_or_apps: Union[int, Iterable[int]],
    arguments: List[str],
) -> Union[Allocation, List[Allocation]]:
    apps = _numbers(app_or_apps)
    if not apps:
        return []
    answer = _call(command, database, [*arguments, *_named(model, apps)])
    rows = (_allocation(json.loads(line)) for line in answer.split("\n") if line)
    given = {row.app_num: row for row in rows}
    return given[apps[0]] if isinstance(app_or_apps, int) else [given[app] for app in apps]


def _call(command: str, database: Optional[_Path], arguments: List[str]) -> str:
    return _run(command, None if database is None else _text(database), arguments)


def _options(
    apps_dir: Optional[_Path],
    config: Optional[_Path],
    timeout: Optional[timedelta],
    **others: Union[_Path, int, None],
) -> List[str]:
    """Return the settings, and other options with a value, as the program's flags."""
    settings = dict(apps_dir=apps_dir, config=config, **others)
    # A value that begins with a dash is none of its own flag in this form.
    options = [f"--{name.replace('_', '-')}={_text(value)}" for name, value in settings.items() if value is not None]
    if timeout is not None:
        options.append(f"--timeout={_duration(timeout)}")
    return options


def _text(value: Union[_Path, int]) -> str:
    return str(value) if isinstance(value, int) else os.fsdecode(value)


def _duration(duration: timedelta) -> str:
    return f"{duration // timedelta(microseconds=1)}us"


def _numbers(app_or_apps: Union[int, Iterable[int]]) -> List[int]:
    """Return the numbers of the apps in the order given.

    An iterable is read until it has given one app more than the program takes.
    """
    if isinstance(app_or_apps, (str, bytes)):
        raise TypeError(f"expected an app's number or several, not {app_or_apps!r}")
    if isinstance(app_or_apps, int):
        return [int(app_or_apps)]
    numbers: List[int] = []
    distinct = set()
    for number in app_or_apps:
        numbers.append(operator.index(number))
        distinct.add(numbers[-1])
        if len(distinct) > _APPS_MAX:
            break
    return numbers


def _named(model: str, apps: List[int]) -> List[str]:
    """Name apps on the program's command line, numbers that follow each other as ranges."""
    if not isinstance(model, str):
        raise TypeError(f"expected a model's name, not {model!r}")
    return [f"--model={model}", f"--app={','.join(_ranges(dict.fromkeys(apps)))}"]


def _ranges(numbers: Iterable[int]) -> Iterator[str]:
    """Yield numbers as text in their order, those that follow each other as a range."""
    first = last = None
    for number in numbers:
        if first is not None and last is not None and number == last + 1:
            last = number
            continue
        if first is not None:
            yield f"{first}" if first == last else f"{first}-{last}"
        first = last = number
    if first is not None:
        yield f"{first}" if first == last else f"{first}-{last}"
