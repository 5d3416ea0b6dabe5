"""What the page says when something is missing, refused or gone, and that what it shows stays text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import Clip
from steps import Site, Visit, cards, search

SCRIPT = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"


def refuse(page: Any, status: int, body: Any) -> None:
    """Have the next searches refused."""
    text = body if isinstance(body, str) else json.dumps(body)
    page.route("**/search?*", lambda route: route.fulfill(status=status, body=text))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"detail": "the query is empty."}, "the query is empty."),
        (422, {"detail": [{"loc": ["query", "k"], "msg": "Input should be at most 100"}]}, "k: Input should be"),
        (429, {"detail": "16 requests wait already."}, "The server is busy"),
        (503, {"detail": "The index is being opened."}, "The index is being opened."),
        (504, {"detail": "The search took over 30 s."}, "That took too long"),
        (502, "<html>Bad gateway</html>", "status 502 and gave no reason"),
        (200, "<html>A portal</html>", "gave no reason"),
    ],
)
def test_a_refusal_is_a_sentence_and_can_be_tried_again(
    visit: Visit, site: Site, expect: Any, status: int, body: Any, said: str
) -> None:
    page = visit(site, refused=True)
    refuse(page, status, body)
    page.get_by_role("searchbox").fill("dog")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").first).to_contain_text(said)
    expect(page.locator(".card")).to_have_count(0)
    page.unroute("**/search?*")
    page.get_by_role("button", name="Try again").click()
    cards(page)
    expect(page.locator("#notice")).to_be_hidden()


def test_a_server_that_is_gone_is_named_and_comes_back(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("", refused=True)
    page.route("**/gallery", lambda route: route.abort())
    page.goto(site + "?q=dog")
    expect(page.get_by_role("alert").first).to_contain_text("Is `vtr serve` still running?")
    page.unroute("**/gallery")
    page.get_by_role("button", name="Try again").click()
    cards(page)


def test_who_types_before_the_gallery_is_there_is_answered(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("")
    held: list[Any] = []
    page.route("**/gallery", lambda route: held.append(route))
    with page.expect_request("**/gallery"):
        page.goto(site)
    page.get_by_role("searchbox").fill("dog")
    page.keyboard.press("Enter")
    held[0].continue_()
    cards(page)
    expect(page.get_by_role("searchbox")).to_have_value("dog")


def test_the_gallery_takes_nothing_that_is_typed(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("")
    held: list[Any] = []
    page.route("**/gallery", lambda route: held.append(route))
    with page.expect_request("**/gallery"):
        page.goto(site)
    page.get_by_role("searchbox").fill("a dog in")
    held[0].continue_()
    expect(page.locator("#notice")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value("a dog in")


def test_only_the_last_question_is_answered(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site, refused=True)
    held: list[Any] = []
    page.route("**/search?*slow*", lambda route: held.append(route))
    with page.expect_request("**/search?*slow*"):
        page.get_by_role("searchbox").fill("slow")
        page.keyboard.press("Enter")
    expect(page.locator(".card.skeleton").first).to_be_visible()
    search(page, "dog")
    expect(page.get_by_role("status").first).to_contain_text("for “dog”")
    expect(page.locator(".skeleton")).to_have_count(0)
    assert held


def test_nothing_found_says_so(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog&min_seconds=1000000")
    expect(page.locator("#notice")).to_contain_text("No video passes these filters.")
    page.locator("#notice").get_by_role("button", name="Clear filters").click()
    cards(page)


def test_filters_that_are_refused_can_be_cleared(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("", refused=True)
    refusal = {"status": 400, "json": {"detail": "The videos have no categories here."}}
    page.route("**/search?*category*", lambda route: route.fulfill(**refusal))
    page.goto(site + "?q=dog&category=animals")
    expect(page.get_by_role("alert").first).to_contain_text("no categories here")
    page.locator("#notice").get_by_role("button", name="Clear filters").click()
    cards(page)


def test_an_empty_gallery_says_how_to_fill_it(visit: Visit, serving: Callable[..., str], expect: Any) -> None:
    page = visit(serving([]))
    expect(page.locator("#notice")).to_contain_text("vtr ingest")
    expect(page.get_by_role("button", name="Use a video")).to_have_count(0)


def test_a_video_that_no_browser_plays_keeps_its_picture(
    visit: Visit, serving: Callable[..., str], films: dict[str, Path], expect: Any
) -> None:
    page = visit(serving([Clip("old", films["avi"], "an old format", seconds=8.0, moment=(1.0, 2.0))]) + "?q=old")
    cards(page).first.hover()
    expect(page.locator(".thumb .note")).to_have_text("This browser cannot play this video")
    expect(page.locator(".thumb img")).to_have_js_property("complete", True)
    page.locator(".thumb").click()
    expect(page.get_by_role("dialog")).to_contain_text("Download it")
    expect(page.get_by_role("dialog").get_by_role("link", name="Download")).to_have_attribute("href", "videos/old")


def test_without_pictures_the_page_works(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("", refused=True)
    page.route("**/thumbnails/**", lambda route: route.abort())
    page.goto(site + "?q=dog")
    cards(page)
    expect(page.locator(".card").first.locator("img")).to_have_count(0)
    heights = page.locator(".card .thumb").evaluate_all("all => all.map(one => one.clientWidth / one.clientHeight)")
    assert heights == pytest.approx([1.5] * len(heights), abs=0.05)


def test_a_token_is_asked_for_and_then_carried(
    visit: Visit, clips: list[Clip], serving: Callable[..., str], expect: Any
) -> None:
    page = visit("", refused=True)
    page.goto(serving(clips, token="open-sesame") + "?q=dog")
    dialog = page.get_by_role("dialog", name="This server asks for a token")
    dialog.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_have_text("This is not the token.")
    dialog.get_by_label("Token").fill("open-sesame")
    dialog.get_by_role("button", name="Sign in").click()
    cards(page)
    expect(page.locator(".card.pictured").first).to_be_visible()  # pictures carry it too
    page.reload()
    cards(page)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_who_does_not_sign_in_is_told_why(
    visit: Visit, clips: list[Clip], serving: Callable[..., str], expect: Any
) -> None:
    page = visit("", refused=True)
    page.goto(serving(clips, token="open-sesame"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert").first).to_contain_text("Not signed in")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_script_in_a_caption_stays_text(
    visit: Visit, clips: list[Clip], serving: Callable[..., str], expect: Any
) -> None:
    evil = replace(clips[0], video_id=SCRIPT, caption=SCRIPT, category=SCRIPT, spoken=SCRIPT)
    page = visit(serving([evil, clips[1]], facts={"finds": SCRIPT, "gallery": SCRIPT}))
    expect(page.locator("#notice")).to_contain_text(SCRIPT)
    expect(search(page, SCRIPT).first.locator(".caption")).to_have_text(SCRIPT)
    expect(page.get_by_role("status").first).to_contain_text(SCRIPT)
    page.locator(".card .thumb").first.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(SCRIPT)
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.locator("#asked")).to_contain_text(SCRIPT)
    assert page.title() != "broken"
    assert page.locator("main script, main img[src=x], dialog script").count() == 0
