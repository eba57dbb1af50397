"""The app's door: what a browser may do with its pages, who may come in, and which events are this computer's."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import traceback
from base64 import b64encode
from ipaddress import ip_address
from urllib.parse import parse_qs, urlencode

from gradio.context import LocalContext
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelviz.ui.markup import render

log = logging.getLogger(__name__)
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that is none

# Nothing from elsewhere, no script in an attribute, and of the scripts in a page those alone that the server put there
# (their digests are added). Gradio builds gr.HTML's templates and `js_on_load` with `new Function`: hence unsafe-eval.
# Charts and components set style attributes; pictures are data URIs, and downloads blobs.
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "frame-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
}
SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
COOKIE, KEY, HEADER = "pixelviz_room", "room", "x-room"  # where a room's code is: of a browser, a link, a script
UNREADABLE = "This request cannot be understood; see the page of the API."
WRONG_SECONDS = 1.0  # before a wrong code is answered: too long to try them all


def policy(page: bytes = b"") -> str:
    """The Content-Security-Policy of an answer; `page`, its HTML, whose own scripts may run."""
    digests = (b64encode(hashlib.sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    rules = POLICY | {"script-src": " ".join([POLICY["script-src"], *(f"'sha256-{one}'" for one in digests)])}
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def _loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


def at_home() -> bool:
    """Whether the event that is being answered comes from this very computer, and through no proxy.

    The name in the address counts, too: a page elsewhere may have had its own name point here. It is the client's word,
    so a proxy that adds no header of FORWARDED must be made known by `Service(proxied=True)`.
    """
    request = LocalContext.request.get(None)
    if request is None or os.environ.get("SPACE_ID"):
        return False
    headers = {str(key).lower(): value for key, value in dict(request.headers).items()}
    host = re.sub(r":\d+$", "", headers.get("host", ""))
    direct = not any(name in headers for name in FORWARDED)
    return direct and _loopback(host) and _loopback(getattr(request.client, "host", None))


class Guard:
    """Middleware: a policy on every answer, a room's code before anything else, and no traceback for what is not ours.

    room: what everybody must know to come in, None for nothing.
    """

    def __init__(self, app: ASGIApp, room: str | None = None) -> None:
        self.app, self.room, self.seen = app, room, set()
        self.key = room and hmac.new(room.encode(), b"pixelviz", "sha256").hexdigest()  # the same after a restart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the app answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        # Gradio asks itself for the last of these as it starts.
        free = self.room is None or scope["path"].endswith("/gradio_api/startup-events")
        answer = self.app if free else await self._outside(scope, receive) or self.app
        sender = _Sender(send)
        try:
            await answer(scope, receive, sender)
        except Exception as error:
            # Gradio's, for events' own errors are sentences: bodies that are no text, a queue that has no such visitor
            # any more. Whoever asks for it a thousand times shall not fill the log.
            place = f"{type(error).__name__}, {traceback.extract_tb(error.__traceback__)[-1:]}"
            level = logging.DEBUG if place in self.seen else logging.WARNING
            log.log(level, "a request could not be answered: %s", place)
            self.seen.add(place)
            await sender.finish(scope, receive)

    async def _outside(self, scope: Scope, receive: Receive) -> Response | None:
        """What someone gets who is not in the room; None for those who are."""
        headers = Headers(scope=scope)
        kept = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if hmac.compare_digest(kept.encode(), self.key.encode()) or self._is_code(headers.get(HEADER, "")):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        code = query.pop(KEY, [None])[-1]
        if code is None and scope["method"] == "POST" and (body := await _short(Request(scope, receive))):
            code = parse_qs(body).get(KEY, [None])[-1]
        if code is not None and self._is_code(code):
            # A browser reads `?...` against the page's address, whatever a proxy took off the path.
            response = RedirectResponse("?" + urlencode(query, doseq=True), 303)
            response.set_cookie(COOKIE, self.key, max_age=86400, httponly=True, samesite="lax")
            return response
        if code is not None or HEADER in headers:
            await asyncio.sleep(WRONG_SECONDS)
        return HTMLResponse(render("room", wrong=code is not None), 401)

    def _is_code(self, text: str) -> bool:
        return hmac.compare_digest(text.strip().casefold().encode(), self.room.strip().casefold().encode())


async def _short(request: Request) -> str:
    """The body of a form; empty where it is long, for then it is none of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > 1000:
            return ""
    return body.decode("latin-1")


class _Sender:
    """Passes an answer on with its headers; a page is held back until its scripts are known."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.start: Message | None = None
        self.page = b""
        self.begun = self.done = False

    async def __call__(self, message: Message) -> None:
        """The next piece of the answer."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"  # a link may hold the room's code
            if headers.get("content-type", "").startswith("text/html"):
                self.start = message
                return
            headers["Content-Security-Policy"] = policy()
        elif self.start is not None:
            self.page += message.get("body", b"")
            if message.get("more_body"):
                return
            MutableHeaders(scope=self.start)["Content-Security-Policy"] = policy(self.page)
            await self.send(self.start)
            message, self.start = {"type": "http.response.body", "body": self.page}, None
        self.begun, self.done = True, message["type"] == "http.response.body" and not message.get("more_body")
        await self.send(message)

    async def finish(self, scope: Scope, receive: Receive) -> None:
        """End an answer that broke off."""
        if not self.begun:
            self.start = None
            await JSONResponse({"detail": UNREADABLE}, 400)(scope, receive, self)
        elif not self.done:
            await self.send({"type": "http.response.body", "body": b""})
