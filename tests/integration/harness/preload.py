# SPDX-License-Identifier: Apache-2.0
"""A library of this folder that is loaded into a daemon, and the page by which it and a test tell each other things."""
import mmap
import os
import pathlib
import re
import subprocess

from .process import BINARY, clean_environment

HARNESS = pathlib.Path(__file__).parent


def sanitizer_runtime():
    """It has to be loaded before any other library."""
    listed = subprocess.run(["ldd", str(BINARY)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"=> (\S*lib[at]san\S*)", listed)
    return [found[1]] if found else []


class Preload:
    def __init__(self, folder, name, size, *flags):
        """Compiles NAME.c; its page, of `size` bytes that begin as zeros, is the file that the variable NAME names
        (shared_page.h)."""
        self.variable, self.library = name.upper(), folder / f"{name}.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", *flags, "-o", self.library, HARNESS / f"{name}.c"], check=True, timeout=60)
        self.file = open(folder / f"{name}.page", "w+b")
        self.file.truncate(size)
        self.page = mmap.mmap(self.file.fileno(), size)

    def environment(self, **more):
        libraries = [*sanitizer_runtime(), str(self.library)]
        return clean_environment(**{"LD_PRELOAD": " ".join(libraries), self.variable: self.file.name, **more})

    def close(self):
        self.page.close()
        self.file.close()
