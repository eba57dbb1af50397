"""A class on one machine: thirty clients of the app with a training and a long generation beside them.

    python benchmarks/classroom.py [--minutes 5] [--clients 30] [--browsers 3] [--json FILE]

The app runs in a process of its own. Together the clients ask for five /curves a second; each draws four images in one
pass every ten seconds, with a seed of its own, and opens the page every half minute; browsers open it in Chromium and
wait for its numbers. One more client asks for 16 images in 50 passes, over and over. Before they come, the training
runs alone for a while: what it keeps of that speed is the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "assets" / "examples" / "coffee.jpg"
ALONE = 20.0  # seconds in which the training has the machine for itself
CURVES_A_SECOND, DRAW_EVERY, PAGE_EVERY = 5.0, 10.0, 30.0
LIMITS = httpx.Limits(keepalive_expiry=2.0)  # before the server closes what is idle
SETTLED = 600.0  # seconds after which the app's memory is to stay where it is
LATE = 30.0  # seconds for the answers to what was asked before the end
WANTED = {"curves": 1.0, "one pass": 5.0, "page": 2.0}  # seconds, of the 95th percentile
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NOT_ASKED = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass
class Kind:
    """What became of one kind of request: seconds of those served, and how many were refused or failed."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    begun: int = 0

    def row(self) -> dict[str, float]:
        """Its figures; percentiles are of those served."""
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive") if len(self.seconds) > 1 else [0.0] * 99
        counts = {"asked": self.begun, "served": len(self.seconds), "refused": self.refused, "failed": self.failed}
        return counts | {"p50": cuts[49], "p95": cuts[94], "most": max(self.seconds, default=0.0)}


class Refused(Exception):
    """The app had no room."""


class Classroom:
    """The clients of an app at `url`, and what they saw until `ends`."""

    def __init__(self, url: str, minutes: float) -> None:
        self.url, self.ends = url, time.monotonic() + 60 * minutes
        self.info: dict[str, Any] = {}  # of the endpoints
        self.kinds: dict[str, Kind] = defaultdict(Kind)
        self.memory: list[tuple[float, float]] = []  # seconds since the class came, MiB

    async def timed(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """One request."""
        kind, began = self.kinds[name], time.monotonic()
        kind.begun += 1
        try:
            await work()
        except Refused:
            kind.refused += 1
        except (httpx.HTTPError, RuntimeError) as error:
            kind.failed += 1
            if kind.failed == 1:
                print(f"{name}: {error!r}", file=sys.stderr)
        else:
            kind.seconds.append(time.monotonic() - began)

    async def every(self, seconds: float, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """A request every so often; whoever waits for longer than that asks again at once."""
        due = time.monotonic() + random.uniform(0, seconds)
        while due < self.ends:
            await asyncio.sleep(due - time.monotonic())
            await self.timed(name, work)
            due = max(due + seconds, time.monotonic())

    async def call(self, client: httpx.AsyncClient, endpoint: str, data: Any, session: str | None = None) -> Any:
        """What an endpoint answers to settings by name, or to all of them as a list; raises Refused or RuntimeError."""
        if isinstance(data, dict):
            self.info = self.info or (await client.get("gradio_api/info")).json()["named_endpoints"]
            known = self.info[f"/{endpoint}"]["parameters"]
            data = [data.get(one["parameter_name"], one.get("parameter_default")) for one in known]
        body = {"data": data} | ({"session_hash": session} if session else {})
        asked = await client.post(f"gradio_api/call/{endpoint}", json=body)
        if asked.status_code == 503:
            raise Refused
        asked.raise_for_status()
        told = await client.get(f"gradio_api/call/{endpoint}/{asked.json()['event_id']}")
        event, _, answer = told.text.rpartition("event: ")[2].partition("\ndata: ")
        if event != "complete":
            raise RuntimeError(told.text[-300:])
        return json.loads(answer)

    async def student(self, number: int, clients: int) -> None:
        """One client: curves, images, and the page."""
        async with httpx.AsyncClient(base_url=self.url, timeout=300, limits=LIMITS) as client:
            sent = await client.post("gradio_api/upload", files={"files": PICTURE.read_bytes()})
            picture = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
            seeds = iter(range(1_000_000 * number, 1_000_000 * number + 100_000))

            async def curves() -> None:
                asked = {"image": picture, "gamma": random.randint(5, 40), "pixels": "[[9, 9, 0]]"}
                await self.call(client, "curves", asked, f"curves{number}")

            async def draw() -> None:
                data = ["fashion-mnist", 4, 1, "consistent", "parallel", next(seeds)]
                await self.call(client, "generate", data, f"student{number}")

            async def page() -> None:
                (await client.get("")).raise_for_status()

            await asyncio.gather(
                self.every(clients / CURVES_A_SECOND, "curves", curves),
                self.every(DRAW_EVERY, "one pass", draw),
                self.every(PAGE_EVERY, "page", page),
            )

    async def patient(self) -> None:
        """16 images in 50 passes, over and over."""
        async with httpx.AsyncClient(base_url=self.url, timeout=900) as client:
            seed = 0
            while time.monotonic() < self.ends:
                seed += 1
                data = ["fashion-mnist", 16, 50, "consistent", "parallel", seed]
                await self.timed("50 passes", lambda data=data: self.call(client, "generate", data, "patient"))

    async def in_chromium(self, number: int) -> None:
        """Open the page in a browser of its own and wait for the instrument's numbers, once in a while."""
        from playwright.async_api import async_playwright

        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            tab = await browser.new_page()

            async def look() -> None:
                await tab.goto("about:blank")
                await tab.goto(f"{self.url}#view=all", timeout=120_000)
                await tab.locator(".pv-cards dd").first.wait_for(timeout=120_000)

            await asyncio.sleep(number * PAGE_EVERY / 3)
            while time.monotonic() < self.ends:
                await self.timed("page in Chromium", look)
                await asyncio.sleep(PAGE_EVERY)
            await browser.close()

    async def watch(self, process: int) -> float:
        """The app's memory every second, and the training's steps at both ends of the time; returns these a second."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            first, began = await self.training(client), time.monotonic()
            while time.monotonic() < self.ends:
                self.memory.append((time.monotonic() - began, memory(process)))
                await asyncio.sleep(1)
                if int(time.monotonic()) % 10 == 0:
                    await self.timed("train_status", lambda: self.call(client, "train_status", []))
            return (await self.training(client) - first) / (time.monotonic() - began)

    def sizes(self) -> dict[str, float]:
        """The app's memory in MiB: at both ends, after ten minutes where they are over, and at its most."""
        settled = [size for seconds, size in self.memory if seconds >= SETTLED]
        after = {f"after {SETTLED / 60:.0f} min": settled[0]} if settled else {}
        found = [size for _, size in self.memory]
        return {"at the start": found[0], **after, "at the end": found[-1], "at most": max(found)}

    async def training(self, client: httpx.AsyncClient) -> int:
        """At which step the training is."""
        return (await self.call(client, "train_status", []))[0]["step"]

    async def run(self, clients: int, browsers: int, process: int) -> float:
        """All at once; returns the training's steps a second."""
        class_ = [
            *(self.student(k, clients) for k in range(clients)),
            *(self.in_chromium(k) for k in range(browsers)),
            self.patient(),
        ]
        tasks = [asyncio.create_task(one) for one in class_]
        pace = await self.watch(process)
        _, late = await asyncio.wait(tasks, timeout=LATE)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return pace


def memory(process: int) -> float:
    """A process's resident memory in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@contextmanager
def app(runs: str) -> Iterator[tuple[str, int]]:
    """The app in a process of its own: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pixelviz", "app", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PIXELVIZ_RUNS": runs}) as process:
        url = f"http://127.0.0.1:{port}/"
        try:
            while True:
                try:
                    httpx.get(url, timeout=60)
                    break
                except NOT_ASKED:
                    time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()


