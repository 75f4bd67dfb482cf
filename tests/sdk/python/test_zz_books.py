# SPDX-License-Identifier: Apache-2.0
"""Runs last: the books after all the SDKs' traffic."""
from harness.process import wait_until


def test_every_answer_is_in_the_books(gateway):
    """Each answer that the provider completed is one row with the provider's own id, and no id is there twice."""
    answered = {record["request_id"] for record in gateway.records() if record["status"] == 200 and record["outcome"] == "done"}
    assert len(answered) > 50

    def are_there():
        rows = [row["upstream_id"] for row in gateway.daemon.usage(limit=10_000) if row["upstream_id"]]
        assert len(rows) == len(set(rows))
        return answered <= set(rows)

    wait_until(are_there, 10, "the rows of all answers")


def test_no_key_in_the_logs(gateway):
    log = gateway.daemon.daemon.err.read_text() + gateway.sandbox.err.read_text()
    for key in gateway.keys.values():
        assert key[-38:] not in log
