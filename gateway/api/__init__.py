"""The HTTP API, on aiohttp: a backend publishes and asks with the Pusher HTTP SDK it already has."""
