"""A stranger's checkpoint in a real browser: its words stay words, and nothing leaves for anywhere else."""

import pytest

from pixelviz.data.sets import Origin
from pixelviz.store import checkpoints
from pixelviz.ui.guard import policy
from pixelviz.ui.markup import from_markdown
from tests.browser import PATIENCE, served, watched
from tests.tiny import tiny_model

EVIL = "http://evil.invalid"
WORDS = {
    "svg": '<svg><a href="javascript:window.hacked=1" xlink:href="javascript:window.hacked=1"><text>s</text></a></svg>',
    "form": f'<form action="{EVIL}/form"><button formaction="javascript:window.hacked=1">form</button></form>',
    "image": f'<img src="{EVIL}/image.png" onerror="window.hacked=1">![image]({EVIL}/markdown.png)',
    "link": f"[link](javascript:window.hacked=1) [data](data:text/html,<b>x</b>) <a href='{EVIL}'/></a>",
    "style": f"<style>@import '{EVIL}/style.css'</style><link rel=stylesheet href={EVIL}/link.css><base href={EVIL}>",
    "script": "<script>window.hacked=1</script><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The address of an app whose one checkpoint says the worst wherever it may say anything; and its folder."""
    folder = tmp_path_factory.mktemp("hostile")
    every, model = " ".join(WORDS.values()), tiny_model()
    row = {"start": every, "passes": 1, "fid": 1.0, "network_evaluations": 1, "seconds_per_image": 0.1, "method": every}
    record = checkpoints.Record(
        data=Origin(title=every),
        steps=dict.fromkeys(model.parts, 3),
        device=every,
        figures={
            "ssim_x_delta": {every: 0.5, WORDS["svg"]: 0.2},
            "ssim_alpha_bar": {every: 0.4},
            "test_images": every,
            "generation": [row],
            "features": every,
        },
        notes=list(WORDS.values()),
    )
    checkpoints.save(folder / "checkpoints" / "stranger", model, record)
    card = folder / "checkpoints" / "stranger" / checkpoints.CARD
    card.write_text(card.read_text() + "\n\n".join(["", *WORDS.values(), f"[honest]({EVIL}/honest)"]))
    with served(folder) as address:
        yield address


def test_a_strangers_words_never_become_markup(browser, hostile):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    complaints, asked = watched(page, hostile), []
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(f"{hostile}#tab=checkpoints")
        card = page.locator(".block.pv-card")
        page.get_by_role("button", name="Model card").click()
        card.get_by_text("window.hacked").first.wait_for(state="attached")
        card.evaluate("(card) => card.scrollIntoView()")  # what is far below is not drawn
        card.get_by_text("window.hacked").first.wait_for()
        shown = page.locator("body").inner_text()
        assert WORDS["form"] in shown  # as it was written
        assert EVIL in shown
        assert card.locator("svg, form, img, iframe, style, script, link, base, [onerror]").count() == 0
        links = card.locator("a").evaluate_all("all => all.map((a) => [a.getAttribute('href'), a.target, a.rel])")
        assert [f"{EVIL}/honest", "_blank", "noopener noreferrer nofollow"] in links
        assert all(href.startswith("http://") for href, _, _ in links)
        for text in ("<svg>", "<form", "[link](javascript:", "[data]("):
            card.get_by_text(text).first.click()
        for tab in ("Scale", "Generate", "Compare", "Train"):
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_timeout(700)
        assert page.locator(f"a[href^='javascript'], a[href^='data'], [src^='{EVIL}']").count() == 0
        assert page.evaluate("window.hacked") is None
        assert not [url for url in asked if EVIL in url]
        assert not complaints
        # Were something let through after all, the policy would stop it.
        page.evaluate(
            """(words) => { const box = document.createElement("div"); box.id = "planted"; document.body.append(box);
            box.innerHTML = words; const script = document.createElement("script");
            script.textContent = "window.hacked=2"; box.append(script); }""",
            " ".join(WORDS.values())
            + '<img src="data:," onerror="window.hacked=3"><p id="over" onclick="window.hacked=4">x',
        )
        page.locator("#over").click()
        page.evaluate("document.querySelector('#planted form').submit()")
        page.evaluate("document.querySelector('#planted svg a').dispatchEvent(new MouseEvent('click'))")
        page.wait_for_timeout(500)
        assert page.evaluate("window.hacked") is None
        assert page.url.startswith(hostile)
        reached = [url for url in asked if EVIL in url]
        assert not reached or all("Content Security Policy" in " ".join(complaints) for _ in reached)
    finally:
        page.close()


def test_markdown_of_a_stranger_has_no_tags_but_its_own():
    for words in WORDS.values():
        made = from_markdown(words)
        assert "<svg" not in made
        assert "<img" not in made
        assert 'href="javascript' not in made
    assert "<td>1</td>" in from_markdown("| a |\n|---|\n| 1 |\n")


def test_the_policy_lets_a_pages_own_scripts_run_and_no_others():
    page = b'<script>window.a = 1;</script><script src="x.js"></script><script type="module" src="y.js"></script>'
    rules = dict(rule.split(" ", 1) for rule in policy(page).split("; "))
    # sha256 of `window.a = 1;`, from openssl
    assert rules["script-src"].split()[2:] == ["'sha256-ShPZs6SyOIfeOg7tsGkUC0BIIQiM/4HlSLumBwNEK6k='"]
    assert "unsafe-inline" not in rules["script-src"]
    assert not any("http" in sources or "*" in sources for sources in rules.values())
