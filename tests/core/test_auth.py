"""Signatures: what is right is let in, and of what is wrong the part that is wrong is named."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.app import App
from gateway.core.auth import (
    GRACE_S,
    channel_signature_error,
    claimed_key,
    decode_text,
    sign_request,
    spellings,
    user_signature_error,
    verify_request,
)
from gateway.core.error import RequestError

APP = App(id="1001", key="demo-key", secret="demo-secret-9f3a")
NOW = 1_754_300_000
PATH = "/apps/1001/events"
BODY = b'{"name":"e"}'

text = st.text(max_size=30)
#: also the surrogates that stand for bytes, and those that stand for nothing
any_text = st.text(st.characters(), max_size=30)
raw_bytes = st.binary(max_size=60)


def digest(signed: str | bytes) -> str:
    return hmac.new(APP.secret.encode(), signed if isinstance(signed, bytes) else signed.encode(), "sha256").hexdigest()


def query(method: str = "POST", path: str = PATH, body: bytes = BODY, **changes: str | None) -> str:
    """Return the query of a signed request, in order of names, with the signature last; None leaves a parameter out."""
    parameters: dict[str, str | None] = {
        "auth_key": APP.key,
        "auth_timestamp": str(NOW),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body).hexdigest() if body else None,
        **changes,
    }
    signed = "&".join(f"{name.lower()}={value}" for name, value in sorted(parameters.items()) if value is not None)
    return _signed(method, path, signed)


def _signed(method: str, path: str, signed: str) -> str:
    string = "\n".join((method, path, signed))
    return f"{signed}&auth_signature={digest(string)}"


def verify(
    query: str, *, method: str = "POST", path: str = PATH, prefix: str = "", body: bytes = BODY, now_s: float = NOW
) -> dict[str, list[str]]:
    return verify_request(APP, method=method, paths=spellings(path, prefix), query=query, body=body, now_s=now_s)


def refusal(query: str, **request: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        verify(query, **request)  # type: ignore[arg-type]
    assert caught.value.status == 401
    assert caught.value.reason == "unauthorized"
    assert APP.secret not in str(caught.value)
    return caught.value


# -- channels


def channel_auth(signed: str) -> str:
    return f"{APP.key}:{digest(signed)}"


def test_a_right_channel_signature_has_no_error() -> None:
    assert channel_signature_error(APP, "1.2", "private-a", channel_auth("1.2:private-a"), None) is None


def test_channel_data_is_part_of_what_is_signed_even_if_empty() -> None:
    assert channel_signature_error(APP, "1.2", "private-a", channel_auth("1.2:private-a:"), "") is None
    assert channel_signature_error(APP, "1.2", "private-a", channel_auth("1.2:private-a"), "") is not None
    assert channel_signature_error(APP, "1.2", "private-a", channel_auth('1.2:private-a:{"a": 1}'), '{"a": 1}') is None


@pytest.mark.parametrize("auth", [None, "", "nocolon", ":", f"{APP.key}:", "other:00", f"{APP.key}:é", "é:00", "\ud83d:\ud83d"])
def test_a_wrong_channel_signature_is_a_sentence(auth: str | None) -> None:
    sentence = channel_signature_error(APP, "1.2", "private-a", auth, None)
    assert sentence
    assert APP.secret not in sentence
    assert digest("1.2:private-a") not in sentence


def test_the_sentence_names_the_string_to_sign() -> None:
    sentence = channel_signature_error(APP, "1.2", "presence-a", f"{APP.key}:00", '{"user_id":"7"}')
    assert sentence is not None
    assert '1.2:presence-a:{"user_id":"7"}' in sentence


def test_a_long_string_to_sign_is_cut() -> None:
    sentence = channel_signature_error(APP, "1.2", "presence-a", f"{APP.key}:00", "x" * 60_000)
    assert sentence is not None
    assert len(sentence) < 1_200


def test_upper_case_hex_is_wrong() -> None:
    assert channel_signature_error(APP, "1.2", "private-a", channel_auth("1.2:private-a").upper(), None) is not None


@given(auth=st.none() | any_text, channel=any_text, data=st.none() | any_text)
def test_no_channel_signature_raises_and_every_sentence_can_be_sent(auth: str | None, channel: str, data: str | None) -> None:
    sentence = channel_signature_error(APP, "1.2", channel, auth, data)
    assert sentence
    sentence.encode()


def test_a_sign_in_signs_its_text_as_it_came() -> None:
    data = '{"id": "u"}'
    assert user_signature_error(APP, "1.2", channel_auth(f"1.2::user::{data}"), data) is None
    for wrong in (f"1.2:user:{data}", f"1.2::user::{data} ", f"1.3::user::{data}", f"1.2:{data}"):
        sentence = user_signature_error(APP, "1.2", channel_auth(wrong), data)
        assert sentence is not None
        assert f"1.2::user::{data}" in sentence
    for auth in (None, "", "nocolon", f"other:{digest(f'1.2::user::{data}')}"):
        assert user_signature_error(APP, "1.2", auth, data)


def test_the_key_a_request_claims() -> None:
    assert claimed_key("a=b&AUTH_key=demo%2Dkey&auth_key=other") == "demo-key"
    assert [claimed_key(query) for query in ("", "auth_key", "auth_key=", "key=x", "auth_key=%FF")] == ["", "", "", "", "\ufffd"]


# -- requests that are right


def test_the_usual_publish() -> None:
    assert verify(query()) == {}


def test_the_order_of_the_parameters_does_not_matter() -> None:
    assert verify("&".join(reversed(query().split("&")))) == {}


def test_a_get_needs_no_md5_and_may_have_that_of_nothing() -> None:
    assert verify(query("GET", body=b""), method="GET", body=b"") == {}
    with_md5 = query("GET", body=b"", body_md5=hashlib.md5(b"").hexdigest())
    assert verify(with_md5, method="GET", body=b"") == {}


def test_names_are_lower_cased_and_values_are_not() -> None:
    signed = query("GET", body=b"", filter_by_prefix="Pre")
    assert verify(signed.replace("filter_by_prefix", "Filter_By_PREFIX"), method="GET", body=b"") == {"filter_by_prefix": ["Pre"]}


@pytest.mark.parametrize(
    "info", ["user_count,subscription_count", "user_count%2Csubscription_count", "user_count%2csubscription_count"]
)
def test_escapes_are_decoded_before_signing(info: str) -> None:
    signed = query("GET", body=b"", info="user_count,subscription_count")
    wire = signed.replace("user_count,subscription_count", info)
    assert verify(wire, method="GET", body=b"") == {"info": ["user_count,subscription_count"]}


def test_a_plus_is_a_plus() -> None:
    signed = query("GET", body=b"", filter_by_prefix="a+b")
    assert verify(signed, method="GET", body=b"") == {"filter_by_prefix": ["a+b"]}
    with pytest.raises(RequestError):
        verify(signed.replace("a+b", "a b"), method="GET", body=b"")


def test_a_broken_escape_stands_for_itself() -> None:
    signed = query("GET", body=b"", filter_by_prefix="100%zz%")
    assert verify(signed, method="GET", body=b"") == {"filter_by_prefix": ["100%zz%"]}


def test_array_elements_keep_their_order() -> None:
    signed = _signed("GET", PATH, f"auth_key={APP.key}&auth_timestamp={NOW}&auth_version=1.0&channels[]=z&channels[]=a&name=e")
    wire = signed.replace("channels[]", "channels%5B%5D")
    assert verify(wire, method="GET", body=b"") == {"channels[]": ["z", "a"], "name": ["e"]}
    swapped = signed.replace("channels[]=z&channels[]=a", "channels[]=a&channels[]=z")
    refusal(swapped, method="GET", body=b"")


def test_an_empty_value_is_signed_as_such() -> None:
    signed = query("GET", body=b"", info="")
    assert verify(signed, method="GET", body=b"") == {"info": [""]}
    assert verify(signed.replace("info=", "info"), method="GET", body=b"") == {"info": [""]}


def test_php_numbers_arrays_on_the_wire_but_signs_them_joined() -> None:
    signed = query("GET", body=b"", info="user_count,subscription_count")
    wire = signed.replace("info=user_count,subscription_count", "info%5B0%5D=user_count&info%5B1%5D=subscription_count")
    assert verify(wire, method="GET", body=b"") == {"info": ["user_count,subscription_count"]}


def test_bytes_that_are_not_utf8_are_signed_as_they_are() -> None:
    signed = b"auth_key=demo-key&auth_timestamp=%d&auth_version=1.0&filter_by_prefix=" % NOW
    right = digest(b"GET\n/apps/1001/events\n" + signed + b"\xff")
    for spelled in (b"\xff", b"%FF"):
        wire = (signed + spelled).decode("utf-8", "surrogateescape") + f"&auth_signature={right}"
        assert verify(wire, method="GET", body=b"") == {"filter_by_prefix": ["�"]}


@pytest.mark.parametrize("away", [GRACE_S - 1, 1 - GRACE_S])
def test_clocks_may_differ_by_less_than_the_grace(away: int) -> None:
    assert verify(query(), now_s=NOW + away) == {}


# -- requests that are wrong


@pytest.mark.parametrize("name", ["auth_key", "auth_version", "auth_timestamp", "body_md5"])
def test_each_part_that_is_missing_is_named(name: str) -> None:
    error = refusal(query(**{name: None}))
    assert error.where == name
    assert "missing" in error.sentence


def test_a_missing_signature_is_named() -> None:
    error = refusal(query().partition("&auth_signature")[0])
    assert (error.where, "missing" in error.sentence) == ("auth_signature", True)


def test_no_query_at_all() -> None:
    assert refusal("").where == "auth_key"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth_key", "other-key"),
        ("auth_key", "demo-key "),
        ("auth_version", "2.0"),
        ("auth_timestamp", "soon"),
        ("auth_timestamp", "-5"),
        ("auth_timestamp", "1754300000.5"),
        ("auth_timestamp", "١٧٥٤٣٠٠٠٠٠"),
        ("auth_timestamp", "9" * 5000),
        ("auth_timestamp", str(NOW * 1000)),
        ("auth_timestamp", str(NOW - GRACE_S)),
        ("auth_timestamp", str(NOW + GRACE_S)),
        ("body_md5", hashlib.md5(b"other").hexdigest()),
        ("body_md5", hashlib.md5(BODY).hexdigest().upper()),
        ("body_md5", ""),
    ],
)
def test_each_part_that_is_wrong_is_named(name: str, value: str) -> None:
    assert refusal(query(**{name: value})).where == name


@pytest.mark.parametrize("name", ["auth_key", "auth_version", "auth_timestamp", "body_md5", "auth_signature"])
def test_a_part_that_comes_twice_is_refused(name: str) -> None:
    once = next(piece for piece in query().split("&") if piece.startswith(f"{name}="))
    error = refusal(f"{query()}&{once}")
    assert (error.where, "more than once" in error.sentence) == (name, True)


def test_a_key_as_an_array_is_no_key() -> None:
    assert refusal(query().replace("auth_key=", "auth_key[]=")).where == "auth_key"


@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "%C3%A9", "%FF", "+"])
def test_a_wrong_signature_is_named_with_the_string_that_was_signed(signature: str) -> None:
    head, _, right = query().partition("&auth_signature=")
    error = refusal(f"{head}&auth_signature={signature}")
    assert error.where == "auth_signature"
    assert right not in error.sentence
    if signature:
        assert f"POST\\n{PATH}\\n{head}" in error.sentence


def test_an_upper_case_signature_is_wrong() -> None:
    head, _, right = query().partition("&auth_signature=")
    assert refusal(f"{head}&auth_signature={right.upper()}").where == "auth_signature"


def test_a_parameter_added_after_signing_is_not_covered() -> None:
    assert refusal(f"{query()}&info=user_count").where == "auth_signature"


@pytest.mark.parametrize(
    ("signed", "sent", "where"),
    [
        ("filter_by_prefix=p&info=user_count", "filter_by_prefix=p%26info=user_count", "filter_by_prefix"),
        ("filter_by_prefix=p&info=user_count", "filter_by_prefix=p&info%3Duser_count=", "info=user_count"),
        ("data=x&name=evil", "data=x%26name=evil", "data"),
        ("a&b=1", "a%26b=1", "a&b"),
    ],
)
def test_an_escaped_separator_cannot_be_told_from_one_so_it_is_refused(signed: str, sent: str, where: str) -> None:
    auth = f"auth_key={APP.key}&auth_timestamp={NOW}&auth_version=1.0"
    # as one would sign either of the two: the parameters of the signature come first
    string = f"GET\n{PATH}\n{auth}&{signed}"
    error = refusal(f"{auth}&{sent}&auth_signature={digest(string)}", method="GET", body=b"")
    assert error.where == where


@pytest.mark.parametrize("request_", [{"method": "GET"}, {"path": "/apps/1002/events"}, {"path": PATH + "/"}])
def test_a_signature_for_another_request_is_wrong(request_: dict[str, str]) -> None:
    assert refusal(query(), **request_).where == "auth_signature"


def test_another_body_is_wrong() -> None:
    error = refusal(query(), body=BODY + b"\n")
    assert error.where == "body_md5"
    assert hashlib.md5(BODY + b"\n").hexdigest() in error.sentence


def test_a_body_needs_an_md5_and_nothing_needs_that_of_nothing() -> None:
    assert refusal(query(body=b"")).where == "body_md5"
    assert refusal(query(), body=b"").where == "body_md5"


def test_a_secret_with_bytes_from_the_environment_signs_as_those_bytes() -> None:
    app = App(id="1001", key="k", secret=b"\xff\xfe".decode("utf-8", "surrogateescape"))
    signature = hmac.new(b"\xff\xfe", b"1.2:private-a", "sha256").hexdigest()
    assert channel_signature_error(app, "1.2", "private-a", f"k:{signature}", None) is None


# -- paths


def test_the_received_spelling_comes_first() -> None:
    assert spellings("/rt/apps/1/channels/a%40b", "/rt")[0] == "/rt/apps/1/channels/a%40b"
    assert spellings(PATH) == (PATH,)


@pytest.mark.parametrize("wire", ["/apps/1001/channels/private-a@b,c;d=e", "/apps/1001/channels/private-a%40b%2cc%3Bd%3De"])
@pytest.mark.parametrize("safe", ["", "=@,;", "=,;"])
def test_a_path_may_be_signed_escaped_or_not(wire: str, safe: str) -> None:
    path = "/apps/1001/channels/" + quote("private-a@b,c;d=e", safe=safe)
    assert verify(query("GET", path, b""), method="GET", path=wire, body=b"") == {}


@pytest.mark.parametrize("wire", [PATH, "/rt" + PATH])
@pytest.mark.parametrize("signed", [PATH, "/rt" + PATH])
def test_a_prefix_may_be_signed_or_not(wire: str, signed: str) -> None:
    assert verify(query(path=signed), path=wire, prefix="/rt") == {}


def test_without_a_prefix_none_is_accepted() -> None:
    refusal(query(path="/rt" + PATH))
    refusal(query(), path="/rt" + PATH)


@pytest.mark.parametrize("path", ["/apps/1001/channels/a%2Fusers", "/apps/1001/channels/a%3Fb", "/apps/1001/channels/a%0Ab"])
def test_an_escape_that_could_change_the_meaning_of_a_path_is_not_decoded(path: str) -> None:
    assert spellings(path) == (path,)
    refusal(query("GET", decode_text(path), b""), method="GET", path=path, body=b"")


def test_decoded_text_can_be_sent() -> None:
    assert decode_text("a%40b+c%zz") == "a@b+c%zz"
    assert decode_text("%FF\udcff") == "��"


# -- properties


@given(name=st.text(min_size=1, max_size=10), value=text, body=raw_bytes)
def test_whatever_is_signed_verifies_escaped_and_comes_back(name: str, value: str, body: bytes) -> None:
    lowered = name.encode().lower().decode()
    if lowered.endswith("]") or "=" in lowered or "&" in lowered + value:
        return
    if lowered in ("auth_key", "auth_version", "auth_timestamp", "body_md5", "auth_signature"):
        return
    pairs = [("auth_key", APP.key), ("auth_timestamp", str(NOW)), ("auth_version", "1.0"), (lowered, value)]
    pairs.append(("body_md5", hashlib.md5(body).hexdigest()))
    pairs.sort(key=lambda pair: pair[0].encode())
    signature = digest("POST\n" + PATH + "\n" + "&".join(f"{left}={right}" for left, right in pairs))
    wire = "&".join(f"{quote(left, safe='')}={quote(right, safe='')}" for left, right in [*pairs, ("auth_signature", signature)])
    assert verify(wire, body=body) == {lowered: [value]}


@given(
    query=any_text | raw_bytes.map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    method=any_text,
    path=any_text,
    prefix=any_text,
    body=raw_bytes,
    signed=st.booleans(),
)
def test_nothing_but_a_refusal_comes_of_anything(
    query: str, method: str, path: str, prefix: str, body: bytes, signed: bool
) -> None:
    if signed:
        query = f"auth_key={APP.key}&auth_timestamp={NOW}&auth_version=1.0&body_md5={hashlib.md5(body).hexdigest()}&{query}"
        query = f"{query}&auth_signature={'0' * 64}"
    error = refusal(query, method=method, path=path, prefix=prefix, body=body)
    error.sentence.encode()
    assert APP.secret not in error.sentence


@given(st.text("aZ=&%25BD[]0+é\udcff", max_size=20), st.text("/aZ@,;%2F40?\n", max_size=20))
def test_likely_looking_queries_and_paths_are_refused_too(tail: str, path: str) -> None:
    refusal(query(body=b"") + "&" + tail + "&x=1", method="GET", path="/" + path, prefix="/a", body=b"")


@given(st.permutations(query().split("&")), st.booleans())
def test_the_short_reading_agrees_with_the_full_one(pieces: list[str], is_wrong: bool) -> None:
    wire = "&".join(pieces)
    if is_wrong:
        refusal(wire.replace("auth_signature=", "auth_signature=0"))
    else:
        assert verify(wire) == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["event", "after", "zulu", "a"]), text.map(lambda value: value.replace("&", ""))),
        max_size=4,
        unique_by=lambda pair: pair[0],
    ),
    raw_bytes,
    st.sampled_from(["/apps/1001/webhooks/events", "/rt/apps/1001/webhooks/endpoints/a%20b/test"]),
)
def test_what_is_signed_here_is_found_right_here(parameters: list[tuple[str, str]], body: bytes, path: str) -> None:
    method = "POST" if body else "GET"
    query = sign_request(APP, method=method, path=path, parameters=parameters, body=body, now_s=NOW)
    found = verify_request(APP, method=method, paths=spellings(path), query=query, body=body, now_s=NOW)
    assert found == {name: [value] for name, value in parameters}
    with pytest.raises(RequestError):
        verify_request(APP, method="PUT", paths=spellings(path), query=query, body=body, now_s=NOW)
