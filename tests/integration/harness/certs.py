# SPDX-License-Identifier: Apache-2.0
"""Certificates for the tests, made with the openssl command: one authority and good and bad leaves."""
import ssl
import subprocess

AUTHORITY = """
[ca]
default_ca = one
[one]
new_certs_dir = {folder}
database = {folder}/index.txt
serial = {folder}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
commonName = chaperone tests
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
"""


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class Certificates:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("1000\n")
        self.config = folder / "authority.cnf"
        self.config.write_text(AUTHORITY.format(folder=folder))
        self.ca = self._authority("ca")
        names = "DNS:localhost,IP:127.0.0.1"
        self._leaf("good", names)
        self._leaf("wrong_name", "DNS:elsewhere.example")
        self._leaf("expired", names, ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z"))
        self._leaf("not_yet", names, ("-startdate", "20900101000000Z", "-enddate", "20910101000000Z"))
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30,
                "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}",
                "-keyout", folder / "self_signed.key", "-out", folder / "self_signed.pem")

    def _authority(self, name):
        path = self.folder / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 30,
                "-config", self.config, "-extensions", "authority",
                "-keyout", self.folder / f"{name}.key", "-out", path)
        return path

    def _leaf(self, name, alternative_names, dates=("-days", 30)):
        request = self.folder / f"{name}.csr"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName={alternative_names}",
                "-keyout", self.folder / f"{name}.key", "-out", request)
        openssl("ca", "-batch", "-notext", "-config", self.config, "-cert", self.ca,
                "-keyfile", self.folder / "ca.key", "-in", request, "-out", self.folder / f"{name}.pem", *dates)

    def pem(self, name):
        return self.folder / f"{name}.pem"

    def key(self, name):
        return self.folder / f"{name}.key"

    def server(self, name):
        """A server context that presents the named leaf."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem(name), self.key(name))
        return context

    def client(self, maximum=None):
        """A client context that trusts the tests' authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if maximum:
            context.maximum_version = maximum
        return context
