"""WebSockets, and the one listening port.

`front` listens and reads the head of the first request on each socket; `upgrade` and `remote` judge it, as plain
functions; `connection` carries a WebSocket from there on, with a `parser` lent to it while there is something to parse;
`compressed` and `deflate` do so with permessage-deflate; `wheel` tells who has been silent for too long. A connection has
no task and no timer of its own. `place` knows the places to listen, `porch` and `proxy` take the PROXY protocol off.
"""

from __future__ import annotations
