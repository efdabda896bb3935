"""What a connection goes through, see `connection`, and how it may be written to, see `outlet`."""

from __future__ import annotations

#: The phases of a connection, in their order. Everything else asks for one of the first two only.
HEAD, OPEN, CLOSING, ENDED, GONE = range(-1, 4)

#: Instead of the descriptor of a socket that may be written to straight: not before what the transport has is written, and
#: not at all any more.
INDIRECT, NEVER = -1, -2
