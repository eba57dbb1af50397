"""The lesson without a screen: its plan for the browser, its texts, and the outcome of each step."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pixelviz.checks import ServiceError
from pixelviz.data import pictures
from pixelviz.data.images import EXAMPLES
from pixelviz.data.sets import to_image
from pixelviz.declare import quoted
from pixelviz.lesson.exercises import EXERCISES
from pixelviz.lesson.steps import ROUTES, STEPS, Numbers, Outcome, Scene, Staging, Step
from pixelviz.numerals import in_words
from pixelviz.service.errors import friendly
from pixelviz.service.service import Service
from pixelviz.view import DEFAULTS

LESSONS = Path(__file__).with_name("words")
FIRST_LANGUAGE = "en"


class LanguageError(ValueError):
    """A file of texts that cannot be used; the message says where it differs from the English one."""


def _filled(texts: Any, fallback: Any, where: str) -> Any:
    """`texts` with what it lacks taken from `fallback`, at every depth. Raises LanguageError."""
    if type(texts) is not type(fallback):
        kind = {dict: "texts in braces", list: "a list", str: "text"}.get(type(fallback), type(fallback).__name__)
        raise LanguageError(f"{where} must be {kind}, as in {FIRST_LANGUAGE}.json; it is {texts!r:.60}.")
    if not isinstance(fallback, dict):
        return texts
    return {
        key: _filled(texts[key], value, f"{where}, {key},") if key in texts else value
        for key, value in fallback.items()
    }


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LanguageError(f"{path.name} is not JSON ({error}).") from None


@cache
def languages() -> dict[str, dict[str, Any]]:
    """The texts by language code: every file in words/, English first; what a file lacks is English.

    Raises LanguageError.
    """
    read = {path.stem: _read(path) for path in sorted(LESSONS.glob("*.json"))}
    english = read.pop(FIRST_LANGUAGE)
    return {FIRST_LANGUAGE: english} | {code: _filled(texts, english, f"{code}.json") for code, texts in read.items()}


def _sentences(numbers: Numbers) -> dict[str, str]:
    """Numbers as they stand in a sentence of any language: three digits, and no separators."""
    return {
        key: value if isinstance(value, str) else in_words(value, 3, 1e4).replace(",", "")
        for key, value in numbers.items()
    }


def _settings(scene: Scene, **changes: Any) -> dict[str, Any]:
    """The instrument's settings for a scene."""
    view = {key: getattr(scene.view, key) for key in DEFAULTS if key != "t"}
    about = {"example": dict(EXAMPLES)[scene.example].stem, "pair": [0, len(scene.wanted) - 1]}
    return view | {"schedule": scene.view.schedule} | about | changes


def _stage(stage: Staging | None) -> dict[str, Any] | None:
    return None if stage is None else asdict(stage)


def plan() -> dict[str, Any]:
    """What the browser needs to run the lesson, without the answers."""
    return {
        "steps": [
            {
                "key": step.key,
                "minutes": step.minutes,
                "columns": step.columns,
                "options": step.options,
                "settings": _settings(step.scene),
                "values": to_image(step.scene.view.x0_at_pixels, step.scene.view.floor).tolist(),
                "ask": _stage(step.ask),
                "see": _stage(step.see),
                "tries": [{"key": key, "state": state} for key, state in step.tries.items()],
                "network": step.network,
                "given": _sentences(step.given()),
            }
            for step in STEPS
        ],
        "routes": {key: [step.key for step in steps] for key, steps in ROUTES.items()},
        "exercises": [
            {
                "key": exercise.key,
                "given": _sentences(exercise.given()),
                "view": None if exercise.view is None else {"settings": _settings(exercise.scene, **exercise.view)},
            }
            for exercise in EXERCISES
        ],
    }


def _for_browser(step: Step, outcome: Outcome) -> dict[str, Any]:
    return {
        "answer": outcome.answer,
        "numbers": _sentences(step.given() | outcome.numbers),
        "pictures": [{"key": shown.key, "source": pictures.data_uri(shown.image)} for shown in outcome.pictures],
        "curves": [{"key": key, "x": list(x), "y": list(y)} for key, (x, y) in outcome.curves.items()],
    }


class Lesson:
    """Outcomes of the steps, computed when first asked for and then kept: a class asks the same thing thirty times.

    A step that runs a network is computed again when the checkpoints have changed.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self._locks = {step.key: threading.Lock() for step in STEPS}
        self._kept: dict[str, tuple[Any, dict[str, Any]]] = {}

    def _state_of_models(self) -> Any:
        return tuple((name, self.service.find(name).stamp) for name in self.service.names("scale_vae"))

    def outcome(self, key: Any) -> dict[str, Any]:
        """A step's answer, numbers, pictures and curves, ready for the browser; raises ServiceError."""
        step = next((step for step in STEPS if step.key == key), None)
        if step is None:
            raise ServiceError(f"the lesson has no step {quoted(key)}.")
        models = self._state_of_models() if step.network else None
        with self._locks[step.key]:  # the first computes it, the others wait for that
            kept = self._kept.get(step.key)
            if kept is None or kept[0] != models:
                kept = self._kept[step.key] = (models, _for_browser(step, step.outcome(step.scene.view, self.service)))
        return kept[1]

    def answers(self) -> dict[str, Any]:
        """For the teacher: every step's answer and numbers (or why there is none), and every exercise's."""
        steps: dict[str, Any] = {}
        for step in STEPS:
            try:
                found = self.outcome(step.key)
                steps[step.key] = {"answer": found["answer"], "numbers": found["numbers"]}
            except Exception as error:
                steps[step.key] = {"error": friendly(error)}
        return {
            "steps": steps,
            "exercises": {
                exercise.key: _sentences(exercise.given() | exercise.answer(exercise.scene.view))
                for exercise in EXERCISES
            },
        }
