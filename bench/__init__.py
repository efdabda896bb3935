"""Benchmarks: one question each, answered in a line, as a ratio to a floor measured in the same run.

    python -m bench                               all of them, one after the other, into a folder
    python -m bench --install-peers               the other servers that npm has, to be measured beside it
    python -m bench.curve                         what grows with the number of subscribers, channels, connections, waiting events
    python -m bench.fanout --subscribers 1000     how fast one message reaches many
    python -m bench.client_event                  how fast a client event reaches the others of its channel
    python -m bench.publish                       how many signed publishes per second
    python -m bench.connect                       how many connections per second can come and go
    python -m bench.storm                         how long those who are in wait while 10,000 others connect
    python -m bench.memory                        how much memory an idle connection takes
    python -m bench.churn --connects 1000000      whether memory stays what it was while a million come and go
    python -m bench.liveness                      what it costs to know that 50,000 idle ones are alive
    python -m bench.inside                        what 50,000 cost of the gateway's own time, without sockets
    python -m bench.webhook                       how fast and how soon webhooks arrive, and what they cost subscribers
    python -m bench.webhook --stall               how long the loop stands still meanwhile, seen by a client
    python -m bench.stop                          how long its own threads stop it, seen from within
    python -m bench.neighbour                     what a dead endpoint costs a healthy one of the same app
    python -m bench.backlog --events 1000000      how soon a gateway with a backlog is up, and how fast it drains it

Linux, with two cores: the server has the first, the load the last. Rates move with whatever else the machine does, ratios
much less. The load is in C and compiled when it is first needed; without a compiler it is in Python, and mostly too slow.
"""
