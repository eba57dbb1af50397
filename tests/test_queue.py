"""The app's queue over HTTP: lanes, turns between visitors, control calls at once, and places of those who left."""

import asyncio
import contextlib
import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pixelviz.service.jobs import TrainingJobs
from pixelviz.service.turns import AT_ONCE, EACH, LONG, MOST_WAITING, SHORT
from pixelviz.ui import queue as fair
from pixelviz.ui.app import build_app, launch_options
from pixelviz.ui.queue import generation_lane

SHORT_ONE, LONG_ONE = ["tiny", 1, 1], ["tiny", 40, 8]


@pytest.fixture(scope="module")
def app(service):
    demo = build_app(service, TrainingJobs(service))
    demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield demo
    demo.close()


@pytest.fixture
def held(app, service):
    """The app, in which no network runs as long as the test does."""
    with service.turn.short():
        yield app
    until(lambda: not waiting(app) and not begun(app, SHORT) and not begun(app, LONG))


def until(condition, seconds=20):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def waiting(app):
    """The events that wait, by lane: (visitor, seed) in their order."""
    queues = app._queue.event_queue_per_concurrency_id
    return {
        name: [(event.session_hash, event.data.data[5]) for event in queue.queue]
        for name, queue in queues.items()
        if queue.queue
    }


def begun(app, lane):
    queue = app._queue.event_queue_per_concurrency_id.get(lane)
    return queue.current_concurrency if queue else 0


def generate(app, data, seed, visitor=None):
    """Ask /generate without waiting for the answer; returns the response."""
    body = {"data": [*data, "consistent", "parallel", seed, None, 1], **({"session_hash": visitor} if visitor else {})}
    return httpx.post(f"{app.local_url}gradio_api/call/generate", json=body)


def test_short_and_long_work_have_lanes_of_their_own(held):
    for k in range(5):
        assert generate(held, LONG_ONE, k, "long").is_success
    until(lambda: begun(held, LONG) == EACH[LONG])
    assert generate(held, SHORT_ONE, 9, "short").is_success
    until(lambda: begun(held, SHORT) == 1)  # not behind the long ones
    assert waiting(held) == {LONG: [("long", k) for k in range(EACH[LONG], 5)]}
    held._queue.event_queue_per_concurrency_id[LONG].queue.clear()


def test_a_flood_delays_its_own_visitor(held):
    for k in range(20):
        assert generate(held, SHORT_ONE, 100 + k, "flood").is_success
    until(lambda: begun(held, SHORT) == EACH[SHORT])  # others find room
    for k, visitor in enumerate(f"visitor {k}" for k in range(AT_ONCE[SHORT] - EACH[SHORT])):
        assert generate(held, SHORT_ONE, 200 + k, visitor).is_success
    until(lambda: begun(held, SHORT) == AT_ONCE[SHORT])
    for k in range(3):
        assert generate(held, SHORT_ONE, 300 + k, "late").is_success
    late = [place for place, (visitor, _) in enumerate(waiting(held)[SHORT]) if visitor == "late"]
    assert late == [1, 3, 5]  # behind one, two and three of the eighteen that came before
    held._queue.event_queue_per_concurrency_id[SHORT].queue.clear()


def test_what_comes_without_a_session_is_one_visitor_by_its_address(held):
    for k in range(4):
        assert generate(held, SHORT_ONE, 400 + k).is_success
    until(lambda: begun(held, SHORT) == EACH[SHORT])
    assert len(waiting(held)[SHORT]) == 4 - EACH[SHORT]


def test_a_visitor_may_wait_for_64_and_others_for_theirs(held):
    answers = [generate(held, SHORT_ONE, k, "many") for k in range(MOST_WAITING + EACH[SHORT])]
    assert all(answer.is_success for answer in answers)
    refused = generate(held, SHORT_ONE, 0, "many")
    assert refused.status_code == 503
    assert "64 of your requests are waiting" in refused.text
    assert generate(held, SHORT_ONE, 1, "another").is_success
    assert generate(held, LONG_ONE, 1, "many").is_success
    for queue in held._queue.event_queue_per_concurrency_id.values():
        queue.queue.clear()


def test_images_between_samples_are_drawn_for_a_few_and_once_for_each(app, service):
    """They wait in no queue: whoever finds no place is told so at once, and keeps no thread."""
    [triangle] = [block for block in app.blocks.values() if hasattr(block, "between")]
    place = {"component_id": triangle._id, "fn_name": "between", "data": ["tiny", 0, [0, 1, 2], [1, 1, 1], None, 1]}

    def between(visitor):
        asked = {"session_hash": visitor, **place}
        return httpx.post(f"{app.local_url}gradio_api/component_server", json=asked, timeout=20).json()

    with ThreadPoolExecutor(AT_ONCE[SHORT]) as pool:
        with service.turn.short():
            first = [pool.submit(between, f"hand {k}") for k in range(AT_ONCE[SHORT])]
            until(lambda: len(service.turn._waiting[SHORT]) == AT_ONCE[SHORT])
            for visitor in ("hand 0", "late"):
                assert between(visitor) == {"error": fair.BUSY, "busy": True}
        assert all("image" in one.result() for one in first)
    assert "image" in between("late")


