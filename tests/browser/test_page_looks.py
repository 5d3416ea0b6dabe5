"""Light and dark, narrow and wide, and what assistive technology meets."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from steps import Site, Visit, cards

BACKGROUND = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
WIDTHS = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def brightness(page: Any) -> float:
    """Return how bright the page's background is, 0 to 255."""
    return float(sum(page.evaluate(BACKGROUND))) / 3


def test_it_is_light_or_dark_as_the_system_is_until_the_button_says_otherwise(
    visit: Visit, site: Site, expect: Any
) -> None:
    page = visit(site, color_scheme="dark")
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 60
    page.emulate_media(color_scheme="light")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert brightness(page) > 220
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 60
    page.reload()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert brightness(page) < 60


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(visit: Visit, site: Site, expect: Any, width: int) -> None:
    page = visit(site + "?q=dog", viewport={"width": width, "height": 740})
    cards(page)
    scrolled, there = page.evaluate(WIDTHS)
    assert scrolled <= there
    page.locator(".card .thumb").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate(
        "() => { const player = document.getElementById('player'); return player.scrollWidth <= player.clientWidth; }"
    )
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More like").first.click()
    expect(page.locator("#asked")).to_be_visible()
    scrolled, there = page.evaluate(WIDTHS)
    assert scrolled <= there


def test_the_cards_do_not_move_when_pictures_come(visit: Visit, site: Site, expect: Any) -> None:
    page = visit("")
    held: list[Any] = []
    page.route("**/thumbnails/**", lambda route: held.append(route))
    page.goto(site + "?q=dog")
    cards(page)
    tops = "all => all.map(one => one.getBoundingClientRect().top)"
    before = page.locator(".card").evaluate_all(tops)
    for route in list(held):
        route.continue_()
    expect(page.locator(".card.pictured").first).to_be_visible()
    assert page.locator(".card").evaluate_all(tops) == before


def test_the_focus_can_be_seen(visit: Visit, site: Site) -> None:
    page = visit(site + "?q=dog")
    cards(page)
    page.evaluate("() => document.activeElement.blur()")
    for _ in range(14):
        page.keyboard.press("Tab")
        outline = page.evaluate("""() => {
          const styled = ["", ".card", ".box", ".switch label"].map((around) =>
            around ? document.activeElement.closest(around) : document.activeElement);
          return styled.some((one) => one && (getComputedStyle(one).outlineStyle === "solid"
            || (one.className === "box" && getComputedStyle(one).boxShadow.includes("3px"))));
        }""")
        assert outline, page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(visit: Visit, site: Site, scheme: str) -> None:
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (axe-core)")
    axe = resources.files(package).joinpath("axe.min.js").read_text(encoding="utf-8")
    page = visit(site, color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(f"() => {{ {axe} }}")

    def barriers() -> list[str]:
        found = page.evaluate("() => axe.run(document)")
        assert found["passes"]
        return [f"{one['id']}: {json.dumps([node['html'] for node in one['nodes']])}" for one in found["violations"]]

    assert barriers() == []
    page.get_by_role("searchbox").fill("dog")
    page.keyboard.press("Enter")
    cards(page)
    assert barriers() == []
    page.locator(".card .thumb").first.click()
    assert barriers() == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More like").first.click()
    page.locator("#asked").wait_for()
    cards(page)
    assert barriers() == []
    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert barriers() == []
