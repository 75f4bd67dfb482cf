# SPDX-License-Identifier: Apache-2.0
"""A disk under the daemon's journal that a test slows down, stops and breaks."""
import struct

from .preload import Preload
from .process import wait_until

FIELDS = ("delay_us", "holds", "error", "begun", "done")
SYNCS = 4096


class SlowDisk(Preload):
    def __init__(self, folder):
        super().__init__(folder, "slow_disk", 8 * (len(FIELDS) + 2 * SYNCS))

    def set(self, field, value):
        struct.pack_into("=q", self.page, 8 * FIELDS.index(field), value)

    def get(self, field):
        return struct.unpack_from("=q", self.page, 8 * FIELDS.index(field))[0]

    def hold(self):
        """The next sync begins, and does not end. Waits for those under way."""
        wait_until(self.is_idle, 10, "the disk's rest", 0.002)
        self.set("holds", 1)

    def release(self):
        self.set("holds", 0)

    def is_idle(self):
        return self.get("begun") == self.get("done")

    def wait_held(self):
        wait_until(lambda: not self.is_idle(), 10, "a sync", 0.002)

    def syncs(self):
        """(begun, done) of each that is over, in seconds as time.monotonic() gives them."""
        count = self.get("done")
        assert count <= SYNCS
        times = struct.unpack_from(f"={2 * count}q", self.page, 8 * len(FIELDS))
        return [(times[i] / 1e9, times[i + 1] / 1e9) for i in range(0, 2 * count, 2)]
