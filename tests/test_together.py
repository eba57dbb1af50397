"""One computation for many who ask: the images stay those of their seeds, bit for bit, and nothing is kept for ever."""

import threading
import time

import numpy as np
import pytest
import torch

from pixelviz.devices import choose
from pixelviz.samplers import ImageNoise, draw_noise
from pixelviz.service import together
from pixelviz.service.kept import Kept
from pixelviz.service.service import Service
from pixelviz.service.together import Answers, Pool, Share
from pixelviz.service.turns import ModelTurn
from tests.tiny import tiny_model

SETTINGS = {"passes": 2, "start": "consistent", "sampler": "parallel"}


def drawn(pool, model, *wanted, **settings):
    """The final x of shares (seed, n), which all wait while the model is busy."""
    found = [{} for _ in wanted]

    def recorder(mine):
        return lambda i, first, x: mine.update({first + k: one for k, one in enumerate(x)}) if not i else None

    shares = [Share(seed, n, recorder(mine)) for (seed, n), mine in zip(wanted, found, strict=True)]
    threads = [
        threading.Thread(target=pool.draw, args=(model, share), kwargs={**SETTINGS, **settings}) for share in shares
    ]
    with pool.turn.short():
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(pool.turn._waiting["short"]) < count:
                time.sleep(0.001)
    for thread in threads:
        thread.join(30)
    assert all(share.done and share.error is None for share in shares)
    return [torch.stack([mine[k] for k in range(share.n)]) for mine, share in zip(found, shares, strict=True)], shares


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampler", ["parallel", "rotation"])
def test_images_of_several_visitors_in_one_run_are_bit_for_bit_those_drawn_alone(monkeypatch, precision, sampler):
    compute, model = choose("cpu", precision), tiny_model()
    pool, runs = Pool(compute, ModelTurn()), []
    forward = model.parallel_unet.forward
    monkeypatch.setattr(
        model.parallel_unet, "forward", lambda x, *rest, **named: runs.append(len(x)) or forward(x, *rest, **named)
    )
    wanted = [(11, 3), (5, 4), (11, 1), (7, 9)]
    together_, shares = drawn(pool, model, *wanted, sampler=sampler)
    assert runs == [together.ROWS] * 2 * 3  # two passes of 17 images in three runs, not in five
    for images, one, share in zip(together_, wanted, shares, strict=True):
        [alone], _ = drawn(pool, model, one, sampler=sampler)
        assert torch.equal(images, alone)
        assert share.network_evaluations == 2
        assert share.seconds > 0
    seeds = [(7, k) for k in range(8)]
    *_, step = draw_noise(model, compute, ImageNoise.of(seeds), **{**SETTINGS, "sampler": sampler})
    assert torch.equal(together_[3][:8], step.x.float())  # the sampler's own


def test_those_who_ask_for_something_else_are_not_mixed_in():
    pool, model = Pool(choose("cpu"), ModelTurn()), tiny_model()
    [one], _ = drawn(pool, model, (1, 2))
    others = []
    thread = threading.Thread(target=lambda: others.extend(drawn(pool, model, (1, 2), passes=3)[0]))
    thread.start()
    [again], _ = drawn(pool, model, (1, 2))
    thread.join(30)
    assert torch.equal(one, again)
    assert not torch.equal(one, others[0])


def test_an_error_reaches_all_who_share_the_run(monkeypatch):
    pool, model = Pool(choose("cpu"), ModelTurn()), tiny_model()

    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(model.parallel_unet, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        pool.draw(model, Share(0, 1, lambda *_: None), **SETTINGS)
    with pool.turn.short():  # is free
        pass


def test_thirty_who_ask_the_same_have_it_computed_once(service, monkeypatch):
    service = Service([service.runs.parent / "checkpoints", service.runs], device="cpu")
    unet, runs = service.checkpoint("tiny").model.parallel_unet, []
    forward = unet.forward
    monkeypatch.setattr(unet, "forward", lambda x, *rest, **named: runs.append(len(x)) or forward(x, *rest, **named))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append([*service.generate("tiny", 40, 8, seed=9)])) for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 30
    assert sum(runs) <= 40 * 8 + 40  # and one run for the closed loop's time
    assert all(np.array_equal(states[-1].images, answers[0][-1].images) for states in answers)


class State:
    """A state of a computation."""

    nbytes = 10

    def __init__(self, number, done):
        self.number, self.done = number, done


def test_a_computation_goes_on_when_who_began_it_leaves_and_ends_when_all_have_left():
    closed, answers = [], Answers()

    def begin():
        try:
            for k in range(5):
                yield State(k, k == 4)
        finally:
            closed.append(k)

    first, second = answers.ask("key", begin), answers.ask("key", begin)
    assert (next(first).number, next(second).number, next(first).number) == (0, 0, 1)
    first.close()
    assert closed == []
    assert [state.number for state in second] == [1, 2, 3, 4]
    assert [state.number for state in answers.ask("key", begin)] == [4]  # kept
    left = answers.ask("other", begin)
    next(left)
    left.close()
    assert closed == [4, 0]


def test_what_is_kept_is_bounded_by_its_bytes():
    kept = Kept(100)
    for k in range(5):
        kept.put(k, k, 40)
    assert [kept.get(k) for k in range(5)] == [None, None, None, 3, 4]
    kept.put(3, "larger", 60)
    assert (kept.get(3), kept.get(4)) == ("larger", 4)
    kept.put(5, "too large", 200)  # the newest stays
    assert [kept.get(k) for k in (3, 4, 5)] == [None, None, "too large"]
