# SPDX-License-Identifier: Apache-2.0
import signal

import pytest

LIMIT_SECONDS = 120  # of one test; `@pytest.mark.limit(SECONDS)` sets another


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """No test hangs the run."""
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT_SECONDS

    def too_long(*_):
        raise TimeoutError(f"the test took longer than {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)
