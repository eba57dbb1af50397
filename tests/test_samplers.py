"""Samplers against a network that knows the answer, and against closed forms."""

import itertools

import pytest
import torch
from torch import nn

from pixelviz.devices import Compute
from pixelviz.process.reverse import skip_posterior
from pixelviz.process.schedules import PixelAware, image_scale
from pixelviz.samplers import SAMPLERS, STARTS, ImageNoise, SamplerError, Start, draw, ours
from pixelviz.samplers.parallel import boundaries, passed_through
from tests.tiny import tiny_model

CPU = Compute(torch.device("cpu"), None)


class Oracle(nn.Module):
    """R_phi with perfect heads for a known x0: V^j = (sqrt(abar_j) E[x_j | x_i, x0] - x0) / sqrt(1 - abar_j)."""

    def __init__(self, schedule, x0, error=0.0, seed=0):
        super().__init__()
        self.schedule, self.x0, self.error, self.runs = schedule, x0, error, []
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, x_i, x_delta, i, heads=None, *, drift=False):
        step = i[0].item()
        self.runs.append(step)
        wanted = range(1, self.schedule.T + 1) if heads is None else heads.tolist()
        out = []
        wanted = [min(j, step) for j in wanted]  # the head of the step that i lies in speaks for x_i
        for j in wanted:
            x0, x = self.x0.double(), x_i.double()
            x_j = skip_posterior(self.schedule, x0, step, j, x, x0).mean if j < step else x
            abar = self.schedule.alpha_bar(x0, j)
            out.append((abar.sqrt() * x_j - x0) / (1 - abar).sqrt())
        v = torch.stack(out, dim=1)
        v = v + self.error * torch.randn(v.shape, generator=self.generator, dtype=v.dtype)
        if drift:
            v = v / torch.stack([self.schedule.noise_variance(self.x0.double(), j).sqrt() for j in wanted], dim=1)
        return v.to(x_i.dtype)


def _oracle_model(T, gamma, floor=0.004, error=0.0, n=2, **changes):
    """A model whose R_phi is an Oracle, and a Start drawn from the true forward process."""
    model = tiny_model(T=T, gamma=gamma, floor=floor, **changes)
    values = torch.tensor([0.004, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0])
    x0 = values.repeat(n * 32).reshape(n, 1, 16, 16)
    model.parallel_unet = Oracle(PixelAware(T, gamma), x0, error)
    x_delta = image_scale(x0, gamma)
    torch.manual_seed(3)
    x_T = x_delta.sqrt() * x0 + (1 - x_delta).sqrt() * torch.randn(x0.shape)
    return model, Start(x_T, x_delta), x0


def _last(steps):
    *_, last = steps
    return last


@pytest.mark.parametrize("i_min", [1.0, 0.02])
@pytest.mark.parametrize("crossing", ["direct", "recursion"])
@pytest.mark.parametrize("passes", [1, 2, 7, 50])
@torch.no_grad()
def test_perfect_heads_recover_x0_in_float32(passes, crossing, i_min):
    model, start, x0 = _oracle_model(50, 20.0, i_min=i_min)
    last = _last(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 2), passes=passes, crossing=crossing))
    assert last.i == 0
    assert (last.x - x0).abs().max() < 1e-5


@pytest.mark.parametrize("i_min", [1.0, 0.02])
@pytest.mark.parametrize("passes", [1, 2, 7, 50])
@torch.no_grad()
def test_rotation_with_perfect_heads_recovers_x0(passes, i_min):
    model, start, x0 = _oracle_model(50, 20.0, i_min=i_min)
    states = list(SAMPLERS["rotation"].run(model, start, ImageNoise(0, 2), passes=passes))
    assert (states[-1].x - x0).abs().max() < 1e-5
    assert [state.i for state in states] == pytest.approx(boundaries(50, passes, i_min))
    assert [state.i for state in states] == pytest.approx([50, *model.parallel_unet.runs[1:], 0])
    # The noise in x_T is the noise in every state, as DDIM has it.
    eps = (start.x_T - start.x_delta.sqrt() * x0) / (1 - start.x_delta).sqrt()
    for state in states[1:-1]:
        abar = model.schedule.alpha_bar(x0, state.i)
        torch.testing.assert_close(state.x, abar.sqrt() * x0 + (1 - abar).sqrt() * eps, rtol=1e-3, atol=1e-3)


