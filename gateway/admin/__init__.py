"""The operator's port: health, metrics, questions about the live state and the webhooks, and orders.

Theory of operation
-------------------
A listener of its own, so that what is public and what is the operator's can be kept apart by address and by firewall. Every
request passes the guard first (`guard.py`); only health needs no token. Questions read what the node, the recorder and the
desk know; none walks through all connections or channels in one turn of the loop (`page.py`, `traffic.py`), and what the
disk must be asked is asked once for all who want to know (`stock.py`). Counters stay where things are counted: a scrape
reads them (`metric.py`).
"""
