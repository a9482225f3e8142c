"""The page, as a person uses it: typed into, clicked, resized, read aloud, linked to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("playwright", reason="the page is tested with playwright: pip install 'mmse[dev]'")
pytest.importorskip("axe_playwright_python", reason="barriers are found by axe-playwright-python")

from playwright.sync_api import Browser, Page, Request, Response, Route, expect, sync_playwright

from serving.web_pages import CHROMIUM, barriers, launch, open_page, overflow, queries

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page is tested in chromium, which is not installed")
LOAD_ERROR = "Failed to load resource"
HITS_LINE = re.compile(r"^\d+ hits? in [\d.]+ ms, version \d+")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def log_queries(server_url: str) -> list[str]:
    """Queries that find many items."""
    return queries(server_url)


@pytest.fixture
def page(browser: Browser, server_url: str) -> Iterator[Page]:
    """The empty page."""
    with open_page(browser, server_url) as page:
        yield page


def query_of(request: Request) -> str:
    """The query of a search that the page sent."""
    return str(json.loads(request.post_data or "{}").get("query"))


def search(page: Page, query: str) -> None:
    """Types `query` and waits for its hits."""

    def answers(response: Response) -> bool:
        return response.url.endswith("/v1/search") and query_of(response.request) == query

    with page.expect_response(answers):
        page.get_by_role("searchbox", name="Search the catalogue").fill(query)
    expect(page.locator("li.card").first).to_be_visible()
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")


def change_answer(change: Callable[[dict[str, Any]], None]) -> Callable[[Route], None]:
    """Lets the server answer, and changes what it said."""

    def handle(route: Route) -> None:
        answer = route.fetch()
        body: dict[str, Any] = answer.json()
        change(body)
        route.fulfill(response=answer, body=json.dumps(body))

    return handle


def test_the_empty_page_offers_queries(page: Page) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text("What are you looking for?")
    expect(page.locator("#suggestions")).to_be_hidden()
    first = page.locator(".examples a").first
    query = first.inner_text()
    first.click()
    expect(page.locator("li.card").first).to_be_visible()
    assert f"q={quote(query)}".replace("%20", "+") in page.url


def test_typing_searches_and_says_how_long_it_took(page: Page, log_queries: list[str]) -> None:
    page.get_by_role("searchbox", name="Search the catalogue").press_sequentially(log_queries[0])
    expect(page.locator(".found .line")).to_have_text(HITS_LINE)
    expect(page.locator("li.card")).to_have_count(24)
    assert page.evaluate("history.length") <= 3, "letters typed one after another are one step"


def test_a_newer_query_gives_up_the_one_before(page: Page, log_queries: list[str]) -> None:
    held_routes: list[Route] = []

    def hold(route: Route) -> None:
        if query_of(route.request) == log_queries[0]:
            held_routes.append(route)
        else:
            route.continue_()

    page.route("**/v1/search", hold)
    field = page.get_by_role("searchbox", name="Search the catalogue")
    with page.expect_request("**/v1/search"):
        field.fill(log_queries[0])
    with page.expect_event("requestfailed") as event:
        search(page, log_queries[1])
    assert query_of(event.value) == log_queries[0]
    expect(page.locator(".problem")).to_have_count(0)
    expect(field).to_have_value(log_queries[1])


def test_a_hit_says_why_it_was_found(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    card = page.locator("li.card").first
    expect(card.locator(".chance")).to_have_text(re.compile(r"[A-Z][a-z ]+ (< )?[\d.]+%"))
    why = card.get_by_text("Why this hit")
    why.focus()
    page.keyboard.press("Enter")
    expect(card.locator(".shares tfoot")).to_contain_text("Score")
    expect(card.locator(".shares tbody tr")).to_have_count(6)
    assert set(card.locator("mark").all_inner_texts()) or "no word" in card.locator(".why-body").inner_text()


def test_filters_narrow_and_their_own_counts_stay(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    group = page.locator("details.group", has=page.get_by_text("Brand", exact=True))
    counts = group.locator(".tick").all_inner_texts()
    brand = group.locator(".tick .name").first.inner_text()
    group.get_by_label(re.compile(f"^{re.escape(brand)}")).check()
    chip = page.get_by_role("button", name=re.compile(f"Remove filter.*{re.escape(brand)}"))
    expect(chip).to_be_visible()
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")
    assert set(page.locator("li.card .brandname").all_inner_texts()) == {brand}
    assert group.locator(".tick").all_inner_texts() == counts
    chip.click()
    expect(page.locator("li.card")).to_have_count(24)


def test_a_price_range_and_a_switch_narrow_too(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    highest = page.get_by_label("Price to, as a number")
    highest.fill("40")
    highest.press("Enter")
    expect(page.locator(".chip")).to_have_count(1)
    page.get_by_role("switch", name=re.compile("Available only")).check()
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")
    prices = [float(text.replace(",", "")) for text in page.locator("li.card .price").all_inner_texts()]
    assert prices
    assert max(prices) <= 40
    expect(page.locator("li.card .stock.out")).to_have_count(0)
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".chip")).to_have_count(0)


def test_the_slider_of_the_price_moves_by_keys(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    page.get_by_role("slider", name="Price to", exact=True).press("Home")
    expect(page.locator(".chip")).to_contain_text("Price")
    assert "r.price=" in page.url


def test_a_branch_of_categories_holds_what_is_below_it(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    tree = page.locator(".tree")
    twig = tree.locator(".tick .name").first.inner_text()
    tree.locator("input").first.check()
    expect(page.locator(".chip")).to_contain_text(twig)
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")
    expect(tree.locator("input").first).to_be_checked()


def test_no_good_match_says_so_and_offers_a_way_out(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    with open_page(browser, f"{server_url}/?q={quote(log_queries[0])}&min=0.9") as page:
        expect(page.get_by_role("heading", name="No good match")).to_be_visible()
        page.get_by_role("button", name="No cut-off").click()
        expect(page.locator("li.card")).to_have_count(24)


def test_more_hits_are_added_below(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    before = page.locator("li.card .title").all_inner_texts()
    page.get_by_role("button", name="Show more").click()
    expect(page.locator("li.card").nth(24)).to_be_visible()
    assert page.locator("li.card .title").all_inner_texts()[:24] == before
    assert "k=48" in page.url


def test_the_shopper_sorts_by_price_and_comes_back(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    best = page.locator("li.card .title").all_inner_texts()
    page.get_by_label("Sort by").select_option("Price: low to high")
    expect(page).to_have_url(re.compile("sort=price"))
    expect(page.locator(".found")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("li.card .title").first).not_to_have_text(best[0])
    prices = [float(text.replace(",", "")) for text in page.locator("li.card .price").all_inner_texts()]
    assert prices == sorted(prices)
    page.go_back()
    expect(page.locator("li.card .title").first).to_have_text(best[0])


def test_a_count_that_may_be_more_says_so(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    count = page.locator("details.group", has=page.get_by_text("Brand", exact=True)).locator(".count").first
    expect(count).to_have_text(re.compile(r"^\d+\+$"))
    page.get_by_label("Words", exact=True).check(force=True)
    expect(count).to_have_text(re.compile(r"^\d+$"))


def test_channel_and_cut_off(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    page.get_by_label("Words", exact=True).check(force=True)
    expect(page.locator("li.card .chance").first).to_have_text(
        "No probability: neither this channel nor this log gives one"
    )
    expect(page.get_by_role("slider", name="At least this likely")).to_be_disabled()
    assert "channel=lexical" in page.url


def test_an_item_opens_in_a_dialog_and_the_address_names_it(page: Page, log_queries: list[str]) -> None:
    search(page, log_queries[0])
    title = page.locator("li.card .title").first
    text = title.inner_text()
    title.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(text)
    assert "item=" in page.url
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert "item=" not in page.url


def test_back_and_forward(page: Page, log_queries: list[str]) -> None:
    field = page.get_by_role("searchbox", name="Search the catalogue")
    search(page, log_queries[0])
    field.press("Enter")
    first = page.locator("li.card .title").all_inner_texts()
    search(page, log_queries[1])
    expect(field).to_have_value(log_queries[1])
    page.go_back()
    expect(field).to_have_value(log_queries[0])
    expect(page.locator("li.card .title").first).to_have_text(first[0])
    page.go_back()
    expect(page.locator(".examples")).to_be_visible()
    page.go_forward()
    expect(field).to_have_value(log_queries[0])


def test_a_link_brings_back_everything(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    address = f"{server_url}/?q={quote(log_queries[0])}&k=48&user=u1&channel=vector&f.available=true&r.price=5..90"
    with open_page(browser, address) as page:
        expect(page.locator("li.card").first).to_be_visible()
        expect(page.locator(".chip")).to_have_count(2)
        expect(page.get_by_label("Vectors", exact=True)).to_be_checked()
        expect(page.get_by_label("Shopper (user id)")).to_have_value("u1")
        expect(page.get_by_role("switch", name=re.compile("Available only"))).to_be_checked()
        prices = [float(text.replace(",", "")) for text in page.locator("li.card .price").all_inner_texts()]
        assert min(prices) >= 5
        assert max(prices) <= 90


def test_keys(page: Page, log_queries: list[str]) -> None:
    field = page.get_by_role("searchbox", name="Search the catalogue")
    page.keyboard.press("/")
    expect(field).to_be_focused()
    search(page, log_queries[0])
    page.keyboard.press("Enter")  # closes the list of suggestions
    page.keyboard.press("ArrowDown")
    titles = page.locator("li.card .title")
    expect(titles.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(titles.nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_have_value("")
    expect(page.locator(".examples")).to_be_visible()


def test_side_by_side_marks_what_differs(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    with open_page(browser, f"{server_url}/?view=compare&q={quote(log_queries[0])}") as page:
        left, right = page.get_by_label("Left: hits"), page.get_by_label("Right: hits")
        expect(left.locator("li.row")).to_have_count(10)
        expect(right.locator("li.row").first).to_be_visible()
        marks = [side.locator(".mark").all_inner_texts() for side in (left, right)]
        said = re.compile(r"only here|same place|▲ \d+ higher|▼ \d+ lower")
        assert all(said.fullmatch(mark) for side in marks for mark in side)
        ids = [[row.get_attribute("data-id") for row in side.locator("li.row").all()] for side in (left, right)]
        both = len(set(ids[0]) & set(ids[1]))
        expect(page.locator(".figure").first).to_contain_text(f"{both} of 10 on both sides")
        assert marks[0].count("only here") == 10 - both
        assert left.locator("li.row .title").all_inner_texts() != right.locator("li.row .title").all_inner_texts()
        page.get_by_role("region", name="Right").get_by_label("Hybrid").check(force=True)
        expect(page.locator(".figure").first).to_contain_text("100%")
        expect(page.locator(".mark.level")).to_have_count(20)


def test_two_versions_side_by_side(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    with open_page(browser, f"{server_url}/?view=compare&b.channel=hybrid&q={quote(log_queries[0])}") as page:
        right = page.get_by_role("region", name="Right")
        served = right.get_by_label("Version").locator("option")
        expect(served).to_have_count(3)
        version = served.nth(2).get_attribute("value")
        assert version
        right.get_by_label("Version").select_option(version)
        expect(right.locator(".line")).to_contain_text(f"version {version}")
        assert f"b.version={version}" in page.url


def test_how_lists_differ(page: Page) -> None:
    said = page.evaluate(
        """async () => {
          const { difference } = await import("/difference.js");
          const one = difference(["a", "b", "c", "d"], ["c", "x", "a", "d"]);
          return { ...one, places: [...one.places], none: difference(["a"], ["b"]).agreement };
        }"""
    )
    assert (said["both"], said["same"], said["none"]) == (3, 1, None)
    assert said["agreement"] == pytest.approx((2 - 1) / 3)  # a-d and c-d agree, a-c does not
    assert dict(map(tuple, said["places"]))["x"] == {"left": None, "right": 2}


def test_the_map_shows_hits_and_opens_items(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    with open_page(browser, f"{server_url}/?view=map&q={quote(log_queries[0])}") as page:
        canvas = page.get_by_role("application")
        expect(page.locator(".near li")).to_have_count(24)
        expect(page.locator(".map-side .line")).to_contain_text("24 hits")
        canvas.focus()
        for key in ("+", "ArrowLeft", "-", "0"):
            page.keyboard.press(key)
        page.locator(".near .title").first.focus()
        expect(page.locator(".tip")).to_be_visible()
        title = page.locator(".near .title").first.inner_text()
        expect(page.locator(".tip")).to_contain_text(title)
        page.locator(".near .title").first.click()
        expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(title)


def test_the_map_opens_the_item_that_is_clicked(browser: Browser, server_url: str) -> None:
    with open_page(browser, f"{server_url}/?view=map") as page:
        expect(page.locator(".map-side .line")).to_contain_text("items are drawn")
        first = page.evaluate("fetch('/v1/map').then((answer) => answer.json()).then((map) => [map.x[0], map.y[0]])")
        box = page.locator("canvas").bounding_box()
        assert box
        scale = min(box["width"], box["height"]) / 2.16
        page.locator("canvas").click(
            position={"x": box["width"] / 2 + first[0] * scale, "y": box["height"] / 2 - first[1] * scale}
        )
        expect(page.get_by_role("dialog").get_by_role("heading")).to_be_visible()


def test_without_a_map_it_says_how_to_make_one(browser: Browser, server_url: str) -> None:
    problem = {"code": "not_found", "message": "There is no map.", "cure": "Run `mmse map`.", "request_id": "r1"}
    with open_page(browser, server_url, allowed_messages=(LOAD_ERROR,)) as page:
        page.route("**/v1/map", lambda route: route.fulfill(status=404, json={"error": problem}))
        page.get_by_role("link", name="Map").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("no map")
        expect(page.locator("main code")).to_have_text("mmse map")


def test_an_error_shows_cause_and_cure_and_keeps_the_hits(
    browser: Browser, server_url: str, log_queries: list[str]
) -> None:
    problem = {"code": "overloaded", "message": "Too many wait.", "cure": "Try again soon.", "request_id": "r-7"}
    with open_page(browser, server_url, allowed_messages=(LOAD_ERROR,)) as page:
        search(page, log_queries[0])
        page.route("**/v1/search", lambda route: route.fulfill(status=503, json={"error": problem}))
        page.get_by_role("searchbox", name="Search the catalogue").fill(log_queries[1])
        expect(page.get_by_role("alert")).to_contain_text("Too many wait.")
        expect(page.get_by_role("alert")).to_contain_text("Try again soon.")
        expect(page.get_by_role("alert")).to_contain_text("r-7")
        expect(page.locator("li.card")).to_have_count(24)
        page.unroute("**/v1/search")
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_what_shops_write_is_shown_as_text(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    hostile = "<img src=x onerror=alert(1)> כיסא 椅子 🪑 " + "x" * 300

    def change(body: dict[str, Any]) -> None:
        body["hits"][0]["title"] = hostile
        body["hits"][0]["item"] |= {"brand": hostile, "category": hostile}
        body["redirect_url"] = "javascript:alert(1)"

    with open_page(browser, server_url, viewport={"width": 360, "height": 740}) as page:
        page.route("**/v1/search", change_answer(change))
        search(page, log_queries[0])
        expect(page.locator("li.card .title").first).to_have_text(hostile.strip())
        expect(page.locator("li.card img")).to_have_count(0)
        expect(page.locator("main a[href^='javascript']")).to_have_count(0)
        assert overflow(page) <= 0


def test_rules_say_what_they_did(page: Page, log_queries: list[str]) -> None:
    def change(body: dict[str, Any]) -> None:
        body["hits"][0]["moved_by"] = ["pinned by summer"]
        body |= {"rules": ["summer"], "query": "sun hat", "redirect_url": "https://example.org/summer"}

    page.route("**/v1/search", change_answer(change))
    search(page, log_queries[0])
    expect(page.locator(".told")).to_contain_text("Rule at work: summer")
    expect(page.locator(".told")).to_contain_text("Searched for “sun hat”, as a rule says.")
    expect(page.locator(".told").get_by_role("link")).to_have_attribute("href", "https://example.org/summer")
    page.get_by_text("Why this hit").first.click()
    expect(page.locator("li.card .moved").first).to_have_text("Moved: pinned by summer")


def test_an_items_own_picture_is_shown_where_it_can_be(
    browser: Browser, server_url: str, log_queries: list[str]
) -> None:
    def change(body: dict[str, Any]) -> None:
        dot = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
        body["hits"][0]["item"]["image"] = dot
        body["hits"][1]["item"]["image_url"] = "https://elsewhere.example/picture.png"

    with open_page(browser, server_url, allowed_messages=("Content Security Policy",)) as page:
        page.route("**/v1/search", change_answer(change))
        search(page, log_queries[0])
        cards = page.locator("li.card")
        expect(cards.nth(0).locator("img.picture")).to_have_js_property("naturalWidth", 1)
        expect(cards.nth(1).locator("svg.picture")).to_be_visible()


def test_a_query_of_ten_thousand_letters_breaks_nothing(browser: Browser, server_url: str) -> None:
    with open_page(browser, server_url, allowed_messages=(LOAD_ERROR,), viewport={"width": 360, "height": 740}) as page:
        page.get_by_role("searchbox", name="Search the catalogue").fill("w" * 10_000)
        expect(page.locator(".problem, li.card").first).to_be_visible()
        assert overflow(page) <= 0


def test_the_theme_is_kept(browser: Browser, server_url: str) -> None:
    with open_page(browser, server_url, color_scheme="light") as page:
        colour = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(colour)
        page.get_by_role("button", name="Dark theme").click()
        dark = page.evaluate(colour)
        assert dark != light
        page.reload()
        expect(page.get_by_role("button", name="Dark theme")).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(colour) == dark


@pytest.mark.parametrize("view", ["search", "compare", "map"])
def test_a_phone_has_room_for_every_view(browser: Browser, server_url: str, log_queries: list[str], view: str) -> None:
    address = f"{server_url}/?view={view}&q={quote(log_queries[0])}"
    with open_page(browser, address, viewport={"width": 360, "height": 740}, has_touch=True) as page:
        expect(page.locator("li.card, li.row, .near li").first).to_be_visible()
        assert overflow(page) <= 0


def test_filters_of_a_phone_are_in_a_drawer(browser: Browser, server_url: str, log_queries: list[str]) -> None:
    with open_page(browser, server_url, viewport={"width": 360, "height": 740}, has_touch=True) as page:
        search(page, log_queries[0])
        page.get_by_role("button", name="Filters").tap()
        drawer = page.get_by_role("dialog")
        drawer.get_by_role("switch", name=re.compile("Available only")).check()
        drawer.get_by_role("button", name="Show the hits").tap()
        expect(drawer).to_have_count(0)
        expect(page.locator(".chip")).to_have_count(1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_barrier(browser: Browser, server_url: str, log_queries: list[str], theme: Any) -> None:
    query = quote(log_queries[0])
    views = {
        "/": ".examples",
        f"/?q={query}&k=6&f.available=true": "li.card",
        f"/?q={query}&min=0.9": ".nothing",
        f"/?q={query}&view=compare": "li.row",
        f"/?q={query}&view=map": ".near li",
    }
    found = {}
    with open_page(browser, server_url, color_scheme=theme) as page:
        for address, ready in views.items():
            page.goto(f"{server_url}{address}")
            expect(page.locator(ready).first).to_be_visible()
            if ready == "li.card":
                page.get_by_text("Why this hit").first.click()
            found[address] = barriers(page)
            if ready == "li.card":
                page.locator("li.card .title").first.click()
                expect(page.get_by_role("dialog").get_by_role("heading")).to_be_visible()
                found["item"] = barriers(page)
    assert found == {address: [] for address in found}
