# SPDX-License-Identifier: Apache-2.0
"""A disk under the daemon's journal that a test slows down, stops and breaks."""
import mmap
import os
import pathlib
import struct
import subprocess

from .process import clean_environment, wait_until
from .wall_clock import sanitizer_runtime

SOURCE = pathlib.Path(__file__).with_name("slow_disk.c")
FIELDS = ("delay_us", "holds", "error", "begun", "done")
SYNCS = 4096


class SlowDisk:
    def __init__(self, folder):
        self.library = folder / "slow_disk.so"
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", self.library, SOURCE], check=True, timeout=60)
        size = 8 * (len(FIELDS) + 2 * SYNCS)
        self.file = open(folder / "slow_disk.page", "w+b")
        self.file.truncate(size)
        self.page = mmap.mmap(self.file.fileno(), size)

    def environment(self):
        return clean_environment(LD_PRELOAD=" ".join([*sanitizer_runtime(), str(self.library)]), SLOW_DISK=self.file.name)

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

    def close(self):
        self.page.close()
        self.file.close()
