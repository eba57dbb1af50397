"""What Gradio remembers of every visitor: next to nothing, for the pages and the service hold what there is."""

from __future__ import annotations

from copy import copy
from typing import Any

from gradio import Blocks
from gradio.state_holder import SessionState, StateHolder


class LightSession(SessionState):
    """A session without the configuration and last value of every component.

    Gradio keeps these for its deep links, which this app has not: a tenth of a second of the server's one loop for each
    new visitor, and whatever was shown.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.state_data: dict[int, Any] = {}
        self.config_values: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None: ...

    def _update_value_in_config(self, key: int, value: Any) -> None: ...


class LightSessions(StateHolder):
    """The sessions by their hash."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LightSession(self.blocks)
        return super().__getitem__(session_id)
