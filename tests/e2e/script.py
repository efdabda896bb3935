"""A script that speaks messages with a test, wherever it runs: what both sides of the conversation have in common."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.patience import LONG_S

Message = dict[str, Any]


class Script:
    """Messages a script sends are kept until somebody expects them; how commands get to it is its kind's affair."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Event()

    def hear(self, message: Message) -> None:
        """Keep a message; the type `ended` says that no other will follow."""
        self.messages.append(message)
        self._changed.set()

    def send(self, do: str, **command: Any) -> None:
        """Give the script a command."""
        raise NotImplementedError

    async def expect(self, type_: str, *, within_s: float = LONG_S, **members: Any) -> Message:
        """Take the first message not yet taken of this type and with these members."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    for number, message in enumerate(self.messages):
                        if message["type"] == type_ and all(message.get(name) == value for name, value in members.items()):
                            return self.messages.pop(number)
                        if message["type"] == "ended":
                            raise AssertionError(f"the script has ended: {message}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {within_s} s for {type_} {members}; there came {self.messages[-30:]}") from None

    async def ask(self, do: str, **command: Any) -> Any:
        """Give a command that is answered, and return the answer; an error of the script is raised."""
        self.send(do, **command)
        message = await self.expect("answer", to=do)
        assert "error" not in message, message["error"]
        return message["value"]

    async def stop(self) -> None:
        """End the script and wait for that."""
        raise NotImplementedError
