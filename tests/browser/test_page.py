"""The page in a real browser: search, play, open, more like this, filters, keys, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import Clip
from steps import Site, Visit, asked, cards, parameters, search

WATCH = """() => {
  const video = document.querySelector(".playing video");
  if (!video) return false;
  if (video !== window.watched) {
    window.watched = video;
    window.times = [];
    video.addEventListener("timeupdate", () => window.times.push(video.currentTime));
  }
  return window.times.some((time, place) => place && time < window.times[place - 1] - 0.4);
}"""
"""Whether the preview that plays has gone back to its beginning; its times are kept."""


def test_what_is_typed_is_searched_and_every_card_says_what_the_server_said(
    visit: Visit, site: Site, expect: Any
) -> None:
    page = visit(site)
    expect(page.get_by_role("searchbox")).to_be_focused()
    gallery = asked(site, "gallery")
    expect(page.locator("#notice")).to_contain_text(gallery["finds"])
    expect(page.locator("#notice")).to_contain_text(gallery["gallery"])
    found = search(page, "a dog")
    body = asked(site, "search", q="a dog", k=24)
    expect(found).to_have_count(len(body["results"]))
    expect(page.get_by_role("status").first).to_contain_text(str(len(body["results"])))
    for place, hit in enumerate(body["results"][:6]):
        card = found.nth(place)
        expect(card.locator(".caption")).to_have_text(hit["caption"] or hit["video_id"])
        expect(card.locator(".score")).to_have_text(f"{hit['score']:.3f}")
        expect(card.locator(".id")).to_have_text(hit["video_id"])
        if hit["category"]:
            expect(card.locator(".category")).to_have_text(hit["category"])
        if hit["snippet"]:
            expect(card.locator(".snippet")).to_contain_text(hit["snippet"]["text"])
        positive = [name for name, share in hit["shares"].items() if share > 0]
        expect(card.locator(".bar > span")).to_have_count(len(positive))
        for name, share in hit["shares"].items():
            said = f"{name} {'−' if share < 0 else '+'}{abs(share):.3f}"
            assert said in card.locator(".bar").get_attribute("aria-label")
            assert said in card.locator(".weights").get_attribute("title")


def test_a_bar_is_as_long_as_its_shares(visit: Visit, site: Site) -> None:
    page = visit(site + "?q=dog")
    hits = asked(site, "search", q="dog", k=24)["results"]
    gains = [sum(max(0, share) for share in hit["shares"].values()) for hit in hits]
    cards(page)
    for place in (0, len(hits) - 1):
        widths = (
            page.locator(".card")
            .nth(place)
            .locator(".bar")
            .evaluate(
                "bar => [bar.getBoundingClientRect().width, bar.parentElement.getBoundingClientRect().width,"
                " ...[...bar.children].map(one => one.getBoundingClientRect().width)]"
            )
        )
        assert widths[0] / widths[1] == pytest.approx(gains[place] / max(gains), abs=0.02)
        shares = sorted((share for share in hits[place]["shares"].values() if share > 0), reverse=True)
        for width, share in zip(widths[2:], shares, strict=True):
            assert width / sum(widths[2:]) == pytest.approx(share / gains[place], abs=0.05)


def test_a_card_plays_its_moment_over_and_over_under_the_pointer(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog")
    hit = asked(site, "search", q="dog", k=24)["results"][0]
    cards(page).first.hover()
    page.wait_for_function(WATCH)
    times = page.evaluate("window.times")
    moment = hit["moment"]
    assert min(times) >= moment["start_seconds"] - 0.3
    assert max(times) <= moment["end_seconds"] + 1
    assert page.evaluate("window.watched.muted")
    page.get_by_role("searchbox").hover()
    expect(page.locator("#results video")).to_have_count(0)
    cards(page).first.hover()
    expect(page.locator(".card.playing")).to_have_count(1)
    page.mouse.down()
    page.mouse.up()  # a click on what plays opens it
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_moment_at_the_very_beginning_is_repeated_too(
    visit: Visit, serving: Callable[..., str], films: dict[str, Path]
) -> None:
    page = visit(serving([Clip("one", films["webm"], "a dog", None, 8.0, (0.0, 1.0))]) + "?q=dog")
    cards(page).first.hover()
    page.wait_for_function(WATCH)
    assert max(page.evaluate("window.times")) < 3


def test_only_the_card_in_focus_plays(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog")
    cards(page)
    page.get_by_role("searchbox").press("ArrowDown")
    expect(page.locator(".card").nth(0)).to_have_class("card pictured playing")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".card").nth(1)).to_have_class("card pictured playing")
    expect(page.locator("#results video")).to_have_count(1)


def test_who_wants_no_motion_has_none(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog", reduced_motion="reduce")
    cards(page)
    page.get_by_role("searchbox").press("ArrowDown")
    page.locator(".card").nth(1).hover()
    expect(page.locator(".card .thumb").nth(0)).to_be_focused()
    page.keyboard.press("Enter")  # the player comes after whatever hovering could have started
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#results video")).to_have_count(0)


def test_a_tap_plays_and_another_opens(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog", has_touch=True, viewport={"width": 360, "height": 740})
    thumb = cards(page).first.locator(".thumb")
    thumb.tap()
    expect(page.locator(".card.playing")).to_have_count(1)
    expect(page.get_by_role("dialog")).to_have_count(0)
    thumb.tap()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_the_player_has_sound_the_moment_and_all_facts(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog")
    hits = asked(site, "search", q="dog", k=24)["results"]
    cards(page).first.locator(".thumb").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(hits[0]["caption"])
    start = hits[0]["moment"]["start_seconds"]
    page.wait_for_function(f"() => document.getElementById('player-video').currentTime > {start + 0.3}")
    assert page.evaluate("(v => v.controls && !v.muted)(document.getElementById('player-video'))")
    for name, share in hits[0]["shares"].items():
        row = dialog.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))
        expect(row).to_contain_text(f"{'−' if share < 0 else '+'}{abs(share):.3f}")
    expect(dialog).to_contain_text(hits[0]["video_id"])
    dialog.get_by_role("button", name="Next result").click()
    expect(dialog.get_by_role("heading")).to_have_text(hits[1]["caption"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".card .thumb").nth(1)).to_be_focused()
    assert page.evaluate("document.getElementById('player-video').paused")


def test_the_player_repeats_the_moment(visit: Visit, site: Site) -> None:
    page = visit(site + "?q=dog")
    cards(page).first.locator(".thumb").click()
    page.get_by_label("Repeat it").check()
    page.evaluate("""() => {
      const video = document.getElementById("player-video");
      window.seeks = 0;
      video.addEventListener("seeked", () => window.seeks++);
    }""")
    page.wait_for_function("() => window.seeks >= 2")


def test_more_like_this_and_the_way_back(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site)
    hits = asked(site, "search", q="dog", k=24)["results"]
    search(page, "dog").nth(2).get_by_role("button", name="More like").click()
    alike = asked(site, f"similar/{hits[2]['video_id']}".replace(" ", "%20"), k=24)["results"]
    expect(page.locator(".card .id").first).to_have_text(alike[0]["video_id"])
    expect(page.locator("#asked")).to_contain_text(hits[2]["video_id"])
    assert parameters(page) == {"similar": [hits[2]["video_id"]]}
    page.go_back()
    expect(page.locator(".card .id").first).to_have_text(hits[0]["video_id"])
    expect(page.get_by_role("searchbox")).to_have_value("dog")
    expect(page.locator(".card .thumb").nth(2)).to_be_focused()
    page.go_forward()
    expect(page.locator(".card .id").first).to_have_text(alike[0]["video_id"])
    page.reload()
    expect(page.locator(".card .id").first).to_have_text(alike[0]["video_id"])
    page.get_by_role("button", name="Stop searching with this video").click()
    expect(page.locator(".card")).to_have_count(0)
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_keys_lead_everywhere(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog")
    count = cards(page).count()
    columns = page.evaluate(
        "(tops => tops.filter(top => top === tops[0]).length)"
        "([...document.querySelectorAll('.card')].map(card => card.offsetTop))"
    )
    assert 1 < columns < count
    thumb = page.locator(".card .thumb")
    page.get_by_role("searchbox").press("ArrowDown")
    expect(thumb.nth(0)).to_be_focused()
    for key, place in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("ArrowUp", 0)):
        page.keyboard.press(key)
        expect(thumb.nth(place)).to_be_focused()
    page.keyboard.press("End")
    expect(thumb.nth(count - 1)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("m")
    expect(page.locator("#asked")).to_be_visible()
    expect(thumb.nth(0)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#asked")).to_be_hidden()
    expect(page.get_by_role("searchbox")).to_have_value("dog")
    expect(thumb.nth(0)).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("more like this")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("searchbox").fill("m / ?")  # in the box they are letters
    expect(page.get_by_role("searchbox")).to_have_value("m / ?")


def test_filters_narrow_the_results_and_are_part_of_the_address(visit: Visit, site: Site, expect: Any) -> None:
    gallery = asked(site, "gallery")
    if not (gallery["categories"] and gallery["has_durations"]):
        pytest.skip("this gallery has no categories or durations to filter by")
    spoken = {"has_speech": "true"} if gallery["has_speech"] else {}
    page = visit(site + "?q=dog")
    cards(page)
    name = gallery["categories"][0]["name"]
    page.get_by_role("combobox", name="Category").select_option(name)
    expect(page.locator(".card .category").first).to_have_text(name)
    expect(page.locator(".card .category").filter(has_not_text=name)).to_have_count(0)
    speech = page.get_by_role("combobox", name="Speech")
    if spoken:
        speech.select_option("with speech")
    else:
        expect(speech).to_have_count(0)
    page.get_by_label("Longest duration in seconds").fill("30")
    page.keyboard.press("Enter")
    expected = asked(site, "search", q="dog", k=24, category=name, max_seconds=30, **spoken)["results"]
    expect(page.locator(".card .id")).to_have_text([hit["video_id"] for hit in expected])
    assert parameters(page) == {"q": ["dog"], "category": [name], "max_seconds": ["30"]} | {
        key: [value] for key, value in spoken.items()
    }
    page.reload()
    expect(page.locator(".card .id")).to_have_text([hit["video_id"] for hit in expected])
    if spoken:
        expect(speech).to_have_value("true")
    page.get_by_role("button", name="Clear filters").first.click()
    assert parameters(page) == {"q": ["dog"]}
    page.get_by_label("Shortest duration in seconds").fill("20")
    page.get_by_label("Shortest duration in seconds").press("Tab")
    page.get_by_label("Longest duration in seconds").fill("10")
    page.get_by_label("Longest duration in seconds").press("Tab")
    assert "below the shortest" in page.get_by_label("Longest duration in seconds").evaluate("e => e.validationMessage")
    assert "max_seconds" not in parameters(page)


def test_asking_the_same_again_is_no_step_in_the_history(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site)
    search(page, "dog")
    search(page, "dog")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.locator("#notice")).to_be_visible()


def test_numbers_are_written_as_people_read_them(visit: Visit, site: Site) -> None:
    page = visit(site)
    times = {0: "0:00", 7.4: "0:07", 59.6: "1:00", 750: "12:30", 3725: "1:02:05"}
    sizes = {1: "1 bytes", 1023: "1023 bytes", 1536: "1.5 KiB", 200 * 2**20: "200 MiB", 3 * 2**30: "3.0 GiB"}
    made = page.evaluate(
        """async ([times, sizes]) => {
          const { clock, bytes, stretch, videoAddress } = await import("./static/dom.js");
          return [times.map(clock), sizes.map(bytes), stretch({ start_seconds: 3.2, end_seconds: 3.4 }),
                  videoAddress("a b/c?d#e%")];
        }""",
        [list(times), list(sizes)],
    )
    assert made == [[*times.values()], [*sizes.values()], "0:03–0:04", "videos/a%20b/c%3Fd%23e%25"]


def test_a_gallery_without_facts_has_no_filters(visit: Visit, serving: Callable[..., str], expect: Any) -> None:
    page = visit(serving([Clip("one", None, None)]) + "?q=dog")
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.locator(".caption")).to_have_text("one")
    expect(page.locator(".thumb .note")).to_have_text("The server has no file of this video")


def test_more_results_come_below_those_that_are_there(visit: Visit, site: Site, expect: Any) -> None:
    page = visit(site + "?q=dog")
    expected = asked(site, "search", q="dog", k=48)["results"]
    if len(expected) <= 24:
        pytest.skip("this gallery has no more than one page of videos")
    cards(page)
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".card .id")).to_have_text([hit["video_id"] for hit in expected])
    expect(page.locator(".card .thumb").nth(24)).to_be_focused()
