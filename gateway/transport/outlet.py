"""The walk over the subscribers of a publication: compiled where that can be had, else in Python.

A publication costs a system call per subscriber, and what the interpreter and the event loop do besides is a third as much again.
So what this walk touches of a connection is an `Outlet`, which `Line` builds on, and two functions walk over outlets:

    offer_all   notes the same frame for all subscribers, in their turn
    write_some  writes what outlets have to their sockets, past the event loop's transport

Both are there twice, with the same promises, held to by the same tests: in C (`_outlet.c`, compiled when the package is
installed, where there is a compiler) and in Python (`pure.py`, where the promises stand). With GATEWAY_PURE_PYTHON set in
the environment it is the one in Python; the first lines of the log say which it is.

Order and bounds hold because an outlet is written to straight only while it is open and its transport has nothing left to
write. What the socket does not take, or any trouble with it, goes to `Line.write_out`, and so to the transport: it keeps
what waits and knows how much, it notices when the socket takes more, and it reports what is wrong. The number of a descriptor
is somebody else's once it is closed, so whatever ends a connection takes the descriptor from its outlet at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING or os.environ.get("GATEWAY_PURE_PYTHON"):
    from gateway.transport.pure import Outlet, offer_all, write_some
else:
    try:
        from gateway.transport._outlet import Outlet, offer_all, write_some
    except ImportError:
        from gateway.transport.pure import Outlet, offer_all, write_some

__all__ = ["IS_COMPILED", "Outlet", "offer_all", "write_some"]

#: Whether the walk is compiled.
IS_COMPILED = Outlet.__module__ == "gateway.transport._outlet"
