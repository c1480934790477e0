"""Runs a command on a pseudo-terminal of so many columns, and prints what it shows there.

python3 terminal.py COLUMNS COMMAND…
"""

import fcntl
import os
import pty
import struct
import sys
import termios

child, terminal = pty.fork()
if child == 0:
    # The size is there before the command looks at it.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, int(sys.argv[1]), 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
shown = b""
while True:
    try:
        output = os.read(terminal, 65536)
    except OSError:  # Linux says so where the other end is closed.
        break
    if not output:
        break
    shown += output
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
