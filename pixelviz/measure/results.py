"""What a file of benchmark results holds; a newer version may add to it, which is kept as it stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

FORMAT = 1
Count = Annotated[int, Field(ge=0, le=2**53)]
Unit = Annotated[float, Field(ge=0, le=1)]
_OPEN = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class SeedFigures(TypedDict):
    """What was measured of the images of one seed."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    seed: Count
    fid: float
    kid: float
    precision: Unit
    recall: Unit
    seconds_per_image: float
    network_evaluations: Count
    peak_memory: float | None
    judge: NotRequired[dict[str, float | None]]


class PartFigures(TypedDict):
    """A part that a method runs: its size, and the images that it learnt from, where that is known."""

    parameters: Count
    images_seen: Count | None


class MethodRow(TypedDict):
    """A method with its passes on a model: means over the seeds, and the deviations of what varies."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    method: str
    title: str
    citation: str
    model: str
    passes: Count
    network_evaluations: Count
    fid: float
    fid_spread: float | None
    kid: float
    kid_spread: float | None
    precision: Unit
    recall: Unit
    seconds_per_image: float
    parameters: Count
    peak_memory: float | None
    parts: dict[str, PartFigures]
    judge: NotRequired[dict[str, float | None]]
    seeds: NotRequired[list[SeedFigures]]


class Results(TypedDict):
    """The whole file: on what was measured, and the rows."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]
    format: Literal[1]
    checkpoint: str
    samples: Count
    device: NotRequired[str]
    environment: NotRequired[dict[str, Any]]
    bits_per_dimension: NotRequired[dict[str, dict[str, float]]]  # at most so many, as `likelihood` gives them
    rows: list[MethodRow]
