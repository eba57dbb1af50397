"""What the Scale tab shows beside an estimate: SSIM over i of other checkpoints, and the command line for it."""

from __future__ import annotations

from typing import Any

from pixelviz.data.images import example_file
from pixelviz.data.pictures import frame_steps
from pixelviz.measure.estimate import ScalePoint
from pixelviz.service.catalog import Found
from pixelviz.service.generation import command_line
from pixelviz.service.service import Service
from pixelviz.view import View

CURVE_POINTS = 12
MAX_CURVES = 4


def scale_command(found: Found, example: str | None, tiled: bool, **settings: Any) -> str:
    """The command line that draws the same pictures of an example, or of an upload (None)."""
    image = example_file(example) if example else "your-picture.png"
    return command_line("scale", found, image=image, **settings, out="scale.png") + " --tiled" * tiled


def scale_curves(service: Service, name: str, view: View) -> dict[str, list[ScalePoint]]:
    """SSIM over i of checkpoint `name`, and of others with as many channels, under names that say their floors.

    Raises ServiceError, CheckpointError or ImageError.
    """
    channels = service.find(name).config.channels
    others = (service.find(other) for other in service.names("scale_vae") if other != name)
    alike = [service.find(name), *(other for other in others if other.config.channels == channels)]
    return {
        f"{found.name} (floor {found.config.floor:g})": service.scale_over_i(
            found.name, view, frame_steps(found.config.T, CURVE_POINTS)
        )
        for found in alike[:MAX_CURVES]
    }
