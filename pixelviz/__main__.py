"""The command line: python -m pixelviz COMMAND."""

from __future__ import annotations

import os
from typing import NoReturn

# Threads that spin while they wait slow every other process on a small machine; must precede torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer
from rich.console import Console
from rich.text import Text

from pixelviz.commands import draw, keep, learn, measure
from pixelviz.devices import out_of_memory
from pixelviz.learning import training

COMMANDS = (
    learn.train,
    learn.distill,
    learn.tune,
    draw.sample,
    draw.scale,
    measure.evaluate,
    measure.bench,
    keep.inspect,
    draw.export,
    keep.convert,
    keep.assets,
    keep.faces,
)

cli = typer.Typer(
    help="PixelViz: diffusion whose noise schedule depends on each pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    cli.command()(command)


def _fail(text: str) -> NoReturn:
    Console(stderr=True).print(Text.assemble(("Error:", "red"), " ", text), soft_wrap=True)
    raise SystemExit(1) from None


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit status 1, never a traceback."""
    try:
        cli()
    except (ValueError, training.TrainingError, OSError) as error:
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        _fail("there was not enough memory; ask for fewer images at a time, or choose a smaller preset.")


if __name__ == "__main__":
    main()
