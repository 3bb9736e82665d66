"""Serves the page of an archive to this machine, over HTTP/1.1 on a loopback address.

Whoever asks must know the token, which is random and the first part of every path; it is compared in constant time. The `Host`
must be a name of this machine, or a page elsewhere could have its own name resolved to it ("DNS rebinding") and read the
answers. Only GET is answered. Paths name entries of a table in `pages`: no file is ever looked for. Nothing is kept by the
browser, and the content security policy of the page lets it run its own scripts and ask this server, and nothing else.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from batchcodec.errors import OptionError
from batchcodec.opening import open_archive
from batchcodec.view.pages import Answer, Pages, error_answer, open_originals

ADDRESS = "127.0.0.1"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""

_OWN_HOST = re.compile(r"(?:localhost|127\.0\.0\.1)(?::[0-9]{1,5})?", re.IGNORECASE)
"""Any port: the page may come through a tunnel that has another one at its near end."""
_POLL_SECONDS = 0.5


class ViewServer(ThreadingHTTPServer):
    """Listens as soon as it is made; answers while `serve` runs.

    Args:
        pages: gives the answers.
        port: 0 is any that is free.

    Attributes:
        token: the first part of every path.
        asked: when a request with the right token came last, by `time.monotonic`.

    Raises:
        OptionError: the port is taken or may not be used.
    """

    daemon_threads = True
    block_on_close = False  # connections are kept alive: closing must not wait for a browser
    request_queue_size = 64

    def __init__(self, pages: Pages, port: int = 0) -> None:
        self.pages, self.token, self.asked = pages, secrets.token_urlsafe(24), time.monotonic()
        self._connections: set[Any] = set()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as exc:
            raise OptionError("port", port, f"a port that is free ({exc.strerror or exc}); 0 takes any") from exc
        self.timeout = _POLL_SECONDS

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/{self.token}/"

    def serve(self, idle_seconds: float | None = None, stop: threading.Event | None = None) -> None:
        """Answer until nothing was asked for so long, or until `stop` is set."""
        while stop is None or not stop.is_set():
            self.handle_request()
            if idle_seconds is not None and time.monotonic() - self.asked > idle_seconds:
                return

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, and remember the connection."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and end all connections: their threads would answer on."""
        super().server_close()
        for request in list(self._connections):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is no error; what fails in `pages` has been answered."""


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "batchcodec", ""
    timeout = 120  # seconds that a connection may be silent
    wbufsize = -1  # head and body leave in one piece
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Also refuses, at once, whatever is not GET."""
        if not super().parse_request():
            return False
        if self.command != "GET":
            self.close_connection = True  # its body, if it has one, is not read
            self._send(error_answer(405, "only GET is answered"), Allow="GET")
            return False
        return True

    def do_GET(self) -> None:
        """Answer a request."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _OWN_HOST.fullmatch(hosts[0]):
            return self._send(error_answer(403, "this address is not that of the viewer"))
        token, path, parameters = self._parts()
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            return self._send(error_answer(403, "the address lacks the token that `batchcodec view` printed"))
        self.server.asked = time.monotonic()
        try:
            answer = self.server.pages.answer(path, parameters)
        except Exception as exc:  # a codec or a format may be anybody's, and the page must be told
            answer = error_answer(500, f"{type(exc).__name__}: {exc}")
        return self._send(answer)

    def _parts(self) -> tuple[str, str, dict[str, str]]:
        """Token, path after it and parameters of the request. What is no address has an empty token."""
        try:
            found = urlsplit(self.path)
            parameters = dict(parse_qsl(found.query, keep_blank_values=True, errors="replace", max_num_fields=16))
        except ValueError:
            return "", "", {}
        token, slash, path = found.path.removeprefix("/").partition("/")
        return (token, path, parameters) if slash and not found.netloc else ("", "", {})

    def _send(self, answer: Answer, **more: str) -> None:
        self.send_response(answer.status)
        for name, value in {**HEADERS, **more}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` itself refuses, such as a line without end, with the headers of all answers."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self._send(error_answer(int(code), message or "not a request"))

    def log_message(self, format: str, *args: Any) -> None:
        """The library is silent."""


def view(
    path: Path | str,
    against: Path | str | None = None,
    *,
    port: int = 0,
    idle_seconds: float | None = None,
    format_id: str | None = None,
    ready: Callable[[str, int], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the page of an archive until `stop`, idleness or an interrupt.

    Args:
        path: the archive.
        against: the dataset that was packed, to compare with.
        port: to listen on; 0 is any that is free.
        idle_seconds: stop when nothing was asked for so long.
        format_id: format of the dataset.
        ready: called with the address of the page and the number of items when it can be opened.
        stop: set it to stop.

    Raises:
        ArchiveError: the archive cannot be read, or has a damaged directory.
        InputError: the dataset cannot be read.
        OptionError: the port is taken.
    """
    with open_archive(path, strict=True) as archive:
        _ = archive.in_order  # a damaged directory shows here, and not on the page
        originals = None if against is None else open_originals(archive, Path(against), format_id)
        pages = Pages(archive, originals)
        with contextlib.closing(pages), ViewServer(pages, port) as server:
            if ready:
                ready(server.url, len(archive))
            threading.Thread(target=_loaded, args=(pages,), daemon=True, name="batchcodec-names").start()
            server.serve(idle_seconds, stop)


def _loaded(pages: Pages) -> None:
    """The first search need not wait for the names; whatever is wrong with them the search will tell."""
    with contextlib.suppress(Exception):  # also that the archive was closed meanwhile
        pages.catalogue.load()
