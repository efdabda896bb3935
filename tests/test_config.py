"""The whole file and the environment: what becomes of it, and how every mistake is told, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import Admin, Config, ConfigError, Server, load, load_admin, resolve

APP = """\
[[apps]]
id = "1001"
key = "demo-key"
secret = "s3cret-of-the-app"
"""

HOOK = """\
[[apps.webhooks]]
name = "backend"
url = "https://receiver.example/hooks?token=s3cret-in-url"
secrets = ["s3cret-of-the-hook"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def problems(file: Path, content: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    assert "s3cret" not in str(caught.value)
    return str(caught.value).split("\n")


def loaded(file: Path, content: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(file, environ or {})


# -- what is right


def test_settings_arrive_in_their_records(file: Path) -> None:
    config = loaded(
        file,
        "[server]\nport = 7001\ndrain = '1s'\nsend_buffer = '64KB'\ntrusted_proxies = ['10.0.0.0/8']\n"
        "[outbox]\nmode = 'memory'\n[log]\nlevel = 'debug'\n"
        + APP
        + "linger = '250ms'\nlimits = { connections = 5, event_data = 20_000, cache = '1GB', subscriptions = 0 }\n"
        + "cache_lifetime = '1h'\nsubscription_counts = true\n"
        + HOOK
        + "events = ['channel.*']\nheaders = { X-Tenant = 'env:TENANT' }\n"
        + "retry = { schedule = ['5s', '5m'], max_age = '1h' }\n",
        {"TENANT": "7"},
    )
    assert config.server == Server(port=7001, drain_s=1.0, send_buffer=65_536, trusted_proxies=("10.0.0.0/8",))
    assert (config.outbox.mode, config.log.level) == ("memory", "debug")
    [entry] = config.apps
    assert (entry.app.secret, entry.app.linger_s) == ("s3cret-of-the-app", 0.25)
    assert (entry.app.limits.connections, entry.app.limits.event_data, entry.app.limits.subscriptions) == (5, 20_000, 0)
    assert (entry.app.cache_lifetime_s, entry.app.limits.cache, entry.app.subscription_counts) == (3600.0, 1024**3, True)
    [endpoint] = entry.endpoints
    assert (endpoint.app_id, endpoint.key, endpoint.events) == ("1001", "1001/backend", ("channel.*",))
    assert endpoint.headers == {"X-Tenant": "7"}
    assert (endpoint.retry.schedule_s, endpoint.retry.max_age_s) == ((5.0, 300.0), 3600.0)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + APP.encode(), APP.replace("\n", "\r\n").encode()], ids=["BOM", "CRLF"])
def test_what_editors_of_other_systems_write_is_understood(file: Path, content: bytes) -> None:
    assert loaded(file, content).apps[0].app.key == "demo-key"


@pytest.mark.parametrize("who", ["trusted_proxies = ['10.0.0.0/8']", "unix_socket = '/run/rawpush.sock'"])
def test_the_proxy_protocol_has_somebody_to_speak_it(file: Path, who: str) -> None:
    assert loaded(file, f"[server]\nproxy_protocol = true\n{who}\n" + APP).server.proxy_protocol


def test_two_endpoints_of_two_apps_may_share_a_name(file: Path) -> None:
    other = APP.replace("1001", "1002").replace("demo-key", "other-key")
    config = loaded(file, APP + HOOK + other + HOOK)
    assert [endpoint.key for entry in config.apps for endpoint in entry.endpoints] == ["1001/backend", "1002/backend"]


def test_an_endpoint_of_the_pusher_format_is_signed_with_its_app_s_secret(file: Path) -> None:
    other = HOOK.replace('"backend"', '"other"')
    config = loaded(file, APP + HOOK + "format = 'pusher'\n" + other)
    [old, other_endpoint] = config.apps[0].endpoints
    assert (old.format, old.pusher_key, old.pusher_secret) == ("pusher", "demo-key", "s3cret-of-the-app")
    assert (other_endpoint.pusher_key, other_endpoint.pusher_secret) == ("", "")
    assert "s3cret-of-the-app" not in repr(config)


def test_what_users_may_do(file: Path) -> None:
    text = "user_signin = false\nwatchlists = false\nauthorised_connections = true\nauthorisation_timeout = '1m'\n"
    app = loaded(file, APP + text + "[apps.limits]\nwatchlist = 7\n").apps[0].app
    assert (app.user_signin, app.watchlists, app.limits.watchlist) == (False, False, 7)
    assert (app.authorised_connections, app.authorisation_timeout_s) == (True, 60.0)


def test_where_webhooks_may_go(file: Path) -> None:
    fence = "[delivery]\nallow_private = false\nrefuse_networks = ['203.0.113.0/24']\nallow_networks = ['fd00::/8']\n"
    delivery = loaded(file, fence + APP, {"RAWPUSH_DELIVERY__REFUSE_NETWORKS": "10.0.0.0/8, 192.0.2.0/24"}).delivery
    assert (delivery.allow_private, delivery.allow_networks) == (False, ("fd00::/8",))
    assert delivery.refuse_networks == ("10.0.0.0/8", "192.0.2.0/24")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_the_admin_port_of_a_loopback_address_needs_no_token(file: Path, host: str) -> None:
    assert loaded(file, f"[admin]\nhost = '{host}'\nport = 0\n" + APP).admin == Admin(host=host, port=0)
    assert loaded(file, "[server]\nport = 6002\nhost = '10.0.0.1'\n" + APP).admin == Admin()
    assert loaded(file, "[admin]\nenabled = false\nhost = '0.0.0.0'\n" + APP).admin == Admin(enabled=False, host="0.0.0.0")


def test_any_other_has_one(file: Path) -> None:
    text = "[admin]\nhost = '0.0.0.0'\ntoken = 'env:RAWPUSH_ADMIN_TOKEN'\n" + APP
    admin = loaded(file, text, {"RAWPUSH_ADMIN_TOKEN": "s3cret-admin"}).admin
    assert admin.token == "s3cret-admin"
    assert "s3cret" not in repr(admin)
    rows = {row.place: row.value for row in resolve(file, {"RAWPUSH_ADMIN_TOKEN": "s3cret-admin"}).rows}
    assert rows["admin.token"] == "(set)"
    file.write_text(APP)
    assert {row.place: row.value for row in resolve(file, {}).rows}["admin.token"] == "(not set)"


def test_the_admin_section_can_be_read_alone(file: Path) -> None:
    file.write_text("bogus = 1\n[admin]\nport = 7002\n" + APP.replace("s3cret-of-the-app", "env:NOT_SET_HERE"))
    assert load_admin(file, {"RAWPUSH_NONSENSE": "1"}) == Admin(port=7002)
    assert load_admin(file, {"RAWPUSH_ADMIN__PORT": "7003"}) == Admin(port=7003)
    with pytest.raises(ConfigError, match=r"^environment variable RAWPUSH_ADMIN__PORT: must be a whole number"):
        load_admin(file, {"RAWPUSH_ADMIN__PORT": "x"})
    file.write_text("bogus = 1\n[admin]\nport = 'x'\n" + APP)
    with pytest.raises(ConfigError, match=r"^config\.toml:3: admin\.port: [^\n]*$"):
        load_admin(file, {})
    file.write_text("[[[")
    with pytest.raises(ConfigError, match="not TOML"):
        load_admin(file, {})


def test_no_secret_shows_in_the_repr(file: Path) -> None:
    config = loaded(file, APP + HOOK + "headers = { X = 's3cret-header' }\n")
    assert "s3cret" not in repr(config).replace("s3cret-in-url", "")


# -- what is wrong


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (APP + "x = \n", "config.toml:5: column 5: not TOML: Invalid value"),
        (APP + "x = ", "config.toml:5: not TOML: Invalid value (at the end of the file)"),
        (APP + "[server\nport = 1", "config.toml:5: column 8: not TOML: Expected ']' at the end of a table declaration"),
        (APP + "key = 'twice'\n", "config.toml:5: column 14: not TOML: Cannot overwrite a value: it is set twice"),
        ("", "config.toml: no app: at least one [[apps]] table is needed"),
        ("bogus = 1\n" + APP, "config.toml:1: bogus: unknown setting; known here: server, outbox, delivery, admin, log, apps"),
        ("sever = {}\n" + APP, 'config.toml:1: sever: unknown setting; did you mean "server"?'),
        ("port = 1\n" + APP, "config.toml:1: port: unknown setting here: it belongs in [server]"),
        ("server = 5\n" + APP, "config.toml:1: server: must be a table, not the whole number 5"),
        ("[admin]\nport = 70000\n" + APP, "config.toml:2: admin.port: must be from 0 to 65535"),
        ("[admin]\nport = 6001\n" + APP, "config.toml:2: admin.port: must be another one than that of [server]"),
        ("[admin]\npassword = 's3cret'\n" + APP, 'config.toml:2: admin.password: unknown setting: it is called "token"'),
        (
            "[admin]\nhost = '0.0.0.0'\n" + APP,
            "admin.token: is needed where host is not a loopback address (0.0.0.0); write token",
        ),
        (
            APP + "enable_user_authentication = true",
            'config.toml:5: apps[0].enable_user_authentication: unknown setting: it is called "user_signin"',
        ),
        (APP + "authorisation_timeout = '0s'", "config.toml:5: apps[0].authorisation_timeout: must be"),
        ("[admin]\nhost = 'box.local'\n" + APP, "admin.token: is needed where host is not a loopback address (box.local)"),
        ("[admin]\nhost = '127.0.0.1.nip.io'\n" + APP, "admin.token: is needed where host is not a loopback address"),
        ("[admin]\ntoken = ''\n" + APP, "config.toml:2: admin.token: the secret is empty"),
        ("[admin]\ntoken = 's3cret\u00e9'\n" + APP, "admin.token: must be ASCII without spaces: it is sent in a header"),
        ("[admin]\ntoken = 'env:RAWPUSH_ADMIN_TOKEN'\n" + APP, "the environment variable RAWPUSH_ADMIN_TOKEN is not set"),
        (APP + "lingr = '1s'", 'config.toml:5: apps[0].lingr: unknown setting; did you mean "linger"?'),
        (APP + "app_id = '1'", 'config.toml:5: apps[0].app_id: unknown setting: it is called "id"'),
        (APP + "timeout = '1s'", "config.toml:5: apps[0].timeout: unknown setting here: it belongs in [[apps.webhooks]]"),
        (APP + '"x y" = 1', 'config.toml:5: apps[0]."x y": unknown setting; known here: id, key, secret, enabled'),
        ("[apps]\nid = '1'", "config.toml:1: apps: must be a list of tables (with the header [[apps]]), not a table"),
        (
            APP + "[apps.webhooks]\nname = 'a'",
            "config.toml:5: apps[0].webhooks: must be a list of tables (with the header [[apps.webhooks]]), not a table",
        ),
        ("apps = [5]", "config.toml:1: apps[0]: must be a table, not the whole number 5"),
        (APP.replace('secret = "s3cret-of-the-app"', ""), 'config.toml:1: apps[0]: needs the setting "secret"'),
        (APP.replace("1001", "my-app"), "config.toml:2: apps[0].id: must be digits only (the Python SDK takes nothing else)"),
        (APP.replace("1001", "١٢"), "config.toml:2: apps[0].id: must be digits only"),
        (APP.replace("demo-key", "a/b"), "config.toml:3: apps[0].key: must be letters, digits, hyphens and underscores"),
        (APP + "allowed_origins = ['https://x.org']", "config.toml:5: apps[0].allowed_origins[0]: must be a host"),
        (APP + "feed = ['channel.*', 'chanel.*']", "config.toml:5: apps[0].feed: 'chanel.*' matches no event"),
        (APP + "limits.event_data = '2MB'", "config.toml:5: apps[0].limits.event_data: must not be larger than request"),
        ("[server]\npath_prefix = '/x/'\n" + APP, "config.toml:2: server.path_prefix: must be empty or a path"),
        ("[server]\nhost = 'x:1'\n" + APP, "config.toml:2: server.host: must be an address or a host name"),
        (
            "[server]\nproxy_protocol = true\n" + APP,
            "config.toml:2: server.proxy_protocol: needs trusted_proxies: only their connections begin with a header",
        ),
        (
            f"[server]\nunix_socket = '/{'x' * 100}'\n" + APP,
            "config.toml:2: server.unix_socket: must be empty or a path of at most 100 bytes, not the text",
        ),
        (
            "[server]\nunix_socket_mode = '999'\n" + APP,
            'config.toml:2: server.unix_socket_mode: must be permissions as chmod takes them, such as "660", not the text "999"',
        ),
        ("[server]\ncompression_window = 8\n" + APP, "config.toml:2: server.compression_window: must be from 9 to 15, not 8"),
        ("[server]\ndrain = '31s'\n" + APP, "config.toml:2: server.drain: must not be longer than shutdown_timeout"),
        ("[server]\ntls = { cert = 'x' }\n" + APP, 'config.toml:2: server.tls: needs the setting "key"'),
        ("[outbox]\nmode = 'ram'\n" + APP, 'config.toml:2: outbox.mode: must be one of "disk", "memory", not the text "ram"'),
        (
            APP + HOOK + "secret = 's3cret'",
            'config.toml:9: apps[0].webhooks[0] "backend".secret: unknown setting: here it is a list',
        ),
        (
            APP + HOOK + "events = ['chanel.*']",
            "config.toml:9: apps[0].webhooks[0] \"backend\".events: 'chanel.*' matches no event",
        ),
        (APP + HOOK + "format = 'pusher'\nevents = ['connection.*']", "events: 'connection.*' matches no event that exists in"),
        (
            APP + HOOK + "[apps.webhooks.retry]\nfactr = 2",
            'config.toml:10: apps[0].webhooks[0] "backend".retry.factr: unknown setting',
        ),
        (
            APP + HOOK + "retry = { schedule = ['1s'], factor = 3 }",
            'config.toml:9: apps[0].webhooks[0] "backend".retry: schedule replaces initial and factor; give one or the other',
        ),
        (
            APP + HOOK + "retry = { initial = '1h' }",
            'config.toml:9: apps[0].webhooks[0] "backend".retry.max_delay: must not be shorter than retry.initial',
        ),
        (
            APP + HOOK + HOOK.replace("secrets", "\n\nsecrets"),
            'apps[0].webhooks[1].name: "backend" belongs to another endpoint of this app (apps[0].webhooks[0], line 6)',
        ),
        (
            APP + APP.replace("demo-key", "other"),
            'config.toml:6: apps[1].id: "1001" belongs to another app (apps[0], line 2)',
        ),
        (
            APP + APP.replace("1001", "1002"),
            'config.toml:7: apps[1].key: "demo-key" belongs to another app (apps[0], line 3)',
        ),
    ],
)
def test_one_mistake_is_one_sentence_with_its_place(file: Path, content: str, expected: str) -> None:
    found = problems(file, content)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"# caf\xe9\n", "config.toml:1: column 6: the byte 0xe9 is not UTF-8 (Latin-1?); save the file as UTF-8"),
        (b"a = 1\n\nb = '\xff'\n", "config.toml:3: column 6: the byte 0xff is not UTF-8"),
        ("\ufeffa = 1".encode("utf-16-le"), "config.toml: is UTF-16; save the file as UTF-8"),
        (b"a = '\x00'", "config.toml:1: column 6: not TOML: Found invalid character '\\x00'"),
    ],
    ids=["Latin-1", "a byte", "UTF-16", "NUL"],
)
def test_bytes_that_are_no_text(file: Path, content: bytes, expected: str) -> None:
    [found] = problems(file, content)
    assert expected in found


