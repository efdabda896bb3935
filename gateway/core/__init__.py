"""The pure half of the gateway: it decides, and says what must be done; it never does it.

Theory of operation
-------------------
A frame comes in, `frame.decode` makes it a typed record or a protocol error, and the connection's `session` turns it
into effects (`effect`), in the order in which they must be carried out. The node carries them out. What changes who is
subscribed goes through `hub` (this node's sockets) and `roster` (members and occupancy), and a roster answers each
change with a diff. `lifecycle` reads diffs and writes lifecycle events and the spans they open and close; `webhook`
matches events with endpoints and makes bodies; `signing` signs them; `retry` decides what an attempt's outcome means.

The laws of this room
---------------------
1. No clock, no chance, no log, no await, no socket. What is needed of these is passed in as a value.
2. Everything is deterministic: the same calls in the same order give the same results, byte for byte.
3. Input that is wrong raises one of the exceptions of `error`, or becomes an effect that says so; it never leaves
   the state half changed.
4. The live half (auth, effect, frame, hub, limit, publication, roster, session) and the webhook half (delivery, retry,
   signing, webhook) do not import each other. `lifecycle` alone knows both.
"""
