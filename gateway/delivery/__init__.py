"""From a due delivery to an answer.

`pool` holds an endpoint's `lane`s: it claims what is due, has one attempt made, settles what became of it, and waits. What
a failure means is decided in the core (`retry`, `circuit`). `sender` makes one attempt: `target` reads the URL, `address`
says which machines may be talked to, `wire` is one connection, and `answer` reads, without any socket, what comes back.

The last two are a small HTTP client of our own: per attempt it costs a third of a general one, and what a receiver that
floods or drips can take from the gateway is bounded in every part of an answer.
"""
