# SPDX-License-Identifier: Apache-2.0
"""A wall clock that a test sets for a daemon; timers, which are monotonic, go on as they do."""
import struct
import time

from .preload import Preload


class WallClock(Preload):
    def __init__(self, folder):
        super().__init__(folder, "wall_clock", 8)

    def set(self, at):
        """From now on it is `at`, seconds since 1970, and time goes on from there."""
        self.page[:] = struct.pack("=q", int((at - time.time()) * 10**9))
