"""More than five tabs of one browser: it has six connections to a host, and the app holds none of them open."""

import pytest

from tests.browser import PATIENCE, watched

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


def test_eight_tabs_of_one_browser_are_open_and_all_work(browser, url):
    context, complaints = browser.new_context(), []
    pages = [context.new_page() for _ in range(8)]
    for page in pages:
        page.set_default_timeout(PATIENCE)
        complaints.append(watched(page, url))
        page.goto(f"{url}#view=all")
        expect(page.locator(".pv-cards dd").first).to_be_visible(timeout=PATIENCE)
    for page in (pages[7], pages[0]):  # beside six that wait for nothing
        page.get_by_role("tab", name="Generate", exact=True).click()
        expect(page.locator("#sheet", has_text="16 images in")).to_be_visible(timeout=PATIENCE)
    pages[0].locator(".pv-samples button").nth(3).click()
    expect(pages[0].locator("#film", has_text="Image 4")).to_be_visible(timeout=PATIENCE)
    assert complaints == [[]] * 8
    context.close()