class StandIns(nn.Module):
    """R_phi, whose heads that are not kept say what the next kept one above says."""

    def __init__(self, unet, kept):
        super().__init__()
        self.unet, self.kept = unet, kept

    def forward(self, x_i, x_delta, i, heads, *, drift=False):
        self.asked = len(heads)
        heads = torch.tensor([min(j for j in self.kept if j >= head) for head in heads.tolist()])
        return self.unet(x_i, x_delta, i, heads, drift=drift)


@torch.no_grad()
def test_few_heads_stand_for_those_between_them():
    """All heads, each silent one replaced by the one that stands for it, give the same image; 24 are read of 60."""
    model = tiny_model(T=60)
    start = STARTS["consistent"](model, ImageNoise(0, 2))
    row = SAMPLERS["few-heads"]
    states = [state.i for state in row.run(model, start, ImageNoise(0, 2))]
    assert states == row.states(model.config, 1)
    assert (states[0], states[-1], len(states)) == (60, 0, 25)
    model.parallel_unet = every = StandIns(model.parallel_unet, [int(i) for i in states[:-1]])
    wanted = _last(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 2))).x
    assert every.asked == 60
    found = _last(row.run(model, start, ImageNoise(0, 2))).x
    assert every.asked == 24
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    model.parallel_unet = every.unet
    assert (_last(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 2))).x - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("i_min", [1.0, 0.02])
@pytest.mark.parametrize("passes", [1, 2, 7, 50])
@torch.no_grad()
def test_few_perfect_heads_recover_x0(passes, i_min):
    model, start, x0 = _oracle_model(50, 20.0, i_min=i_min)
    row = SAMPLERS["few-heads"]
    states = list(row.run(model, start, ImageNoise(0, 2), passes=passes))
    assert (states[-1].x - x0).abs().max() < 1e-5
    assert [state.i for state in states] == row.states(model.config, passes)


@torch.no_grad()
def test_perfect_heads_recover_x0_at_the_paper_s_largest_setting():
    model, start, x0 = _oracle_model(500, 50.0, n=1)
    last = _last(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 1)))
    assert (last.x - x0).abs().max() < 1e-5


@torch.no_grad()
def test_v_form_shrinks_an_error_that_the_print_amplifies():
    """Heads wrong by 0.01: the v-form stays below 0.01; Algorithm 1 grows with e^(gamma x0 / 2) (audit, section 3)."""
    model, start, x0 = _oracle_model(200, 20.0, error=0.01, n=4)
    good = _last(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 4))).x
    assert (good - x0).square().mean().sqrt() < 0.01
    printed = _last(SAMPLERS["printed"].run(model, start, ImageNoise(0, 4))).x
    rms = [(printed - x0)[x0 == value].square().mean().sqrt() for value in (0.1, 0.5, 1.0)]
    # The audit's table, perfect noise with eps injected: 3.6, 209 and 3e4.
    assert 1 < rms[0] < 12
    assert 70 < rms[1] < 700
    assert 1e4 < rms[2] < 1e5


