"""Where lifecycle events and deliveries wait until they have been received; see `ports.Outbox` for the contract.

    memory.py   bounded, forgets on exit
    sqlite.py   durable: the face; behind it
      writer.py   the one thread that writes, in groups
      reader.py   the other thread, which only reads
      ledger.py   what a group of commits and settlements means in SQL
      row.py      records to rows and back
      store.py    opening the file: lock, version, migration, refusals
      query.py    the named statements of query.sql

Nothing here is called by more than one node: a store belongs to one process, and a lock file says so.
"""
