"""The workbench in a real browser, on a real server: what a user sees and does.

With the base that `make demo` fetches it is the examples' own function; without it a tiny random
one. The screenshots are docs/images/workbench-*.png: those that are missing are made anew, with the
real base alone.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")

import tiny  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402
from workbench_browser import *  # noqa: E402, F403
from workbench_browser import (  # noqa: E402
    HOSTILE,
    INPUT,
    IS_REAL,
    ROOT,
    Server,
    go,
    serving,
    try_input,
)

import paw_mlx as paw  # noqa: E402
from paw_mlx import jobs, kept_cases, store  # noqa: E402
from paw_mlx.cases import Case  # noqa: E402
from paw_mlx.evaluation import compare, judge  # noqa: E402
from paw_mlx.serving.http.state import State  # noqa: E402

IMAGES = ROOT / "docs" / "images"


# --- trying, correcting, cases -----------------------------------------------------------------


def test_an_input_shows_its_label_and_probabilities(page: Page, server: Server) -> None:
    go(page, "#/f/mail/try")
    try_input(page, INPUT)
    right = server.fn("mail").decide(INPUT)
    expect(page.locator(".said")).to_have_text(right.label)
    names = page.locator(".share .name").all_inner_texts()
    numbers = page.locator(".share .number").all_inner_texts()
    shown = {
        name: float(number.split()[0]) / 100 for name, number in zip(names, numbers, strict=True)
    }
    assert shown == pytest.approx(dict(right.probabilities), abs=2e-3)
    widths = [box.bounding_box()["width"] for box in page.locator(".share .fill").all()]
    tracks = [box.bounding_box()["width"] for box in page.locator(".share .track").all()]
    drawn = [width / track for width, track in zip(widths, tracks, strict=True)]
    assert drawn == pytest.approx(list(right.probabilities.values()), abs=0.02)
    told = page.locator(".result .facts").inner_text()
    assert re.search(r"time\n\d+(\.\d)?\s(ms|s)", told)
    assert re.search(r"tokens in\n\d+ \(\d+ cached\)", told)
    expect(page.locator("#told")).to_have_text(f"Output: {right.label}")  # screen readers hear it


def test_one_key_makes_a_case_of_a_wrong_output(page: Page) -> None:
    before = kept_cases.read("mail")
    go(page, "#/f/mail/try")
    text = "One key: the picnic is on Friday"
    try_input(page, text)
    expect(page.locator("#result")).to_be_focused()
    page.keyboard.press("2")
    expect(page.locator("#toast")).to_contain_text(f"Kept as case {len(before) + 1} of mail: wait")
    assert kept_cases.read("mail") == [*before, Case(text, "wait")]
    expect(page.get_by_label("Input", exact=True)).to_be_focused()  # for the next one
    expect(page.locator("#side [aria-current]")).to_contain_text(f"{len(before) + 1} cases")

    page.keyboard.type("123")  # in a field, digits are text
    assert len(kept_cases.read("mail")) == len(before) + 1
    expect(page.get_by_label("Input", exact=True)).to_have_value("123")

    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#toast")).to_contain_text("removed again")
    assert kept_cases.read("mail") == before


def test_text_comes_in_pieces_and_is_corrected(page: Page, server: Server) -> None:
    go(page, "#/f/json-repair/try")
    page.evaluate(
        """() => {
          window.lengths = [];
          new MutationObserver(() => {
            const live = document.querySelector(".result .output");
            if (live) window.lengths.push(live.textContent.length);
          }).observe(document.querySelector("#result"), { childList: true, subtree: true });
        }"""
    )
    text = "{'server': 'down', disks: [1, 2,}"
    page.locator("summary").click()
    page.get_by_label("Tokens at most").fill("24")
    try_input(page, text)
    output = server.fn("json-repair")(text, max_tokens=24)
    assert page.locator(".result .output").inner_text().strip() == output.strip()
    lengths = page.evaluate("window.lengths")
    assert len({*lengths}) > 3  # it grew while it was decoded

    page.keyboard.press("e")
    right = page.get_by_label("Right output")
    expect(right).to_be_focused()
    right.fill('{"server": "down"}')
    page.get_by_role("button", name="Keep as a case").click()
    expect(page.locator("#toast")).to_contain_text("Kept as case 1")
    assert kept_cases.read("json-repair") == [Case(text, '{"server": "down"}')]
    kept_cases.remove("json-repair", [1])


@pytest.mark.skipif(not IS_REAL, reason="a tiny base is done before anybody can stop it")
def test_a_call_can_be_stopped(page: Page) -> None:
    go(page, "#/f/json-repair/try")
    page.get_by_label("Input", exact=True).fill("[" + "1, " * 60)
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#result")).to_contain_text("Stopped")
    expect(page.get_by_role("button", name="Run")).to_be_visible()


def test_an_input_that_is_too_long_is_told_and_can_be_cut(page: Page) -> None:
    go(page, "#/f/mail/try")
    page.get_by_label("Input", exact=True).fill("word " * 4000)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("tokens exceed the window of")
    page.locator("summary").click()
    page.get_by_label("Inputs that are too long").select_option("keep their head")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".result .facts")).to_contain_text("tokens cut")


def test_what_was_written_is_never_markup(odd: paw.Program, page: Page) -> None:
    go(page, "#/f/odd/try")
    expect(page.locator(".head .spec")).to_have_text(HOSTILE)
    try_input(page, HOSTILE)
    assert page.locator(".share .name").all_inner_texts() == [HOSTILE, "it's <b>bold</b>"]
    page.keyboard.press("1")
    expect(page.locator("#toast")).to_contain_text(HOSTILE)
    for tab in ("cases", "test", "about", "compare"):
        go(page, f"#/f/odd/{tab}")
        if tab in ("test", "compare"):
            page.keyboard.press("r")
            page.locator("#report .card, .verdict").first.wait_for()
        expect(page.get_by_text(HOSTILE, exact=True).first).to_be_attached()
    go(page, f"#/f/{quote(HOSTILE, safe='')}/try")
    expect(page.locator("main")).to_contain_text("No function is called")
    assert page.locator("main img, main script, main b").count() == 0


def test_the_browser_itself_refuses_markup_and_scripts(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    page.goto(server.url)
    for script in ("document.body.innerHTML = '<p>'", "setTimeout('window.hit = 3')"):
        with pytest.raises(playwright.Error, match="Trusted"):
            page.evaluate(f"() => {{ {script} }}")
    page.close()


def test_cases_are_listed_added_and_removed(page: Page) -> None:
    before = kept_cases.read("mail")
    go(page, "#/f/mail/cases")
    expect(page.locator("tbody tr")).to_have_count(len(before))
    page.get_by_label("Input").fill("a new case")
    page.get_by_label("Right output").select_option("wait")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("tbody tr")).to_have_count(len(before) + 1)
    assert kept_cases.read("mail")[-1] == Case("a new case", "wait")

    page.get_by_label("Search cases").fill("NEW case")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name=f"Remove case {len(before) + 1}").click()
    expect(page.locator("tbody tr")).to_have_count(0)
    assert kept_cases.read("mail") == before
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert kept_cases.read("mail")[-1] == Case("a new case", "wait")
    kept_cases.remove("mail", [len(before) + 1])

    page.get_by_label("Search cases").fill("")
    page.get_by_role("button", name="Try case 2", exact=True).click()
    expect(page.get_by_label("Input", exact=True)).to_have_value(before[1].input)


# --- testing, comparing ------------------------------------------------------------------------


def test_a_report_says_what_the_judge_says(page: Page, server: Server) -> None:
    report = judge(server.fn("mail"), kept_cases.read("mail"))
    go(page, "#/f/mail/test")
    page.get_by_label("Gate").fill("accuracy >= 0%, accuracy > 99.9%")
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#report .big")).to_have_text(
        f"{report.accuracy:.1%}".replace("%", "\xa0%")
    )
    cells = page.locator(".matrix tbody td").all_inner_texts()
    said = report.confusion()
    labels = report.labels
    assert [*map(int, cells)] == [said[right, out] for right in labels for out in labels]
    assert report.decisions
    end = report.decisions.curve()[-1]
    chart = page.get_by_role("img", name="risk and coverage")
    expect(chart).to_have_accessible_name(
        f"risk and coverage: {100 * end.error:.1f}\xa0% of calls are wrong where all are decided"
    )
    assert chart.locator(".point").count() == len(report.decisions.curve())
    expect(page.locator(".failures li")).to_have_count(len(report.failures))
    expect(page.get_by_text("It misses")).to_be_visible()
    expect(page.locator("#report li", has_text="should be >")).to_have_count(1)
    if report.failures:
        page.get_by_role("button", name="Try wrong case 1").click()
        expect(page.get_by_label("Input", exact=True)).to_have_value(report.failures[0].input)


def test_a_wrong_gate_is_told_with_its_hint(page: Page) -> None:
    go(page, "#/f/mail/test")
    page.get_by_label("Gate").fill("accurate >= 1")
    page.get_by_role("button", name="Test").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The gate cannot be read at character 1")
    expect(alert).to_contain_text("--gate")


def test_two_versions_stand_side_by_side(page: Page, server: Server) -> None:
    go(page, "#/f/mail@v1/compare")
    assert page.get_by_label("B", exact=True).input_value() == "mail"
    page.get_by_label("Input").fill(INPUT)
    page.keyboard.press("Control+Enter")
    for name, reference in (("A", "mail@v1"), ("B", "mail")):
        side = page.get_by_role("region", name=f"{name}: {reference}")
        decision = server.fn(reference).decide(INPUT)
        expect(side.locator(".said")).to_have_text(decision.label)
        expect(side.locator(".share .number").first).to_have_text(
            re.compile(rf"{100 * next(iter(decision.probabilities.values())):.0f}?")
        )
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    cases = kept_cases.read("mail")
    found = compare(*(judge(server.fn(name), cases) for name in ("mail@v1", "mail")))
    told = page.locator(".verdict")
    expect(told).to_have_text(re.compile(re.escape(found.sentence) + r"\.", re.I))
    expect(page.locator("#verdict .cases tbody tr")).to_have_count(len(found.split))


# --- making ------------------------------------------------------------------------------------


def test_a_function_is_compiled_while_one_looks_on(page: Page) -> None:
    go(page, "#/new")
    page.get_by_label("Spec").fill("Say whether the server is down. Return ONLY one of: 1, 0")
    page.get_by_label("Name").fill("is-down")
    page.evaluate(
        """() => {
          window.told = [];
          new MutationObserver(() => {
            const said = document.querySelector(".progress span");
            if (said) window.told.push(said.textContent);
          }).observe(document.querySelector("main"), { childList: true, subtree: true });
        }"""
    )
    page.get_by_role("button", name="Compile").click()
    ready = page.get_by_role("link", name="is-down@v1")
    ready.wait_for(timeout=300_000)
    steps = page.evaluate("window.told")
    shares = [int(step.split()[0]) for step in steps if "%" in step]
    assert shares == sorted(shares)
    assert len({*shares}) > IS_REAL, steps  # it went on before one's eyes
    expect(page.locator("#list")).to_contain_text("is-down")
    ready.click()
    expect(page.locator(".head h1")).to_have_text("is-down")
    try_input(page, "the server is down")
    assert page.locator(".share .name").all_inner_texts() == ["1", "0"]  # as the spec has them
    store.remove("is-down")


def test_a_bad_spec_or_name_is_told(page: Page) -> None:
    go(page, "#/new")
    page.get_by_label("Spec").fill("Say 1.")
    page.get_by_label("Compiler").fill("../../etc")
    page.get_by_role("button", name="Compile").click()
    expect(page.get_by_role("alert")).to_contain_text("No compiler is called")


def test_tuning_goes_on_in_the_background_with_its_log(page: Page) -> None:
    program, cases = paw.load(store.find("mail")), [Case(f"mail {n}", "wait") for n in range(90)]
    store.add(program, "tuned", profile=None if IS_REAL else tiny.profile("llama"))
    kept_cases.add("tuned", cases)
    page.reload()
    go(page, "#/f/tuned/tune")
    expect(page.locator("main")).to_contain_text("by its 90 cases")
    page.get_by_label("Steps at most").fill("100000")
    page.get_by_role("button", name="Tune").click()
    job = page.get_by_role("region", name="Job tune-1")
    expect(job.get_by_role("log")).to_contain_text("paw-mlx tune tuned --steps=100000")
    go(page, "#/activity")
    if IS_REAL:
        expect(job.locator(".chip")).to_have_text("running")
        job.get_by_role("button", name="Stop").click()
        expect(job.locator(".chip")).to_have_text("stopped")
    else:  # it looks for the base by its name, and a tiny one is nowhere
        expect(job.locator(".chip")).to_have_text("failed")
    expect(job.get_by_role("button", name="Stop")).to_be_hidden()
    assert jobs.read("tune-1").state != "running"
    store.remove("tuned")


# --- servers that want a token, or are gone ------------------------------------------------------


def test_a_server_with_a_token_asks_for_it(browser: Browser, server: Server) -> None:
    state = State(server.state.functions, server.state.compiles, token="s3cret")
    with serving(state) as url:
        page = browser.new_page()
        page.goto(url)
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_contain_text("This is not the server's token")
        page.get_by_label("Token").fill("s3cret")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#list")).to_contain_text("mail")
        other = browser.new_page()
        other.goto(f"{url}#token=s3cret")
        expect(other.locator("#list")).to_contain_text("mail")
        assert "s3cret" not in other.url
        page.close()
        other.close()


def test_a_server_that_is_gone_is_told(browser: Browser, server: Server) -> None:
    with serving(State(server.state.functions, server.state.compiles)) as url:
        page = browser.new_page()
        page.goto(f"{url}#/f/mail/try")
        page.get_by_label("Input", exact=True).fill("x")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    page.close()


# --- the screenshots of the docs ---------------------------------------------------------------

real_alone = pytest.mark.skipif(not IS_REAL, reason="of a random base they make no sense")


def shoot(page: Page, view: str, height: int) -> None:
    """Take a screenshot, if it is missing; a small one."""
    file = IMAGES / f"workbench-{view}.png"
    if not file.exists():
        page.set_viewport_size({"width": 1200, "height": height})
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=file)
    assert file.stat().st_size < 150_000


@real_alone
@pytest.mark.parametrize("page", [{"color_scheme": "light"}], indirect=True, ids=["light"])
def test_screenshots_by_day(page: Page) -> None:
    go(page, "#/f/mail/try")
    try_input(page, INPUT)
    shoot(page, "try-light", 640)
    go(page, "#/f/mail/test")
    page.keyboard.press("r")
    page.locator("#report .big").wait_for()
    shoot(page, "test-light", 1180)


@real_alone
@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True, ids=["dark"])
def test_screenshots_by_night(page: Page) -> None:
    go(page, "#/f/mail@v1/compare")
    page.keyboard.press("r")
    page.locator(".verdict").wait_for()
    page.get_by_label("Input").fill(INPUT)
    page.keyboard.press("Control+Enter")
    page.locator(".side .facts").nth(1).wait_for()
    shoot(page, "compare-dark", 1150)
