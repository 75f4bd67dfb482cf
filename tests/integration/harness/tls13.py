# SPDX-License-Identifier: Apache-2.0
"""A TLS 1.3 client that handshakes as usual and then seals records of its own making (RFC 8446 §5.2, §7.2)."""
import ctypes
import ctypes.util
import hashlib
import hmac
import ssl
import struct

APPLICATION, HANDSHAKE = 23, 22
GET_TAG = 0x10  # EVP_CTRL_AEAD_GET_TAG
TAG_BYTES = 16


def load_crypto():
    library = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")
    pointer = ctypes.c_void_p
    library.EVP_CIPHER_CTX_new.restype = library.EVP_aes_256_gcm.restype = pointer
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_EncryptInit_ex.argtypes = [pointer, pointer, pointer, ctypes.c_char_p, ctypes.c_char_p]
    library.EVP_EncryptUpdate.argtypes = [pointer, pointer, ctypes.POINTER(ctypes.c_int), ctypes.c_char_p, ctypes.c_int]
    library.EVP_EncryptFinal_ex.argtypes = [pointer, pointer, ctypes.POINTER(ctypes.c_int)]
    library.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, ctypes.c_int, ctypes.c_int, pointer]
    return library


CRYPTO = load_crypto()


def aes_256_gcm(key, nonce, aad, plain):
    context, size = CRYPTO.EVP_CIPHER_CTX_new(), ctypes.c_int()
    out, tag = ctypes.create_string_buffer(len(plain) + TAG_BYTES), ctypes.create_string_buffer(TAG_BYTES)
    assert CRYPTO.EVP_EncryptInit_ex(context, CRYPTO.EVP_aes_256_gcm(), None, key, nonce)
    assert CRYPTO.EVP_EncryptUpdate(context, None, ctypes.byref(size), aad, len(aad))
    assert CRYPTO.EVP_EncryptUpdate(context, out, ctypes.byref(size), plain, len(plain))
    assert CRYPTO.EVP_EncryptFinal_ex(context, tag, ctypes.byref(size))
    assert CRYPTO.EVP_CIPHER_CTX_ctrl(context, GET_TAG, TAG_BYTES, tag)
    CRYPTO.EVP_CIPHER_CTX_free(context)
    return out.raw[:len(plain)] + tag.raw


def expand_label(secret, label, size):
    """HKDF-Expand-Label with an empty context; one block of SHA-384 is all that is ever asked for."""
    name = b"tls13 " + label
    info = struct.pack(">HB", size, len(name)) + name + b"\0"
    return hmac.new(secret, info + b"\1", hashlib.sha384).digest()[:size]


class Tls13Client:
    """Over a connected plain RawClient."""

    def __init__(self, client, context, key_log):
        context.keylog_filename = str(key_log)
        self.client = client
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self._handshake()
        assert self.session.cipher()[0] == "TLS_AES_256_GCM_SHA384", self.session.cipher()
        lines = key_log.read_text().splitlines()
        (self.secret,) = [bytes.fromhex(line.split()[2]) for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0")][-1:]
        self._use_secret()

    def _handshake(self):
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self.client.send(self.outgoing.read())
                self.incoming.write(self.client.receive())
                continue
            self.client.send(self.outgoing.read())
            return

    def _use_secret(self):
        self.key, self.iv = expand_label(self.secret, b"key", 32), expand_label(self.secret, b"iv", 12)
        self.sequence = 0

    def record(self, content, type_=APPLICATION):
        """The bytes of the next record."""
        plain = content + bytes([type_])
        header = struct.pack(">BHH", APPLICATION, 0x0303, len(plain) + TAG_BYTES)
        nonce = bytes(a ^ b for a, b in zip(self.iv, self.sequence.to_bytes(12, "big")))
        self.sequence += 1
        return header + aes_256_gcm(self.key, nonce, header, plain)

    def key_update(self, asks_for_one):
        """The bytes of a KeyUpdate; what follows is sealed with the next key."""
        sealed = self.record(bytes([24, 0, 0, 1, int(asks_for_one)]), HANDSHAKE)
        self.secret = expand_label(self.secret, b"traffic upd", 48)
        self._use_secret()
        return sealed

    def read(self):
        """Decrypted bytes, b"" at the end of the connection, whether it came with an alert or without."""
        while True:
            try:
                return self.session.read(65536)
            except ssl.SSLWantReadError:
                data = self.client.receive()
                if not data:
                    return b""
                self.incoming.write(data)
            except ssl.SSLError:
                return b""
