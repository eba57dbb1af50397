"""Hundreds of bad uploads and more than a thousand bad requests and checkpoints against a running app.

None may be answered by a traceback, hold anybody up, tell where the server keeps its files, or fill its memory.
"""

import gc
import json
import re
import sys
import time
from pathlib import Path

import httpx
import pytest

from pixelviz.data.picture_store import PICTURES
from pixelviz.process.formulas import PAPERS
from pixelviz.service.errors import friendly
from pixelviz.service.jobs import TrainingJobs
from pixelviz.store import checkpoints
from pixelviz.ui.app import build_app, launch_options
from tests.hostile import generators
from tests.served import empty_service, train_tiny

ROOT = Path(__file__).parents[2]
UPLOADS, PATHS, BODIES, EVENTS, CHECKPOINTS = 420, 300, 200, 350, 200
SECONDS, MEMORY = 5.0, 200 * 2**20
OURS = re.compile(r"Traceback \(most recent|File \"|/site-packages/|root:x:0|\\bPATH=")


class Server:
    """The app with one tiny checkpoint, and what every answer of it must be."""

    def __init__(self, folder, url, service, jobs, config):
        self.folder, self.url, self.service, self.jobs, self.config = folder, url, service, jobs, config
        self.client = httpx.Client(base_url=url, timeout=SECONDS)

    def check(self, answer, what):
        """No traceback, no path of the server's; Gradio names a caller's own uploads by their place in its cache."""
        places = (str(ROOT), str(self.folder), sys.prefix)
        found = OURS.search(answer) or any(place in answer for place in places)
        assert not found, f"{what}: {answer[:1000]}"

    def ask(self, method, path, **options):
        """The answer to a request, with its first half megabyte as text; HTTP's own limits are the client's to mind."""
        began = time.monotonic()
        request = self.client.build_request(method, f"{self.url}{path}", **options)
        response = self.client.send(request, stream=True)
        text = b""
        try:
            streams = "event-stream" in response.headers.get("content-type", "")
            for part in response.iter_raw() if streams else [response.read()]:
                text += part
                if b"process_completed" in text or b"unexpected_error" in text or len(text) > 500_000:
                    break
                if b"event: " in text and b"\n\n" in text and "/call/" in path and b"heartbeat" not in text:
                    break
                if "heartbeat/" in path or time.monotonic() - began > SECONDS:
                    break
        finally:
            response.close()
        said = text.decode("utf-8", "replace")
        self.check(said, f"{method} {path[:200]} {str(options)[:500]}")
        assert time.monotonic() - began < SECONDS, f"{method} {path[:200]} took too long: {said[:300]}"
        return response, said

    def call(self, name, data):
        """What an endpoint says."""
        response, said = self.ask("POST", f"/gradio_api/call/{name}", json={"data": data})
        if response.status_code != 200:
            return said
        return self.ask("GET", f"/gradio_api/call/{name}/{json.loads(said)['event_id']}")[1]

    def event(self, index, data, session):
        """What an event of the screen says, public or not."""
        asked = {"data": data, "fn_index": index, "session_hash": session, "trigger_id": None}
        response, said = self.ask(
            "POST", "/gradio_api/queue/join",
            content=json.dumps(asked).encode("utf-8", "surrogatepass"), headers={"content-type": "application/json"},
        )  # fmt: skip
        if response.status_code != 200:
            return said
        return self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app, running."""
    folder = tmp_path_factory.mktemp("hostile")
    train_tiny(folder / "checkpoints" / "tiny")
    service = empty_service(folder)
    jobs = TrainingJobs(service)
    demo = build_app(service, jobs)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options())
    yield Server(folder, url.rstrip("/"), service, jobs, demo.config)
    jobs.stop()
    demo.close()


@pytest.fixture(autouse=True)
def nothing_grows(server, capfd, caplog):
    """Around each of these tests: memory, and a log without tracebacks."""
    before = memory()
    yield
    gc.collect()
    assert memory() - before < MEMORY
    said = "".join(capfd.readouterr()) + caplog.text
    assert "Traceback" not in said, said[-3000:]
    assert len(said) < 100_000, "the log is flooded"


def memory():
    """Bytes of this process, which is the server's, without the pictures that it keeps up to a bound of their own."""
    if not sys.platform.startswith("linux"):
        return 0
    kept = sum(picture.pixels.nbytes for picture in PICTURES._pictures.values())
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 - kept