async def alone(url: str) -> float:
    """Start a training and let it run alone; returns its steps a second."""
    room = Classroom(url, 0)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await room.call(client, "generate", ["fashion-mnist", 1, 1, "consistent", "parallel", 0])  # loads the model
        await room.call(client, "train_start", {"steps": 500_000, "name": "class"})
        while (first := await room.training(client)) < 3:
            await asyncio.sleep(0.2)
        began = time.monotonic()
        await asyncio.sleep(ALONE)
        return (await room.training(client) - first) / (time.monotonic() - began)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--browsers", type=int, default=3, help="of these in Chromium, beside the clients")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs, app(runs) as (url, process):
        before = asyncio.run(alone(url))
        room = Classroom(url, asked.minutes)
        pace = asyncio.run(room.run(asked.clients, asked.browsers, process))
    rows = {name: kind.row() for name, kind in sorted(room.kinds.items())}
    print("| kind | asked | served | refused | failed | p50, s | p95, s | most, s | wanted p95 |\n|" + "---|" * 9)
    for name, row in rows.items():
        counts = " | ".join(f"{row[key]:,}" for key in ("asked", "served", "refused", "failed"))
        times = " | ".join(f"{row[key]:.2f}" for key in ("p50", "p95", "most"))
        print(f"| {name} | {counts} | {times} | {WANTED.get(name, '')} |")
    sizes = room.sizes()
    print("The app's memory, MiB: " + ", ".join(f"{value:,.0f} {name}" for name, value in sizes.items()))
    print(f"The training: {pace:.2f} steps a second of {before:.2f} alone, {pace / before:.0%}")
    if asked.json:
        minutes = [(round(seconds), size) for seconds, size in room.memory[::60]]
        training = {"alone": before, "beside": pace}
        figures = {"kinds": rows, "memory": sizes, "memory by minute": minutes, "training": training}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
