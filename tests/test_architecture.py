"""Fig. 4 and the graph it is drawn from: every edge against what really changes when a block changes."""

import numpy as np
import pytest
import torch

from pixelviz.checks import ServiceError
from pixelviz.export import architecture
from pixelviz.models.graph import blocks_of, trace
from pixelviz.service import anatomy
from pixelviz.view import View
from tests.browser import PATIENCE
from tests.served import photo, png
from tests.tiny import tiny_model


def inputs(model, i=5.0):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((2, *model.config.shape), generator=generator)
    return {"x_i": x, "x_delta": x.abs().mul(-1).exp(), "i": torch.full((2,), i)}


def descendants(blocks, name):
    """The blocks that a block reaches along the edges."""
    reached = {name}
    for block in blocks:
        if reached & set(block.sources):
            reached.add(block.name)
    return reached


@pytest.mark.parametrize("part", ["scale_vae", "parallel_unet"])
def test_the_edges_are_the_ways_that_a_change_takes(part):
    """A block whose weights change alters its own output and those of the blocks behind it, and no others."""
    model = tiny_model()
    given = inputs(model)
    if part == "scale_vae":
        del given["x_delta"]
    network = getattr(model, part)
    before = trace(network, given)
    assert [block.name for block in before[:-1]] != [] == [b.name for b in before if not b.sources]
    assert {block.name for block in before[:-1]} == {name for name, _ in blocks_of(network)}
    for name, module in blocks_of(network):
        kept = {key: value.clone() for key, value in module.state_dict().items()}
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(torch.linspace(0.3, 0.9, weight.numel()).view(weight.shape))
        after = trace(network, given)
        changed = {b.name for b, a in zip(before, after, strict=True) if not torch.equal(b.output, a.output)}
        assert changed == descendants(before, name)
        module.load_state_dict(kept)


def test_the_edges_are_the_paper_s():
    """Appendix C: every level reads what is before it, its skip, P_k(i) and H_k(x_delta_hat); the heads read D_K."""
    found = {block.name: set(block.sources) for block in trace(tiny_model().parallel_unet, inputs(tiny_model()))}
    assert found["encoder.0.time"] == {"i"}
    assert found["decoder.1.scale"] == {"x_delta"}
    assert found["encoder.1.blocks"] == {"encoder.0.blocks", "encoder.1.time", "encoder.1.scale"}
    skip = {"decoder.0.blocks", "encoder.0.blocks"}
    assert found["decoder.1.blocks"] == skip | {"decoder.1.time", "decoder.1.scale"}
    assert found["heads"] == {"head_norm"}


def test_a_run_leaves_the_weights_as_they_are_for_everybody():
    model = tiny_model().requires_grad_(False)
    with torch.no_grad():
        blocks = trace(model.parallel_unet, inputs(model), heads=torch.tensor([1, 3]))
        wanted = model.parallel_unet(**inputs(model), heads=torch.tensor([1, 3]))[0]
    torch.testing.assert_close(blocks[-1].output, wanted)
    assert sum(block.parameters for block in blocks) == model.parameter_counts()["parallel_unet"]
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_channels_are_those_that_vary_most():
    flat, wave = torch.zeros(1, 4, 4), torch.arange(16.0).view(1, 4, 4)
    block = architecture.Block("encoder.0", "", 0, torch.cat([flat, 2 * wave, flat, wave]), ())
    shown = architecture.channels(block, 2)
    assert shown.shape == (4, 8)
    np.testing.assert_array_equal(shown[:, :4], shown[:, 4:])  # each over its own range
    assert np.ptp(shown) == 255
    vector = architecture.Block("encoder.0.time", "", 0, torch.arange(9.0).view(9, 1, 1), ())
    assert architecture.channels(vector, 2).shape == (3, 3)


def test_the_screen_gets_the_figure_its_table_and_every_block(service):
    view = View.of(png(photo()))
    lit = anatomy.light(service, "tiny", view, 0.5)
    assert lit.picture.startswith("data:image/svg+xml;base64,")
    assert [row[0] for row in lit.rows] == lit.names
    assert "R_φ decoder.1.blocks" in lit.names
    image, words = anatomy.feature_maps(service, "tiny", view, 0.5, "R_φ decoder.0.blocks")
    assert image.dtype == np.uint8
    assert "8 of 8 channels" in words
    with pytest.raises(ServiceError, match="no such block"):
        anatomy.feature_maps(service, "tiny", view, 0.5, "nose")


def test_the_networks_are_lit_when_their_panel_is_opened(browser, url):
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    page.get_by_role("tab", name="Checkpoints", exact=True).click()
    page.get_by_role("button", name="Its networks, lit by a run").click()
    drawn = page.locator("#architecture-drawn img")
    drawn.wait_for()
    assert drawn.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    assert page.locator("#architecture-drawn tbody tr").count() > 20
    page.locator("#architecture-block input").click()
    page.get_by_role("option", name="R_φ heads").click()
    page.locator("#architecture-maps img").wait_for()
    page.close()
