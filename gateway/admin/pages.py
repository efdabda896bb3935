"""The files of the dashboard, as they lie in the package: read once, put together, served from memory, under a strict policy."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from aiohttp import hdrs, web

#: Nothing from elsewhere, nothing in line, no frame around it, and no markup out of texts, not even by mistake (Trusted Types).
#: `connect-src 'self'` is also the WebSocket of this port.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    hdrs.CACHE_CONTROL: "no-store",
}

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}

#: path -> the file with its body, its title and its script
_PAGES = {"/": ("index.html", "RawPush", "app.js"), "/login": ("login.html", "RawPush: log in", "login.js")}

#: what is needed to log in, and says nothing
BEFORE_LOGIN = frozenset({"/login", "/dashboard/login.js", "/dashboard/style.css", "/dashboard/icon.svg"})


class Pages:
    """Serves `/`, `/login` and `/dashboard/FILE`. Raises OSError if the package is not whole."""

    def __init__(self) -> None:
        folder = files("gateway.admin") / "dashboard"
        self._files = {
            file.name: (_TYPES[kind], file.read_bytes())
            for file in folder.iterdir()
            if (kind := file.name.rpartition(".")[2]) in _TYPES
        }
        head = Template((folder / "head.html").read_text("utf-8"))
        self._pages = {
            path: (head.substitute(title=title, script=script) + (folder / body).read_text("utf-8")).encode()
            for path, (body, title, script) in _PAGES.items()
        }

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for path in self._pages:
            app.router.add_get(path, self._page)
        app.router.add_get("/dashboard/{name}", self._file)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _answer("text/html", self._pages[request.path])

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        return _answer(*self._files[name])


def _answer(content_type: str, body: bytes) -> web.Response:
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=HEADERS)


def wants_page(request: web.Request) -> bool:
    """Tell whether it is a person's browser that goes to a page, and not a program that asks."""
    return request.method == "GET" and request.path == "/" and "text/html" in request.headers.get(hdrs.ACCEPT, "")
