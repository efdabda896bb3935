"""From a due delivery to an answer.

`pool` holds an endpoint's `lane`s: it claims what is due, has one attempt made, settles what became of it, and waits. What
a failure means is decided in the core (`retry`, `circuit`). `sender` makes one attempt through aiohttp's client, and
`address` says which machines may be talked to.
"""
