"""The files of the dashboard: served under a strict policy which they keep, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.admin import pages
from tests.device.admin_kit import serve

FOLDER = Path(pages.__file__).with_name("dashboard")
FILES = sorted(file.name for file in FOLDER.iterdir())
#: what is served as it is; of the others pages are put together
SERVED = [name for name in FILES if not name.endswith(".html")]


async def test_each_file_comes_with_its_type_and_the_policy() -> None:
    async with serve() as served:
        for target in ("/", "/login", *(f"/dashboard/{name}" for name in SERVED)):
            answer = await served.get(target)
            assert answer.status == 200
            assert answer.headers["Content-Security-Policy"] == pages.POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            kind = target.rpartition(".")[2] if "." in target else "html"
            assert kind in answer.headers["Content-Type"].replace("javascript", "js")


@pytest.mark.parametrize(("path", "title", "script"), [("/", "RawPush", "app.js"), ("/login", "RawPush: log in", "login.js")])
async def test_each_page_is_whole(path: str, title: str, script: str) -> None:
    async with serve() as served:
        page = (await served.get(path)).json
    assert re.match(r"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset", page)
    assert page.endswith("</body>\n</html>\n")
    assert re.findall(r"<title>(.*)</title>", page) == [title]
    assert re.findall(r"<script.*src=\"dashboard/(.*?)\"", page) == [script]
    assert "$" not in page


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fsite.py", "%2e%2e%2fsite.py", "..%5Csite.py", "__init__.py", "head.html"])
async def test_nothing_else_does(name: str) -> None:
    async with serve() as served:
        assert (await served.get(f"/dashboard/{name}")).status == 404


async def test_before_the_login_there_are_only_the_files_that_it_needs() -> None:
    async with serve(token="s3cret") as served:
        assert [name for name in SERVED if (await served.get(f"/dashboard/{name}")).status == 200] == [
            "icon.svg",
            "login.js",
            "style.css",
        ]
        for page in ("/", "/login"):
            assert "Log in" in (await served.get(page, Accept="text/html")).json
        # a program is told, not led away
        assert (await served.get("/")).status == 401


@pytest.mark.parametrize("name", FILES)
def test_text_never_becomes_markup_and_nothing_is_in_line(name: str) -> None:
    text = (FOLDER / name).read_text()
    for way in (
        "innerHTML =",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
    ):
        assert way not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    if name.endswith(".html"):
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", text)
