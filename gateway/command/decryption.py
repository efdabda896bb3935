"""Encrypted channels, opened with the master key that their publishers encrypt with (Pusher protocol: encrypted channels)."""

from __future__ import annotations

import base64
import binascii
import hashlib

import orjson

from gateway.command.error import Misused

_KEY_BYTES = 32


class Sealed:
    """Opens what was sealed with a master key: 32 bytes, written in base64, as the Pusher SDKs take it.

    Raises Misused for any other key, and where the library for it is not installed.
    """

    def __init__(self, master_key: str) -> None:
        try:
            self._master = base64.b64decode(master_key, validate=True)
        except (ValueError, binascii.Error):
            self._master = b""
        if len(self._master) != _KEY_BYTES:
            raise Misused("--master-key must be 32 bytes in base64, such as `openssl rand -base64 32` makes")
        try:
            from nacl.secret import SecretBox
        except ImportError:
            raise Misused("--master-key needs the package PyNaCl: pip install PyNaCl") from None
        self._box = SecretBox

    def open(self, channel: str, data: str) -> str:
        """Return the text that was sealed for the channel; raises ValueError with what is wrong."""
        from nacl.exceptions import CryptoError

        try:
            sealed = orjson.loads(data)
            nonce, ciphertext = (base64.b64decode(sealed[name], validate=True) for name in ("nonce", "ciphertext"))
        except (ValueError, TypeError, KeyError):
            raise ValueError("this is not encrypted, although the channel is: its publisher has no master key") from None
        key = hashlib.sha256(channel.encode() + self._master).digest()
        try:
            return self._box(key).decrypt(ciphertext, nonce).decode("utf-8", "replace")
        except (CryptoError, ValueError, TypeError):
            raise ValueError("it cannot be decrypted: its publisher has another master key") from None
