"""The workbench for everyone: by keys alone, on narrow screens, by ear, by day and by night."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")

from playwright.sync_api import Page, expect
from workbench_browser import *  # noqa: F403
from workbench_browser import NARROW, go, try_input

import paw_mlx as paw

TABS = ("try", "cases", "test", "compare", "tune", "about")
VIEWS = [*(f"#/f/mail/{tab}" for tab in TABS), "#/", "#/new", "#/activity"]
VIEWS += ["#/f/odd/try", "#/f/none/try"]


def test_all_is_done_by_keys(page: Page) -> None:
    page.keyboard.press("/")
    expect(page.get_by_label("Search functions")).to_be_focused()
    page.keyboard.type("mail")
    page.keyboard.press("Enter")
    expect(page.locator(".head h1")).to_be_focused()
    expect(page.locator(".head h1")).to_have_text("mail")
    page.keyboard.press("]")
    expect(page.locator(".tabs [aria-current]")).to_have_text("Cases")
    page.keyboard.press("[")
    expect(page.locator(".tabs [aria-current]")).to_have_text("Try")
    page.keyboard.press("i")
    expect(page.get_by_label("Input", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("Keep the input with that label")
    page.get_by_label("Keys without").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("n")
    expect(page.locator(".head h1")).to_have_text("mail")  # such keys are off
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Keys without").check()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("New function")
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_the_theme_is_kept(page: Page) -> None:
    seen = []
    for _ in range(3):
        page.keyboard.press("d")
        page.reload()
        page.locator("#list a").first.wait_for()
        seen.append(
            page.evaluate(
                "getComputedStyle(document.body).backgroundColor + ' ' + "
                "getComputedStyle(document.documentElement).backgroundColor"
            )
        )
    light, dark, auto = seen
    assert light == auto != dark
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") in dark


SCHEMES = [{"color_scheme": "light"}, {"color_scheme": "dark"}, NARROW]


@pytest.mark.parametrize("page", SCHEMES, indirect=True, ids=["light", "dark", "narrow"])
def test_every_view_is_read_by_everyone(odd: paw.Program, page: Page) -> None:
    problems = []
    for view in VIEWS:
        go(page, view)
        if view.endswith("/try") and "none" not in view:
            try_input(page, "the server is down")
        if view == "#/f/mail/test":
            page.keyboard.press("r")
            page.locator("#report .big").wait_for()
        tree = page.locator("body").aria_snapshot()
        for landmark in ("banner", "navigation", "main"):
            assert re.search(rf"^ *- {landmark}", tree, re.M), (view, landmark, tree)
        nameless = (
            r"^ *- (?:button|link|textbox|searchbox|combobox|spinbutton|checkbox|img)(?::|$| \[)"
        )
        assert not re.search(nameless, tree, re.M), (view, tree)
        problems += [f"{view}: {found}" for found in page.evaluate(CHECK)]
    assert not problems, "\n".join(problems)


# What is wrong with a view: contrast below AA, ids that are there twice, no or two h1, labels of
# nothing, headings that skip a level, and what sticks out to the right.
CHECK = r"""() => {
  const wrong = [];
  const numbers = (color) => {
    const found = color.match(/[\d.]+(e-\d+)?/g).map(Number);
    const of255 = color.startsWith("color(") ? found.slice(0, 3).map((each) => 255 * each) : found;
    return [...of255.slice(0, 3), found[3] ?? 1];
  };
  const over = (top, below) =>
    top.slice(0, 3).map((each, i) => top[3] * each + (1 - top[3]) * below[i]);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = numbers(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const light = (color) => color.map((each) => each / 255)
    .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, i) => sum + each * [0.2126, 0.7152, 0.0722][i], 0);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("noscript, script, dialog:not([open]), .hidden, option")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const paint = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(over(numbers(paint), below)), light(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    const text = walker.currentNode.textContent.slice(0, 30);
    if (ratio < (isLarge ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${text}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  const twice = ids.filter((each, i) => ids.indexOf(each) < i);
  if (twice.length) wrong.push(`ids twice: ${twice}`);
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  for (const label of document.querySelectorAll("label[for]"))
    if (!document.getElementById(label.htmlFor)) wrong.push(`label of nothing: ${label.htmlFor}`);
  let level = 1;
  for (const heading of document.querySelectorAll("main :is(h1, h2, h3)")) {
    if (Number(heading.tagName[1]) > level + 1) wrong.push(`heading skips: ${heading.textContent}`);
    level = Number(heading.tagName[1]);
  }
  const page = document.scrollingElement;
  if (page.scrollWidth > page.clientWidth) wrong.push(`it is ${page.scrollWidth} wide`);
  return wrong;
}"""


@pytest.mark.parametrize("page", [NARROW], indirect=True, ids=["narrow"])
def test_functions_open_on_a_narrow_screen(page: Page) -> None:
    menu = page.get_by_role("button", name="Functions")
    expect(page.locator("#side")).to_be_hidden()
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_label("Search functions")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#side")).to_be_hidden()
    expect(menu).to_be_focused()
    menu.click()
    page.locator("#list a", has_text="mail").click()
    expect(page.locator("#side")).to_be_hidden()
    expect(page.locator(".head h1")).to_have_text("mail")
