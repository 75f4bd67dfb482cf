# SPDX-License-Identifier: Apache-2.0
"""The admin socket without the command line: one call costs no process."""
import http.client
import json
import socket


class Refused(Exception):
    def __init__(self, status, code, message):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message


def admin_call(installation, operation, **arguments):
    """The result of one operation ("key.create")."""
    connection = http.client.HTTPConnection("admin", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    try:
        connection.sock.connect(str(installation.folder / "chaperone.sock"))
        connection.request("POST", "/v1/" + operation.replace(".", "/"), json.dumps(arguments))
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise Refused(response.status, answer["error"]["code"], answer["error"]["message"])
    return answer["result"]
