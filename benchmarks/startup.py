"""How long PixelViz takes to start, in processor time, beside the least that an app of its kind can take.

    python benchmarks/startup.py [--runs N] [--json FILE]

Each figure is user and system time of a fresh process, the median of N: other work on the machine hardly counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BARE = """import torch, gradio
with gradio.Blocks() as demo:
    gradio.Textbox()
"""
PROCESSES = {
    "bare": ["-c", BARE],
    "app": ["-c", "import app"],
    "help": ["-m", "pixelviz", "--help"],
    "inspect": ["-m", "pixelviz", "inspect", "--preset", "cifar10"],
}


def processor_seconds(arguments: list[str]) -> float:
    """User and system time of `python arguments`, in seconds; raises CalledProcessError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(runs: int) -> dict[str, float]:
    """The median of each process's seconds. They take turns, so that a busy minute meets all alike."""
    taken = [{name: processor_seconds(arguments) for name, arguments in PROCESSES.items()} for _ in range(runs)]
    return {name: statistics.median(row[name] for row in taken) for name in PROCESSES}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each process is started")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    seconds = measure(arguments.runs)
    figures = {**seconds, "ratio": seconds["app"] / seconds["bare"]}
    print(f"a bare Blocks app that imports torch  {seconds['bare']:.2f} s")
    print(f"import app                            {seconds['app']:.2f} s, {figures['ratio']:.2f} times as much")
    print(f"pixelviz --help                       {seconds['help']:.2f} s")
    print(f"pixelviz inspect --preset cifar10     {seconds['inspect']:.2f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
