"""The process that paints thumbnails (`main`): it reads requests and answers with JPEG. It may be killed at any time.

It has no torch, so it starts fast. A request is one line of JSON, {"path", "at", "width"}; an answer is the number of
bytes that follow, as four bytes, 0 where there is no picture.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys

import av
import av.logging

from vtr.evaluation.thumbnails import jpeg
from vtr.parent import die_with_parent

HEADER = struct.Struct(">I")
NICER = 5


def main() -> None:
    """Answer requests from standard input until it ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when to stop
    os.nice(NICER)  # searches come first
    av.logging.set_level(av.logging.PANIC)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            picture = jpeg(request["path"], request["at"], request["width"])
        except (av.FFmpegError, OSError, ValueError, IndexError, MemoryError):
            picture = b""
        answers.write(HEADER.pack(len(picture)) + picture)
        answers.flush()


if __name__ == "__main__":
    main()
