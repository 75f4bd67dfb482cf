# SPDX-License-Identifier: Apache-2.0
"""A wall clock that a test sets for a daemon; timers, which are monotonic, go on as they do."""
import mmap
import os
import pathlib
import re
import struct
import subprocess
import time

from .process import BINARY, clean_environment

SOURCE = pathlib.Path(__file__).with_name("wall_clock.c")


def sanitizer_runtime():
    """It has to be loaded before any other library."""
    listed = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"=> (\S*lib[at]san\S*)", listed)
    return [found[1]] if found else []


class WallClock:
    def __init__(self, folder):
        self.library = folder / "wall_clock.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE], check=True)
        self.file = open(folder / "wall_clock.offset", "w+b")
        self.file.truncate(8)
        self.offset = mmap.mmap(self.file.fileno(), 8)

    def environment(self):
        return clean_environment(LD_PRELOAD=" ".join([*sanitizer_runtime(), str(self.library)]), WALL_CLOCK_OFFSET=self.file.name)

    def set(self, at):
        """From now on it is `at`, seconds since 1970, and time goes on from there."""
        self.offset[:] = struct.pack("=q", int((at - time.time()) * 10**9))

    def close(self):
        self.offset.close()
        self.file.close()
