"""Lines of tables and settings, in files as people write them."""

from __future__ import annotations

from gateway.config.place import find_lines

DOCUMENT = '''\
# [not.a.table]
top = 1
[server]   # a comment
port = 6001
"quoted key" = 1
tls = { cert = "a", key = "b" }
tls2.cert = "dotted"

list = [
  "[apps]",   # ]
  "port = 1",
]
text = """
[outbox]
escaped \\"""
mode = "disk"
"""
raw = \'\'\'
[nothing] \'\'\'
after = "a # b [ \\" ["
  [ log ]
  level = "info"
[[apps]]
id = "1"
[apps.limits]
batch = 1
[[apps.webhooks]]
name = "a"
[apps.webhooks.retry]
factor = 2
[[apps.webhooks]]
name = "b"
[[apps]]
id = "2"
[[apps.webhooks]]
name = "c"
'''


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(DOCUMENT.split("\n"), 1) if line.strip() == text)


def test_tables_and_settings_stand_where_they_stand() -> None:
    lines = find_lines(DOCUMENT)
    assert lines["top",] == 2
    assert lines["server",] == 3
    assert lines["server", "port"] == 4
    assert lines["server", "quoted key"] == 5
    assert lines["server", "tls"] == 6
    assert lines["server", "tls2"] == lines["server", "tls2", "cert"] == 7
    assert lines["server", "text"] == line_of('text = """')
    assert lines["server", "after"] == line_of('after = "a # b [ \\" ["')
    assert lines["log", "level"] == line_of('level = "info"')


def test_lists_of_tables_are_counted_each_within_its_own() -> None:
    lines = find_lines(DOCUMENT)
    assert lines["apps", 0, "id"] == line_of('id = "1"')
    assert lines["apps", 0, "limits", "batch"] == line_of("batch = 1")
    assert lines["apps", 0, "webhooks", 0, "name"] == line_of('name = "a"')
    assert lines["apps", 0, "webhooks", 0, "retry", "factor"] == line_of("factor = 2")
    assert lines["apps", 0, "webhooks", 1, "name"] == line_of('name = "b"')
    assert lines["apps", 1, "id"] == line_of('id = "2"')
    assert lines["apps", 1, "webhooks", 0, "name"] == line_of('name = "c"')


def test_what_only_looks_like_a_table_or_a_setting_is_none() -> None:
    lines = find_lines(DOCUMENT)
    assert ("outbox",) not in lines
    assert ("nothing",) not in lines
    assert ("not", "a", "table") not in lines
    assert ("server", "mode") not in lines
    assert lines["server", "port"] == 4


def test_carriage_returns_change_nothing() -> None:
    assert find_lines(DOCUMENT.replace("\n", "\r\n")) == find_lines(DOCUMENT)
