"""The command line: python -m pixelviz COMMAND."""

from __future__ import annotations

import ast
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

# Threads that spin while they wait slow every other process on a small machine; must precede torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer
from rich.console import Console
from rich.text import Text

# Each command's module, imported only when the command is called: torch takes seconds, --help should not.
COMMANDS = {
    "app": "pixelviz.ui.serve",
    "train": "pixelviz.commands.learn",
    "distill": "pixelviz.commands.learn",
    "tune": "pixelviz.commands.learn",
    "sample": "pixelviz.commands.draw",
    "scale": "pixelviz.commands.draw",
    "evaluate": "pixelviz.commands.measure",
    "bench": "pixelviz.commands.measure",
    "energy": "pixelviz.commands.measure",
    "check": "pixelviz.commands.check",
    "inspect": "pixelviz.commands.look",
    "export": "pixelviz.commands.draw",
    "convert": "pixelviz.commands.keep",
    "publish": "pixelviz.commands.keep",
    "assets": "pixelviz.commands.keep",
    "faces": "pixelviz.commands.keep",
}


def _docstring(module: str, name: str) -> str:
    """The docstring of a module's function, read and not imported."""
    file = Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.get_docstring(next(found)) or ""


def _cli(called: str | None) -> typer.Typer:
    """The command line, of which only the command that is called can run; the others have a name and a line of help."""
    cli = typer.Typer(
        help="PixelViz: diffusion whose noise schedule depends on each pixel.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, module in COMMANDS.items():
        if name == called:
            cli.command()(getattr(import_module(module), name))
        else:
            cli.command(name, help=_docstring(module, name))(lambda: None)
    return cli


def _fail(text: str) -> NoReturn:
    Console(stderr=True).print(Text.assemble(("Error:", "red"), " ", text), soft_wrap=True)
    raise SystemExit(1) from None


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit status 1, never a traceback."""
    try:
        _cli(sys.argv[1] if len(sys.argv) > 1 else None)()
    except (ValueError, OSError) as error:
        _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        from pixelviz.devices import out_of_memory
        from pixelviz.learning.training import TrainingError

        if isinstance(error, TrainingError):
            _fail(str(error))
        if not out_of_memory(error):
            raise
        _fail("there was not enough memory; ask for fewer images at a time, or choose a smaller preset.")


if __name__ == "__main__":
    main()
