"""What the Scale tab compares: SSIM over i of the checkpoints that take the same kind of picture."""

from __future__ import annotations

from pixelviz.data.pictures import frame_steps
from pixelviz.measure.estimate import ScalePoint
from pixelviz.service.service import Service
from pixelviz.view import View

CURVE_POINTS = 12
MAX_CURVES = 4


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