@torch.no_grad()
def test_printed_sampler_follows_algorithm_1():
    """Line by line in float64 for one pixel, with the Z^j that the Oracle's V^j imply."""
    model, start, x0 = _oracle_model(8, 4.0, n=1)
    states = [step.x for step in SAMPLERS["printed"].run(model, start, ImageNoise(5, 1))]
    noise = ImageNoise(5, 1)
    alpha = torch.exp(-4.0 / 8 * x0.double())
    x = start.x_T.double()
    for k, j in enumerate(range(8, 0, -1)):
        abar, before = alpha**j, alpha ** (j - 1)
        x_j = skip_posterior(model.schedule, x0.double(), 8, j, start.x_T.double(), x0.double()).mean if j < 8 else x
        z = (x_j - abar.sqrt() * x0) / (1 - abar).sqrt()
        variance = (1 - before) / (1 - abar) * (1 - alpha)
        x = (x - (1 - alpha) / (1 - abar).sqrt() * z) / alpha.sqrt() + variance.sqrt() * noise.normal(1, 16, 16)
        torch.testing.assert_close(states[k + 1].double(), x, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_blocks_draw_from_the_skip_posterior():
    """Two passes with perfect heads: x at the boundary has the mean and variance of q(x_i' | x_i, x0)."""
    model, _start, x0 = _oracle_model(10, 4.0, n=1)
    x0 = torch.full((3000, 1, 4, 4), 0.6)
    model.config = tiny_model(T=10, gamma=4.0, floor=0.1).config
    object.__setattr__(model.config, "image_size", 4)
    x_delta = image_scale(x0, 4.0)
    x_T = torch.full_like(x0, 0.9)
    model.parallel_unet = Oracle(PixelAware(10, 4.0), x0)
    states = {s.i: s.x for s in SAMPLERS["parallel"].run(model, Start(x_T, x_delta), ImageNoise(1, 3000), passes=2)}
    middle = boundaries(10, 2)[1]
    abar_m, abar_T = torch.exp(torch.tensor(-4.0 * 0.6 * middle / 10)), torch.exp(torch.tensor(-4.0 * 0.6))
    variance = (1 - abar_m) * (1 - abar_T / abar_m) / (1 - abar_T)
    mean = ((abar_T / abar_m).sqrt() * (1 - abar_m) * 0.9 + abar_m.sqrt() * (1 - abar_T / abar_m) * 0.6) / (1 - abar_T)
    assert states[middle].mean() == pytest.approx(float(mean), abs=0.01)
    assert states[middle].var() == pytest.approx(float(variance), rel=0.03)


@pytest.mark.parametrize("passes", [1, 3, 8])
@torch.no_grad()
def test_every_step_is_yielded_and_runs_are_counted(passes):
    model, start, _ = _oracle_model(8, 4.0)
    steps = list(SAMPLERS["parallel"].run(model, start, ImageNoise(0, 2), passes=passes))
    assert [s.i for s in steps] == list(range(8, -1, -1))
    assert steps[-1].network_evaluations == passes == len(model.parallel_unet.runs)
    assert model.parallel_unet.runs == boundaries(8, passes)[:-1]
    assert torch.equal(steps[0].x, start.x_T)


@torch.no_grad()
def test_states_between_whole_steps_are_yielded_too():
    """T = 8 and i_min = 0.5 in 3 passes: boundaries 0.5 + 7.5 (k/3)^3, and the network is asked at these."""
    model, start, _ = _oracle_model(8, 4.0, i_min=0.5)
    middle = [0.5 + 7.5 * 8 / 27, 0.5 + 7.5 / 27]
    states = [s.i for s in SAMPLERS["parallel"].run(model, start, ImageNoise(0, 2), passes=3)]
    assert states == pytest.approx([8, 7, 6, 5, 4, 3, middle[0], 2, 1, middle[1], 0])
    assert model.parallel_unet.runs == pytest.approx([8, *middle])
    assert passed_through(boundaries(8, 3, 0.5)) == states


def test_one_step_process():
    model = tiny_model(T=1, gamma=3.0)
    last = _last(draw(model, CPU, n=2))
    assert last.i == 0
    assert last.network_evaluations == 1
    assert torch.isfinite(last.x).all()


def test_boundaries_are_whole_steps_that_grow_denser_towards_the_image():
    assert boundaries(200, 1) == [200, 0]
    assert boundaries(50, 50) == list(range(50, -1, -1))
    for passes in range(1, 51):
        steps = boundaries(50, passes)
        gaps = [a - b for a, b in itertools.pairwise(steps)]
        assert len(gaps) == passes
        assert (steps[0], steps[-1]) == (50, 0)
        assert min(gaps) >= 1
    for passes in range(1, 50):
        steps = boundaries(50, passes, 0.02)
        assert len(steps) == passes + 1
        assert (steps[0], steps[-1]) == (50, 0)
        assert all(a > b for a, b in itertools.pairwise(steps))
        assert min(steps[:-1]) >= 0.02
    assert boundaries(50, 50, 0.02) == list(range(50, -1, -1))
    coarse = boundaries(1000, 4)
    for k, step in enumerate(coarse):
        assert step == pytest.approx(1000 * (1 - k / 4) ** 3, abs=0.5)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("sampler", ours())
def test_seeds_reproduce_whatever_the_batch(start, sampler):
    model = tiny_model()
    whole = _last(draw(model, CPU, n=4, start=start, sampler=sampler, seed=7)).x
    again = _last(draw(model, CPU, n=4, start=start, sampler=sampler, seed=7)).x
    part = _last(draw(model, CPU, n=2, first=2, start=start, sampler=sampler, seed=7)).x
    other = _last(draw(model, CPU, n=4, start=start, sampler=sampler, seed=8)).x
    assert torch.equal(whole, again)
    torch.testing.assert_close(part, whole[2:], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(whole, other, rtol=1e-3)


def test_consistent_start_has_the_forward_process_s_moments():
    """Given x_delta_hat, x_T has mean sqrt(x_delta_hat) x0_hat and variance 1 - x_delta_hat."""
    model = tiny_model(gamma=1.0, floor=0.1)
    n = 400
    with torch.inference_mode():
        begin = STARTS["consistent"](model, ImageNoise(0, n))
    x0_hat = -torch.log(begin.x_delta)
    standard = (begin.x_T - begin.x_delta.sqrt() * x0_hat) / (1 - begin.x_delta).sqrt()
    assert standard.mean().abs() < 0.02
    assert abs(standard.std() - 1) < 0.02


def test_printed_start_is_standard_normal_and_asks_g_at_T():
    model = tiny_model()
    with torch.inference_mode():
        begin = STARTS["printed"](model, ImageNoise(0, 300))
        expected = model.scale_vae(begin.x_T, model.step_tensor(8, 300))
    assert begin.x_T.mean().abs() < 0.02
    assert abs(begin.x_T.std() - 1) < 0.02
    torch.testing.assert_close(begin.x_delta, expected)


def test_noise_streams_are_independent():
    noise = ImageNoise(0, 200).normal(50)
    assert torch.corrcoef(noise).triu(1).abs().max() < 0.65
    neighbours = torch.corrcoef(torch.stack([ImageNoise(0, 1).normal(4000)[0], ImageNoise(1, 1).normal(4000)[0]]))
    assert neighbours[0, 1].abs() < 0.06


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": 0}, "passes must be"),
        ({"passes": 9}, "T = 8"),
        ({"sampler": "euler"}, "no sampler 'euler'"),
        ({"start": "warm"}, "no start 'warm'"),
        ({"sampler": "printed", "passes": 2}, "one pass"),
        ({"n": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SamplerError, match=message):
        list(draw(tiny_model(), CPU, **{"n": 1, **settings}))


def test_eps_heads_run_the_printed_sampler_only():
    model = tiny_model(head_target="eps")
    assert _last(draw(model, CPU, n=1, sampler="printed")).i == 0
    with pytest.raises(SamplerError, match="eps heads"):
        list(draw(model, CPU, n=1))


def test_a_suspended_draw_leaves_no_mode_behind():
    steps = draw(tiny_model(), Compute(torch.device("cpu"), torch.bfloat16), n=1)
    next(steps)
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled()
    steps.close()


def test_the_prior_alone_is_the_start_s_scale_read_as_an_image():
    model = tiny_model()
    *_, last = draw(model, CPU, n=3, sampler="prior", seed=5)
    with torch.inference_mode():
        x_delta = STARTS["consistent"](model, ImageNoise(5, 3)).x_delta
    torch.testing.assert_close(last.x, -torch.log(x_delta) / model.config.gamma)
    assert (last.i, last.network_evaluations) == (0, 0)
    with pytest.raises(SamplerError, match="makes one pass"):
        next(draw(model, CPU, n=1, sampler="prior", passes=2))


@pytest.mark.parametrize("name", ["parallel", "few-heads", "rotation", "multistep", "printed"])
def test_r_phi_is_fed_g_theta_of_each_state_where_the_model_says_so(name, monkeypatch):
    """As in Algorithm 1, line 1, at every run; the schedule stays that of the start, as do old checkpoints."""
    row, read = SAMPLERS[name], []
    passes = 3 if row.passes else 1
    for scale_from in ("x_i", "code"):
        model = tiny_model(scale_from=scale_from)
        start = Start(torch.randn(2, 1, 16, 16), torch.full((2, 1, 16, 16), 0.4))
        run = model.parallel_unet.forward

        def watched(x, x_delta, i, *more, run=run, **how):
            read.append((x, x_delta, i))
            return run(x, x_delta, i, *more, **how)

        monkeypatch.setattr(model.parallel_unet, "forward", watched)
        read.clear()
        with torch.inference_mode():
            *_, last = row.run(model, start, ImageNoise(0, 2), passes=passes)
            assert len(read) == passes == last.network_evaluations
            for x, x_delta, i in read:
                torch.testing.assert_close(x_delta, model.scale_vae(x, i) if scale_from == "x_i" else start.x_delta)
