"""What Gradio remembers of every visitor: next to nothing, for the pages and the service hold what there is."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

from gradio import Blocks
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState, StateHolder


class LightSession(SessionState):
    """A session without the configuration and last value of every component, which holds what is its own alone.

    Gradio keeps these for its deep links, which this app has not: a tenth of a second of the server's one loop for each
    new visitor, and whatever was shown. It also copies the tables of all components and events, which here are shared
    as long as they are not changed: 35 KB for everyone who asks one question.
    """

    def __init__(self, blocks: Blocks) -> None:
        shared = blocks.default_config
        self.blocks_config = BlocksConfig(blocks)
        self.blocks_config.blocks = ChainMap({}, shared.blocks)  # pyright: ignore
        self.blocks_config.fns, self.blocks_config.fn_id = shared.fns, shared.fn_id
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