def test_bad_uploads(server):
    rng, refused, read = generators.seeded(1), set(), 0
    for _ in range(UPLOADS):
        name, content = generators.upload(rng)
        response, said = server.ask("POST", "/gradio_api/upload", files={"files": (name, content)})
        if response.status_code != 200:
            continue
        image = {"path": json.loads(said)[0], "meta": {"_type": "gradio.FileData"}}
        answer = server.call("curves", [image, 4, 8, 0.1, None, 0, None, "pixel-aware", PAPERS, "printed"])
        if "event: complete" in answer:
            read += 1
        else:
            error = re.search(r'"error":\s*"((?:[^"\\]|\\.)*)"', answer)
            assert error, answer[:300]
            assert "\n" not in error[1]
            refused.add(error[1][:30])
    assert read > 5  # a flipped bit may well leave a picture
    assert len(refused) > 8  # and of what is wrong more is said than that


def test_bad_addresses(server):
    rng = generators.seeded(2)
    for _ in range(PATHS):
        method, path = generators.path(rng)
        response, _ = server.ask(method, path)
        assert response.status_code < 500, path
        assert "content-security-policy" in response.headers


def test_bad_bodies(server):
    rng = generators.seeded(3)
    routes = (
        "queue/join", "run/predict", "call/curves", "call/generate", "upload", "reset", "cancel", "component_server",
        "run/train_status", "startup-events",
    )  # fmt: skip
    kinds = ("application/json", "multipart/form-data; boundary=x", "text/plain", "")
    for _ in range(BODIES):
        headers = {"content-type": rng.choice(kinds)}
        server.ask("POST", f"/gradio_api/{rng.choice(routes)}", content=generators.body(rng), headers=headers)


def test_bad_events(server):
    rng = generators.seeded(4)
    every = [one for one in server.config["dependencies"] if not one.get("js") or one.get("backend_fn")]
    trains = {k for k, one in enumerate(every) if one["api_name"] == "train_start"}
    for number in range(EVENTS):
        k = rng.randrange(len(every))
        data = [generators.value(rng) for _ in every[k]["inputs"]]
        if k in trains:
            data[2] = -1  # steps: nothing is to be learnt here
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data) + 1)]
        server.event(every[k]["id"], data, f"session{number}")
    assert not server.jobs.status().running


def test_bad_checkpoints(server, tmp_path):
    rng = generators.seeded(5)
    folder = server.folder / "checkpoints" / "tiny"
    good = (folder / checkpoints.CONFIG).read_bytes(), (folder / checkpoints.WEIGHTS).read_bytes()
    refused = 0
    for k in range(CHECKPOINTS):
        config = generators.config(rng, json.loads(good[0])) if k % 3 != 1 else good[0]
        weights = generators.weights(rng, good[1]) if k % 3 == 1 else good[1]
        files = {checkpoints.CONFIG: config, checkpoints.WEIGHTS: weights}
        sent = [tmp_path / name for name in files]
        if k % 4 == 3:
            sent = [tmp_path / "x.zip"]
            sent[0].write_bytes(generators.archive(rng, files))
        else:
            for path, data in zip(sent, files.values(), strict=True):
                path.write_bytes(data)
        began = time.monotonic()
        try:
            name = server.service.load_files(sent)
            server.service.describe(name)
        except Exception as error:
            refused += 1
            said = friendly(error)
            server.check(said, config[:300])
            assert "Something went wrong" not in said, (said, config[:2000])
            assert "/tmp" not in said, said
            assert len(said) < 1000, said
        assert time.monotonic() - began < SECONDS
        server.service.names()
    assert refused > CHECKPOINTS / 2
