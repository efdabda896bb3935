"""Commands that talk to a running gateway over its HTTP API, as a back end would."""
