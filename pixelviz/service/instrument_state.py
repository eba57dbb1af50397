"""What the Forward tab's instrument shows now, for handlers that need it on the server."""

from __future__ import annotations

import json
from typing import Any

from pixelviz.checks import ServiceError
from pixelviz.config import PAPER_FLOOR
from pixelviz.data.images import EXAMPLES

DEFAULTS = {"gamma": 20.0, "T": 200, "floor": PAPER_FLOOR, "seed": 0, "rescaled": False, "pixels": [], "t": 0.16}
# An event's `js`: the instrument's state as JSON in the place of the first input; null where it is not drawn yet.
READ_STATE = """(text, ...rest) => [JSON.stringify(
  document.querySelector("#instrument .pv-instrument")?.pvInstrument?.state() ?? null), ...rest]"""


def read_state(text: str | None) -> dict[str, Any]:
    """The state as the browser sent it, unchecked; DEFAULTS for what is missing. Raises ServiceError."""
    try:
        state = json.loads(text) if text else None
    except (TypeError, ValueError, RecursionError):
        raise ServiceError("the instrument's settings arrived damaged; reload the page.") from None
    if state is None:
        return dict(DEFAULTS)
    if not isinstance(state, dict):
        raise ServiceError("the instrument's settings must be names and values; reload the page.")
    return DEFAULTS | {key: state[key] for key in DEFAULTS if state.get(key) is not None}


def picture_name(source: dict[str, Any]) -> str:
    """What to call the picture in use."""
    return next((label for label, path in EXAMPLES if str(path) == source["path"]), "Your picture")
