"""Gradio's queue with lanes, in which visitors take turns."""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import gradio as gr
from anyio.to_thread import run_sync
from gradio.context import LocalContext
from gradio.queueing import Event, EventQueue, Queue

from pixelviz.devices import trim
from pixelviz.service.turns import AT_ONCE, EACH, LONG, MOST_WAITING, SHORT, lane

MOST_OF_ALL = 4096  # events that wait, of all visitors, however many sessions somebody makes up
MOST_UNREAD = 256  # events that are answered and whose answers nobody has fetched, of all visitors
TRIM_SECONDS = 30.0  # between two times at which the system gets back what was freed
# For an event that runs a network: `add(handler, ..., **SHORT_LANE)`.
SHORT_LANE: dict[str, Any] = {"concurrency_id": SHORT, "concurrency_limit": AT_ONCE[SHORT]}
LONG_LANE: dict[str, Any] = {"concurrency_id": LONG, "concurrency_limit": AT_ONCE[LONG]}
BUSY = "Many images are being drawn just now; yours comes in a moment."
FULL = (
    f"{MOST_WAITING} of your requests are waiting here already. Wait until some are answered; nobody else's are held "
    "up by them."
)


def _visitor(event: Event) -> str:
    """Who asks: a page or a client by its session; what comes without one, by the address that it comes from."""
    if event.session_hash != event._id:
        return event.session_hash
    return event.request.client.host if event.request.client else ""


class FairQueue(Queue):
    """One visitor's flood delays that visitor.

    A new event comes behind as many of everybody else's as its visitor already has in its lane: `event.round` counts
    these. A handler's attribute `lane`, called with the event's data, says in which lane an event is; without one it
    is in that of its `concurrency_id`. Of what was answered and is not fetched the oldest gives way.
    """

    unread: dict[str, int]  # answered events by session, the one answered last at the end
    trimmed = 0.0

    async def push(self, body: Any, request: Any, username: str | None) -> tuple[bool, Any, Any]:
        """As Gradio's, but full for a visitor and a lane, not for all."""
        there, event_id, _ = found = await super().push(body, request, username)
        if not there or (event := self.event_ids_to_events.get(event_id)) is None:
            return found
        # Nothing is awaited from here on, so the event cannot have been begun.
        self.event_queue_per_concurrency_id[event.concurrency_id].queue.remove(event)
        lane = getattr(event.fn.fn, "lane", None)
        event.concurrency_id = lane(event.data.data) if lane else event.concurrency_id
        queue = self._lane(event.concurrency_id)
        mine = sum(_visitor(other) == _visitor(event) for other in queue.queue)
        if mine >= MOST_WAITING:
            del self.event_ids_to_events[event_id]
            self.pending_event_ids_session[event.session_hash].discard(event_id)
            return False, FULL, "queue_full"
        event.round = mine + (queue.queue[0].round if queue.queue else 0)
        insort(queue.queue, event, key=lambda other: other.round)
        self.broadcast_estimations(event.concurrency_id, queue.queue.index(event))
        return found

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The next event to begin: of a lane that has room, the first whose visitor has not its share there already."""
        for name, queue in self.event_queue_per_concurrency_id.items():
            if not queue.queue or queue.current_concurrency >= (queue.concurrency_limit or len(self.active_jobs)):
                continue
            running, each = self._running(name), EACH.get(name, len(self.active_jobs))
            for event in queue.queue:
                if running[_visitor(event)] < each:
                    queue.queue.remove(event)
                    return [event], False, name
        return None

    async def process_events(self, events: list[Event], *args: Any, **kwargs: Any) -> None:
        """Handle events, then see to it that they leave nothing behind."""
        await super().process_events(events, *args, **kwargs)
        self._forget([event.session_hash for event in events])
        if time.monotonic() - self.trimmed > TRIM_SECONDS:
            self.trimmed = time.monotonic()
            await run_sync(trim)

    def send_message(self, event: Event, event_message: Any) -> None:
        """Tell whoever asked, where the session's messages have not given way."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    def _forget(self, answered: list[str]) -> None:
        kept, known = self.pending_messages_per_session, self.pending_event_ids_session
        for session in answered:
            self.unread[session] = self.unread.pop(session, 0) + 1
        self.unread = {one: count for one, count in self.unread.items() if one in kept and kept[one].qsize()}
        while sum(self.unread.values()) > MOST_UNREAD:
            oldest = next(iter(self.unread))
            del self.unread[oldest], kept[oldest]
        if len(known) > 2 * kept.max_size:  # Gradio forgets the messages of a session, but never that it had some
            self.pending_event_ids_session = {one: events for one, events in known.items() if one in kept}

    def _lane(self, name: str) -> EventQueue:
        return self.event_queue_per_concurrency_id.setdefault(name, EventQueue(name, AT_ONCE.get(name, 1)))

    def _running(self, name: str) -> Counter[str]:
        """How many events of a lane have begun, by visitor."""
        begun = (event for events in self.active_jobs for event in events or ())
        return Counter(_visitor(event) for event in begun if event.concurrency_id == name)


def generation_lane(data: list[Any]) -> str:
    """The lane of a generation by its handler's data, of which the second and third are images and passes."""
    try:
        return lane(int(data[1]), int(data[2]))
    except (IndexError, TypeError, ValueError, OverflowError):
        return SHORT  # it will be refused


def admitted(draw: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Awaitable[dict[str, Any]]]:
    """A function that a page's script calls past the queue, run for as many visitors as the short lane has, once each.

    All others are answered at once that it is busy: waiting, they would fill the threads that everybody shares.
    """
    drawn_for: set[object] = set()  # changed on the server's loop alone

    @wraps(draw)
    async def ask(asked: Any) -> dict[str, Any]:
        visitor = LocalContext.blocks_config.get(None)  # every session has its own
        if visitor in drawn_for or len(drawn_for) >= AT_ONCE[SHORT]:
            return {"error": BUSY, "busy": True}
        drawn_for.add(visitor)
        try:
            return await run_sync(draw, asked)
        finally:
            drawn_for.discard(visitor)

    return ask


def take_turns(demo: gr.Blocks) -> None:
    """Give an app this queue."""
    demo.queue(max_size=MOST_OF_ALL)
    demo._queue.__class__ = FairQueue  # Gradio makes it itself, and offers no other way
    demo._queue.unread = {}


def client_is_there() -> bool:
    """Whether the client of the event that is handled in this thread is still there; True where there is no event."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(event_id) if blocks is not None else None
    return event is None or event.alive
