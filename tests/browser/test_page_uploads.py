"""Videos brought to the page: chosen, dropped, refused, cancelled, and what the history keeps of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_server import Clip
from steps import Site, Visit, cards, parameters, search

DROP = """([bytes, name, type]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
  return transfer;
}"""


def drop(page: Any, path: Path, target: str, kind: str = "video/webm") -> None:
    """Drag a file over the page, and drop it on what a selector finds."""
    transfer = page.evaluate_handle(DROP, [list(path.read_bytes()), path.name, kind])
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    page.locator("#drop .zone").first.wait_for()
    page.dispatch_event(target, "dragover", {"dataTransfer": transfer})
    page.dispatch_event(target, "drop", {"dataTransfer": transfer})


def choose(page: Any, path: Path) -> None:
    """Choose a file with the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Use a video").click()
    chooser.value.set_files(path)


def test_a_chosen_video_finds_videos_and_then_captions(
    visit: Visit, site: Site, films: dict[str, Path], expect: Any
) -> None:
    page = visit(site)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    choose(page, films["webm"])
    videos = cards(page).count()
    expect(page.locator("#asked")).to_contain_text("clip.webm")
    expect(page.locator("#filters")).to_be_hidden()  # the API does not filter what is like a file
    assert parameters(page) == {"video": ["clip.webm"]}
    page.get_by_label("Captions").check(force=True)
    expect(page.get_by_role("status").first).to_contain_text("captions for clip.webm")
    assert parameters(page) == {"video": ["clip.webm"], "answers": ["captions"]}
    page.go_back()
    expect(page.get_by_role("status").first).to_contain_text(f"{videos} videos like clip.webm")
    assert [url.rpartition("answers=")[2] for url in sent] == ["videos", "captions"]  # nothing is sent twice
    page.reload()
    expect(page.locator("#notice")).to_contain_text("Choose it again")


@pytest.mark.parametrize("answers", ["videos", "captions"])
def test_a_video_is_dropped_on_what_it_is_to_find(
    visit: Visit, site: Site, films: dict[str, Path], expect: Any, answers: str
) -> None:
    page = visit(site)
    drop(page, films["webm"], f".zone[data-answers={answers}]")
    cards(page)
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.get_by_role("status").first).to_contain_text(answers)
    expect(page.get_by_label(answers.capitalize(), exact=True)).to_be_checked()
    expect(page.locator("#asked-picture video")).to_have_js_property("videoWidth", 96)


def test_what_is_no_video_is_refused_in_words(visit: Visit, site: Site, tmp_path: Path, expect: Any) -> None:
    page = visit(site, refused=True)
    text = tmp_path / "notes.txt"
    text.write_text("dear diary")
    drop(page, text, "#drop", "text/plain")
    expect(page.get_by_role("status").first).to_have_text("notes.txt is no video but text/plain.")
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"dear diary")
    drop(page, fake, "#drop", "video/mp4")
    expect(page.get_by_role("alert").first).to_contain_text("Not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    choose(page, tmp_path / "empty.mp4")
    expect(page.get_by_role("status").first).to_have_text("empty.mp4 is empty.")


def test_what_is_too_large_is_not_sent(
    visit: Visit, clips: list[Clip], serving: Callable[..., str], films: dict[str, Path], expect: Any
) -> None:
    page = visit(serving(clips, facts={"max_upload_bytes": 2048}))
    choose(page, films["webm"])
    expect(page.get_by_role("status").first).to_contain_text("up to 2.0 KiB")


def test_a_server_without_uploads_or_captions_offers_none(
    visit: Visit, clips: list[Clip], serving: Callable[..., str], films: dict[str, Path], expect: Any
) -> None:
    page = visit(serving(clips, facts={"uploads": False}))
    expect(page.get_by_role("button", name="Use a video")).to_have_count(0)
    drop(page, films["webm"], "#drop")
    expect(page.get_by_role("status").first).to_contain_text("takes no videos")
    page = visit(serving(clips, facts={"captions": 0}))
    drop(page, films["webm"], "#drop")
    cards(page)
    expect(page.locator("#answers")).to_be_hidden()


def test_progress_is_shown_and_an_upload_can_be_cancelled(
    visit: Visit, site: Site, films: dict[str, Path], expect: Any
) -> None:
    page = visit(site, refused=True)
    search(page, "dog")
    before = page.url
    held: list[Any] = []
    page.route("**/search/video*", lambda route: held.append(route))  # the server takes its time
    choose(page, films["webm"])
    expect(page.get_by_role("region", name="Upload")).to_contain_text("clip.webm")
    expect(page.get_by_role("progressbar")).to_be_visible()
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("region", name="Upload")).to_have_count(0)
    expect(page.get_by_role("status").first).to_contain_text("for “dog”")
    assert page.url == before