def test_a_file_that_cannot_be_read(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read: No such file or directory"):
        load(file, {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(file.parent, {})


def test_all_mistakes_are_told_together_in_the_order_of_the_file(file: Path) -> None:
    found = problems(
        file,
        "[server]\nport = 0\ndrain = 5\ntls = { cert = '/none.pem', key = '/none.key' }\nbogus = 1\n"
        + APP.replace("s3cret-of-the-app", "env:UNSET")
        + "linger = '-1s'\n"
        + "[[apps.webhooks]]\nname = ''\nurl = 'ftp://s3cret'\nsecrets = ['whsec_s3cret!', 5]\nconcurrency = 0\n"
        + "events = ['nothing', 5]\nheaders = { Host = 's3cret', X = 7 }\n"
        + APP.replace("s3cret-of-the-app", ""),
        {"RAWPUSH_SERVER__PROT": "1"},
    )
    assert [line.split(": ")[0:2] for line in found] == [
        ["environment variable RAWPUSH_SERVER__PROT", "overrides nothing; did you mean RAWPUSH_SERVER__PORT?"],
        ["config.toml:2", "server.port"],
        ["config.toml:3", "server.drain"],
        ["config.toml:4", "server.tls.cert"],
        ["config.toml:4", "server.tls.key"],
        ["config.toml:5", "server.bogus"],
        ["config.toml:9", "apps[0].secret"],
        ["config.toml:10", "apps[0].linger"],
        ["config.toml:12", "apps[0].webhooks[0].name"],
        ["config.toml:13", "apps[0].webhooks[0].url"],
        ["config.toml:14", "apps[0].webhooks[0].secrets[1]"],
        ["config.toml:15", "apps[0].webhooks[0].concurrency"],
        ["config.toml:16", "apps[0].webhooks[0].events[1]"],
        ["config.toml:16", "apps[0].webhooks[0].events"],
        ["config.toml:17", "apps[0].webhooks[0].headers.X"],
        ["config.toml:17", "apps[0].webhooks[0].headers"],
        ["config.toml:19", "apps[1].id"],
        ["config.toml:20", "apps[1].key"],
        ["config.toml:21", "apps[1].secret"],
    ]


# -- the environment


def test_variables_override_plain_settings(file: Path) -> None:
    environ = {
        "RAWPUSH_SERVER__PORT": "8001",
        "RAWPUSH_SERVER__TRUSTED_PROXIES": "10.0.0.0/8,192.168.0.0/16",
        "RAWPUSH_OUTBOX__MODE": "memory",
        "RAWPUSH_LOG__LEVEL": "debug",
    }
    config = loaded(file, "[server]\nport = 7001\n" + APP, environ)
    assert (config.server.port, config.outbox.mode, config.log.level) == (8001, "memory", "debug")
    assert config.server.trusted_proxies == ("10.0.0.0/8", "192.168.0.0/16")


def test_a_variable_that_is_wrong_is_named_itself(file: Path) -> None:
    [found] = problems(file, "[server]\nport = 7001\n" + APP, {"RAWPUSH_SERVER__PORT": "http"})
    assert found == 'environment variable RAWPUSH_SERVER__PORT: must be a whole number (without quotes), not the text "http"'


def test_tls_can_come_from_the_environment(file: Path) -> None:
    found = problems(file, APP, {"RAWPUSH_SERVER__TLS__CERT": "/none.pem", "RAWPUSH_SERVER__TLS__KEY": "/none.key"})
    assert [line.partition(":")[0] for line in found] == [
        "environment variable RAWPUSH_SERVER__TLS__CERT",
        "environment variable RAWPUSH_SERVER__TLS__KEY",
    ]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("RAWPUSH_SERVER__PROT", "overrides nothing; did you mean RAWPUSH_SERVER__PORT?"),
        ("RAWPUSH_PORT", "overrides nothing; did you mean RAWPUSH_SERVER__PORT?"),
        ("RAWPUSH_SERVER_PORT", "overrides nothing; did you mean RAWPUSH_SERVER__PORT?"),
        ("RAWPUSH_server__port", "overrides nothing; did you mean RAWPUSH_SERVER__PORT?"),
        ("RAWPUSH_XYZZY", "overrides nothing"),
        ("RAWPUSH_APPS__0__SECRET", 'apps cannot be set from the environment; write "env:NAME" for a secret in the file'),
    ],
)
def test_a_variable_that_overrides_nothing_is_reported(file: Path, variable: str, expected: str) -> None:
    assert problems(file, APP, {variable: "1"}) == [f"environment variable {variable}: {expected}"]


def test_a_variable_the_file_asks_for_may_have_the_prefix(file: Path) -> None:
    config = loaded(file, APP.replace("s3cret-of-the-app", "env:RAWPUSH_SECRET"), {"RAWPUSH_SECRET": "s"})
    assert config.apps[0].app.secret == "s"


def test_what_an_orchestrator_sets_for_a_service_of_this_name_is_no_mistake(file: Path) -> None:
    environ = {
        "RAWPUSH_SERVICE_HOST": "10.0.0.1",
        "RAWPUSH_SERVICE_PORT": "6001",
        "RAWPUSH_SERVICE_PORT_WS": "6001",
        "RAWPUSH_PORT": "tcp://10.0.0.1:6001",
        "RAWPUSH_PORT_6001_TCP": "tcp://10.0.0.1:6001",
        "RAWPUSH_PORT_6001_TCP_ADDR": "10.0.0.1",
        "RAWPUSH_SERVER_SERVICE_HOST": "10.0.0.1",
    }
    assert loaded(file, APP, environ).server.port == 6001


# -- where values came from


def test_every_value_has_its_origin(file: Path) -> None:
    file.write_text("[server]\nport = 7001\n" + APP.replace("s3cret-of-the-app", "env:SECRET") + HOOK)
    resolved = resolve(file, {"SECRET": "s3cret", "RAWPUSH_LOG__LEVEL": "debug"})
    rows = {row.place: (row.value, row.source) for row in resolved.rows}
    assert rows["server.port"] == ("7001", "config.toml:2")
    assert rows["server.host"] == ('"127.0.0.1"', "default")
    assert rows["server.tls"] == ("(none)", "default")
    assert rows["log.level"] == ('"debug"', "environment RAWPUSH_LOG__LEVEL")
    assert rows["apps[0].secret"] == ("(set)", "config.toml:6, env:SECRET")
    assert rows["apps[0].limits.event_data"] == ('"10KB"', "default")
    assert rows['apps[0].webhooks[0] "backend".url'] == ('"https://receiver.example/hooks?..."', "config.toml:9")
    assert rows['apps[0].webhooks[0] "backend".secrets'] == ("[(set)]", "config.toml:10")
    assert rows['apps[0].webhooks[0] "backend".retry.max_age'] == ('"24h"', "default")
    assert "s3cret" not in str(resolved.rows)
