"""Where lifecycle events and deliveries wait until they have been received; see `ports.Outbox` and `ports.Ledger`.

    memory.py          bounded, forgets on exit; behind it
      memory_ledger.py   what it can still tell: events, spans, attempts
    sqlite.py          durable: the face; behind it
      sqlite_ledger.py   the reading side
      ahead.py           what is next in each lane, as far as it is in memory
      behind.py          what was delivered and is written a moment later
      writer.py          the one thread that writes, in groups
      books.py           what a group of commits and settlements means in SQL, and where the lanes stand
      history.py         what is forgotten, and when
      checkpoint.py      copying the write-ahead log, beside the writer
      reader.py          the threads that only read
      row.py             records to rows and back
      store.py           opening the file: lock, version, migration, refusals
      query.py           the named statements of query.sql

Nothing here is called by more than one node: a store belongs to one process, and a lock file says so.
"""
