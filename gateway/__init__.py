"""RawPush Gateway: Pusher Channels over WebSockets, with webhooks whose ledger balances."""

__version__ = "0.1.0"
