"""Who a connection says it is: what an app's backend has signed about a user, read with care.

Both texts are read after their signature was verified, so what is wrong in them is a backend's mistake: the sentences say
where it is. A user id is a string; what a presence channel tells of a user is `user_info` as compact JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.app import Limits
from gateway.core.roster import Member

#: How deeply a member's `user_info` may nest; it is embedded in frames and webhooks, which must stay writable.
DEEPEST_INFO = 64

#: Characters of the id that is signed in with: what the server SDKs take.
LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class User:
    """A user who has signed in."""

    id: str
    #: as whom on presence channels, if a subscription does not say it; a sentence: why as nobody
    member: Member | str
    #: whose coming and going the connection is told of, each once
    watchlist: tuple[str, ...] = ()
    #: the list was longer than allowed
    is_cut: bool = False


def member_of(channel_data: str | None, limits: Limits) -> Member | str:
    """Return whom a presence subscription's `channel_data` names, or a sentence that says why nobody.

    `user_id` is a string or an integer, which becomes its decimal text. A `user_info` that is no object becomes `{}`:
    backends which answer an authorisation with `true` or an empty list mean that they have nothing to say about the user.
    """
    if channel_data is None:
        return "channel_data is missing: a presence channel needs a user_id, or a connection that has signed in"
    data = _object(channel_data, "channel_data")
    if isinstance(data, str):
        return data
    user_id = _id(data.get("user_id"))
    if not user_id:
        return "channel_data.user_id must be a string that is not empty, or an integer of at most 64 bits"
    return _member(user_id, data.get("user_info"), limits, "channel_data.user_id", "channel_data.user_info")


def user_of(user_data: str, limits: Limits, *, watches: bool) -> User | str:
    """Return whom a sign-in's `user_data` names, or a sentence that says why nobody.

    `id` must be a string: clients refuse the answer otherwise (Pusher protocol: signing in). What only a presence channel
    needs may be wrong as long as none is asked for. Without `watches` the watchlist is not looked at.
    """
    data = _object(user_data, "user_data")
    if isinstance(data, str):
        return data
    user_id = data.get("id")
    if not isinstance(user_id, str) or not user_id:
        return "user_data.id must be a string that is not empty"
    if len(user_id) > LONGEST_ID:
        return f"user_data.id may have {LONGEST_ID} characters"
    member = _member(user_id, data.get("user_info"), limits, "user_data.id", "user_data.user_info")
    watchlist = data.get("watchlist") if watches else None
    if watchlist is None:
        return User(user_id, member)
    if not isinstance(watchlist, list):
        return "user_data.watchlist must be a list of user ids"
    watched = [_id(one) for one in watchlist]
    if not all(watched):
        return "user_data.watchlist must hold user ids: strings that are not empty"
    distinct = tuple(dict.fromkeys(watched))
    return User(user_id, member, distinct[: limits.watchlist], is_cut=len(distinct) > limits.watchlist)


def _object(text: str, where: str) -> dict[str, Any] | str:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"{where} must be JSON: {error}"
    return data if isinstance(data, dict) else f"{where} must be a JSON object"


def _id(value: object) -> str:
    """Return a user id, which may come as an integer; empty if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _member(user_id: str, info: object, limits: Limits, id_at: str, info_at: str) -> Member | str:
    if len(user_id) > limits.presence_user_id:
        return f"{id_at} may have {limits.presence_user_id} characters on a presence channel"
    if not isinstance(info, dict):
        return Member(user_id)
    if _is_deeper(info, DEEPEST_INFO):
        return f"{info_at} may nest {DEEPEST_INFO} levels deep"
    compact = orjson.dumps(info)
    if len(compact) > limits.presence_user_info:
        return f"{info_at} may have {limits.presence_user_info} bytes"
    return Member(user_id, compact)


def _is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in value)
    return False
