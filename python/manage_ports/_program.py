"""Finds the program that was installed together with this package, and runs it."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from ._errors import Error, error

_NAME = "manage-ports"
_LOG = logging.getLogger("manage_ports")

# Seconds that the program has to end after an interrupt, before it is killed.
_PATIENCE = 1.0

_program: Optional[str] = None


def run(command: str, database: Optional[str], arguments: Sequence[str]) -> str:
    """Run a command of the program with ``--format=json``, wait for its end and return its stdout.

    The notices and warnings that it prints go to the logger ``manage_ports``. An answer of no, which
    is exit code 1, is an answer like others.

    Raises the exception of the program's error, or ``Error`` if the program cannot be run or does not
    end by itself.
    """
    arguments = [command, "--format=json", *arguments]
    environment = dict(os.environ)
    # Other users can read a program's arguments, but not its environment.
    if database is not None and _may_hold_password(database):
        environment["MANAGE_PORTS_DATABASE"] = database
    elif database is not None:
        arguments.insert(1, f"--database={database}")
    process = _start(arguments, environment)
    with process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:  # KeyboardInterrupt, or another that a signal handler raised.
            _stop(process)
            raise
    failure = _read_stderr(stderr, process.returncode)
    if failure is not None:
        raise failure
    if process.returncode not in (0, 1):
        raise _unexpected_end(process.returncode)
    return stdout.decode("utf-8")


def _may_hold_password(database: str) -> bool:
    return "://" in database and ("@" in database or "password" in database)


def _start(arguments: List[str], environment: Dict[str, str]) -> subprocess.Popen[bytes]:
    program = _find()
    try:
        # The program reads its arguments as UTF-8, whatever the locale is.
        encoded = [argument.encode("utf-8", "surrogateescape") for argument in arguments]
    except UnicodeEncodeError as err:
        raise error("usage", f"{err.object!r} cannot be written as UTF-8: {err.reason}", None, 2) from None
    for argument in arguments:
        if "\0" in argument:
            raise error("usage", f"{argument!r} contains a NUL character", None, 2)
    try:
        return subprocess.Popen(
            [os.fsencode(program), *encoded],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as err:
        if err.errno == errno.E2BIG:
            raise error("usage", "the arguments are too long for one call", None, 2) from err
        # The shell's codes for a program that cannot be executed and for one that is not there.
        code = 127 if isinstance(err, FileNotFoundError) else 126
        raise error("io", f"cannot run {program}: {err.strerror}", None, code) from err


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the program as Ctrl-C does: it gives up its wait, but finishes a write that it has begun."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_stderr(stderr: bytes, code: int) -> Optional[Error]:
    """Log the notices and warnings in the program's lines on stderr, and return the error if there is one."""
    failure = None
    for line in stderr.decode("utf-8", "replace").split("\n"):
        told = _json_object(line)
        if "error" in told:
            found = told["error"]
            failure = error(found["kind"], found["message"], found["hint"], code)
        elif "notice" in told:
            _LOG.info("%s", told["notice"]["message"])
        elif "warning" in told:
            _LOG.warning("%s", told["warning"]["message"])
        elif line:
            _LOG.warning("%s", line)
    return failure


def _json_object(line: str) -> Dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _unexpected_end(code: int) -> Error:
    """Describe an end without an error message, such as that by a signal, which has a negative code."""
    if code >= 0:
        return error("io", f"{_NAME} ended with exit code {code} and no message", None, code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    kind = "interrupted" if -code == signal.SIGINT else "io"
    return error(kind, f"{_NAME} was ended by {name}", "call again: what was allocated stays", 128 - code)


def _find() -> str:
    """Return the path of the program; it is looked for once.

    Raises ``Error`` if the program is nowhere.
    """
    global _program
    if _program is None or not os.path.isfile(_program):
        places = list(dict.fromkeys(_places()))
        found = [place for place in places if place.is_file()]
        if not found:
            raise error(
                "io",
                f"the program {_NAME} that belongs to this package is not at {', '.join(map(str, places))}",
                f"install the package again: pip install --force-reinstall {_NAME}",
                127,
            )
        _program = str(found[0])
    return _program


def _places() -> Iterator[Path]:
    """Yield the places where an installer puts a package's programs, the most certain first."""
    site = Path(__file__).resolve().parent.parent
    # The list of installed files beside this package, and not that of another installation.
    for distribution in metadata.Distribution.discover(name=_NAME, path=[str(site)]):
        for file in distribution.files or []:
            if file.name == _NAME and file.parent.name == "bin":
                yield Path(os.path.normpath(str(distribution.locate_file(file))))
    # `pip install --target` moves the files after it has written the list.
    yield site / "bin" / _NAME
    yield Path(sysconfig.get_path("scripts")) / _NAME
    yield Path(sysconfig.get_path("scripts", f"{os.name}_user")) / _NAME
