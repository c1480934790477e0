"""Types lines into an interactive shell on a pseudo-terminal, and prints what each became.

On stdin: {"argv": […], "setup": "…", "dump": "…", "lines": ["…"]}. The key sequence `dump` is bound by
`setup` to print the line that is being edited as `LINE<…>END`.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

task = json.load(sys.stdin)
child, terminal = pty.fork()
if child == 0:
    os.execvp(task["argv"][0], task["argv"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 1000, 0, 0))

seen = ""


def send(text):
    os.write(terminal, text.encode())


def until(pattern):
    """What the pattern's group holds in the output from here on; fails after half a minute."""
    global seen
    deadline = time.monotonic() + 30
    while not (found := re.search(pattern, seen, re.S)):
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"no {pattern!r} in {seen!r}")
        output = os.read(terminal, 65536)
        # A shell that asks what the terminal is waits for the answer.
        if b"\x1b[c" in output or b"\x1b[0c" in output:
            send("\x1b[?62c")
        seen += output.decode(errors="replace")
    seen = seen[found.end():]
    return found.group(1)


send(task["setup"] + "\r")
send("echo REA''DY\r")
until("(READY\r?\n)")
became = []
for line in task["lines"]:
    send(line + task["dump"])
    became.append(until("LINE<(.*?)>END"))
    send("\x15")
print(json.dumps(became))
os.close(terminal)