def test_what_a_script_calls_past_the_queue_takes_no_thread_unasked(app):
    called = [function for block in app.blocks.values() for function in getattr(block, "server_fns", ())]
    assert len(called) > 1
    assert all(map(inspect.iscoroutinefunction, called))


@pytest.mark.parametrize(
    ("data", "lane"),
    [
        (["tiny", 4, 1], SHORT),
        (["tiny", 64, 1, "consistent"], SHORT),
        (["tiny", 16, "50"], LONG),
        (["tiny", 65, 1], LONG),
        (["tiny", "many", 1], SHORT),
        ([], SHORT),
        (["tiny", None, float("inf")], SHORT),
    ],
)
def test_the_lane_of_a_generation(data, lane):
    assert generation_lane(data) == lane


def test_control_calls_do_not_wait(held):
    for k in range(MOST_WAITING):
        generate(held, SHORT_ONE, k, f"visitor {k}")
    until(lambda: begun(held, SHORT) == AT_ONCE[SHORT])
    began = time.monotonic()
    for name in ("train_status", "train_stop"):
        asked = httpx.post(f"{held.local_url}gradio_api/call/{name}", json={"data": []}).json()["event_id"]
        told = httpx.get(f"{held.local_url}gradio_api/call/{name}/{asked}", timeout=5).text
        assert "event: complete" in told
    assert time.monotonic() - began < 2
    screen = {name: fn for fn in held.fns.values() for name in [fn.name] if fn.name in ("look", "stop", "stopped")}
    assert len(screen) == 3
    assert not any(fn.queue for fn in screen.values())
    held._queue.event_queue_per_concurrency_id[SHORT].queue.clear()


async def leave(app, data, count):
    """Ask `count` times, listen for a moment, and go away."""
    async with httpx.AsyncClient(base_url=f"{app.local_url}gradio_api/call/", timeout=20) as client:

        async def listen(k):
            body = {"data": [*data, "consistent", "parallel", 700 + k]}
            asked = (await client.post("generate", json=body)).json()["event_id"]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.get(f"generate/{asked}"), 0.5)

        await asyncio.gather(*(listen(k) for k in range(count)))


@pytest.mark.parametrize(("data", "lane"), [(SHORT_ONE, SHORT), (LONG_ONE, LONG)])
def test_who_goes_away_frees_every_place_within_a_second(held, data, lane):
    asyncio.run(leave(held, data, 4))
    left = time.monotonic()
    until(lambda: not waiting(held) and not begun(held, lane))
    assert time.monotonic() - left < 1.5  # a busy machine


def test_no_page_holds_a_stream_open(app):
    """A browser has six connections to a host: a stream for each tab would leave none for the sixth."""
    assert not app.get_config_file()["connect_heartbeat"]


def ask_status(client, visitor=None):
    body = {"data": [], **({"session_hash": visitor} if visitor else {})}
    return client.post("train_status", json=body).json()["event_id"]


@pytest.fixture
def client(app):
    with httpx.Client(base_url=f"{app.local_url}gradio_api/call/", timeout=20) as client:
        yield client


def test_a_visitor_costs_next_to_nothing(app, client, monkeypatch):
    """Gradio's own sessions hold the configuration of every component, and what was shown last in each."""
    monkeypatch.setattr("gradio.components.HTML.get_config", lambda self: pytest.fail("a session was configured"))
    asked = ask_status(client, "a newcomer")
    assert "complete" in client.get(f"train_status/{asked}").text
    one, other = app.state_holder["a newcomer"], app.state_holder["another"]
    assert not one.config_values
    assert one.blocks_config.fns is app.default_config.fns
    assert not one.blocks_config.blocks.maps[0]
    (key, block), (_, changed), *_ = app.blocks.items()
    one[key] = changed  # in one page, and in no other
    assert one[key] is changed
    assert other[key] is app.blocks[key] is block


def test_what_nobody_fetches_gives_way(app, client, monkeypatch):
    monkeypatch.setattr(fair, "MOST_UNREAD", 20)
    queue = app._queue
    monkeypatch.setattr(queue.pending_messages_per_session, "max_size", 30)
    flood = [ask_status(client, "flood") for _ in range(30)]
    until(lambda: not any(event in queue.event_ids_to_events for event in flood))
    before = [ask_status(client) for _ in range(100)]
    until(lambda: not any(event in queue.event_ids_to_events for event in before))
    kept = queue.pending_messages_per_session
    assert "flood" not in kept
    assert sum(session in before and messages.qsize() > 0 for session, messages in kept.items()) <= 20
    assert len(queue.pending_event_ids_session) <= 2 * 30 + 1
    assert "complete" in client.get(f"train_status/{before[-1]}").text
    assert "error" in client.get(f"train_status/{before[0]}").text
    assert "complete" in client.get(f"train_status/{ask_status(client, 'flood')}").text
