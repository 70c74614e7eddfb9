"""The workbench of a report in headless Chromium: search, filters, links, corrections by keyboard, accessibility."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import laptops
import pytest

from langchain_falconer.annotate import Annotation, UnplacedQuote, read_annotations
from langchain_falconer.annotate.annotation_files import read_corrections
from langchain_falconer.execute import RowStatistics
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.report import AnnotationSummary, CorpusSummary, Cost, Pace, RunSummary, render_html
from langchain_falconer.report.evidence import NO_EVIDENCE, Evidence, add_unplaced, write_comparisons

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

N = 60


def row(i: int, text: str | None = None) -> dict[str, Any]:
    text = text or laptops.review(i)
    answers = laptops.answers(text)
    labels = {"positive": {"value": answers.labels["positive"].value, "score": 0.5 + (i % 50) / 100}}
    spans = {step: [{**s.to_dict(), "score": 0.8} for s in found] for step, found in answers.spans.items()}
    return {
        "id": f"r{i}",
        "text": text,
        "labels": labels,
        "spans": spans,
        "match": bool(spans),
        "decided_by": {"positive": "llm" if i % 10 == 0 else "proxy", **dict.fromkeys(spans, "proxy")},
        "metadata": {"source": ["shop", "forum"][i % 2], "stars": i % 5},
    }


def summary_of(rows: list[dict[str, Any]], plan: Plan = laptops.PLAN) -> RunSummary:
    return RunSummary(
        run_id="0123456789abcdef",
        instruction=plan.instruction,
        plan=plan,
        corpus=CorpusSummary(sources=("reviews.jsonl",), documents=len(rows)),
        annotations=AnnotationSummary(source="an LLM"),
        cost=Cost(),
        pace=Pace(),
        rows=RowStatistics.of(rows).counts(),
        output="rows.jsonl",
    )


def held_out(folder: Path) -> Evidence:
    """Fifteen held-out texts; the LLM is wrong about the first bad one, the proxy about every fourth text."""
    texts = laptops.reviews(15, start=1000)
    annotations, predicted = [], []
    for i, text in enumerate(texts):
        right = laptops.answers(text)
        wrong = Answers({"positive": Label(not right.labels["positive"].value, 0.6)}, {})
        annotations.append(Annotation(text, Answers({"positive": Label(True)}) if i == 2 else right, "an LLM"))
        predicted.append(wrong if i % 4 == 3 else right)
    write_comparisons(folder, annotations, predicted)
    return Evidence.of(folder)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a report; a message on the console, an error of a script or a dialog fails the test."""
    faults: list[str] = []
    contexts = []

    def opened(summary, rows, evidence=NO_EVIDENCE, fragment="", **options):
        out = tmp_path / "report.html"
        render_html(summary, rows, out, evidence=evidence)
        contexts.append(browser.new_context(accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
        page.goto(out.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def report(open_page, tmp_path):
    rows = [row(i) for i in range(N)]
    return open_page(summary_of(rows), rows, held_out(tmp_path))


def ids(page) -> list[str]:
    return page.locator("#panel-rows article .id a").all_inner_texts()


def counted(page) -> str:
    return page.locator(".counted").inner_text()


def test_rows_are_searched_filtered_sorted_and_paged(report):
    assert counted(report).startswith(f"{N} of {N} rows")
    assert ids(report)[:3] == ["r0", "r50", "r1"]  # least certain first
    report.click("text=Next")
    assert ids(report)[0] == "r5"
    report.fill("#search", "Terrible")
    assert counted(report).startswith(f"{N // 3} of")
    assert report.locator("#panel-rows .hit").count() == 20  # twice a text
    report.fill("#search", "")
    choose(report, "decided by", "llm")
    assert counted(report).startswith("6 of")
    choose(report, "source", "shop")
    assert counted(report).startswith("6 of")
    report.select_option("#sort", "corpus")
    assert ids(report) == ["r0", "r10", "r20", "r30", "r40", "r50"]
    report.fill("#search", "no such words")
    assert "No row fits" in report.locator(".list").first.inner_text()
    report.fill("#search", "")
    for _ in range(2):
        report.locator("#panel-rows ul[aria-label='Active filters'] button").first.click()
    assert counted(report).startswith(f"{N} of")


def choose(page, facet: str, value: str) -> None:
    option = page.locator(f"#add-filter optgroup[label='{facet}'] option[data-value='{value}']")
    page.select_option("#add-filter", label=option.inner_text())


def test_a_click_on_a_count_shows_its_rows(report):
    report.locator("section:has(#results) button", has_text="$101").click()
    assert ids(report) == ["r1"]
    assert report.locator("#panel-rows mark.s0").inner_text() == "$101"


def test_a_link_opens_its_row(open_page):
    rows = [row(i) for i in range(N)]
    page = open_page(summary_of(rows), rows, fragment="#row=r42")
    assert page.locator("article.target .id a").inner_text() == "r42"
    assert page.evaluate("document.activeElement.classList.contains('target')")
    page.evaluate("location.hash = '#row=r777'")
    page.locator("#app > [role=status]", has_text="r777").wait_for()


def accuracy(page) -> dict[tuple[str, str], tuple[str, str]]:
    lines = [line.locator("th, td").all_inner_texts() for line in page.locator(".accuracy tbody tr").all()]
    return {(step, who): (right, interval) for step, who, right, _, interval in lines}


def test_ten_answers_by_keyboard_measure_the_llm_and_leave_as_annotations(report, tmp_path):
    report.keyboard.press("Tab")
    report.locator("#tab-rows").focus()
    report.keyboard.press("ArrowLeft")  # to the last tab, where one corrects
    report.locator("#source").focus()
    report.keyboard.press("h")  # held-out texts
    seen = []
    while len(seen) < 10:
        report.wait_for_selector(".decision h3")
        text = report.locator(".decision .text").inner_text()
        seen.append(text)
        if "Is this a positive" in report.locator(".decision h3").inner_text():
            report.keyboard.press("y" if laptops.is_positive(text) else "n")
        else:
            report.keyboard.press("y")  # the prices are right
    assert len(set(seen)) == 6
    assert accuracy(report)["positive", "an LLM"] == ("5 of 6", "35.9% to 99.6%")  # Clopper and Pearson's
    assert accuracy(report)["positive", "proxy, held-out"][0] == "5 of 6"
    report.keyboard.press("u")
    report.keyboard.press("u")
    assert accuracy(report)["positive", "an LLM"][0] == "4 of 5"
    report.keyboard.press("y")
    report.keyboard.press(" ")  # skips the last text
    with report.expect_download() as download:
        report.locator("#download").click()
    file = tmp_path / "corrections.jsonl"
    download.value.save_as(file)
    uniform, others = read_corrections(file, laptops.PLAN)
    assert not others
    assert sum("price" in one.answers for one in uniform) == 4
    for one in uniform:
        right = laptops.answers(one.text)
        assert one.answers.labels == right.labels
        assert one.answers.spans in ({}, right.spans)


EVERY_KIND = Plan.parse(
    {
        "instruction": "Everything",
        "steps": [
            {"id": "city", "op": "get_label", "instruction": "Which?", "labels": [f"city {i}" for i in range(30)]},
            {
                "id": "parts",
                "op": "get_label",
                "instruction": "?",
                "labels": ["fan", "key", "lid"],
                "multi_label": True,
            },
            {"id": "sum", "op": "get_span", "instruction": "Which?"},
        ],
    }
)


def test_many_labels_several_labels_and_edges_of_spans_by_keyboard(open_page, tmp_path):
    text = "🙂 It was $1,299, then $99 😀."
    span = Span.at(text, text.index("$1"), text.index("$1") + 2, 0.6)
    answers = {"labels": {"city": {"value": "city 1", "score": 0.4}, "parts": {"value": ["fan"], "score": 0.7}}}
    one = {"id": "a", "text": text, **answers, "spans": {"sum": [span.to_dict()]}, "match": True, "decided_by": {}}
    page = open_page(summary_of([one], EVERY_KIND), [one])
    page.click("#tab-correct")
    page.select_option("#source", "uniform")
    page.keyboard.type("ty 27")
    page.keyboard.press("Enter")
    for key in ("1", "2", "3", "Enter"):  # fan off; key and lid on
        page.keyboard.press(key)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.locator(".decision mark").inner_text() == "$1,299"
    page.keyboard.press("a")  # the next word
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator(".decision mark.current").inner_text() == "then"
    page.keyboard.press("d")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    assert "Nothing is left" in page.locator(".decision").inner_text()
    with page.expect_download() as download:
        page.click("#download")
    file = tmp_path / "corrections.jsonl"
    download.value.save_as(file)
    (read,) = read_annotations(file, EVERY_KIND)
    assert read.answers.labels["city"].value == "city 27"
    assert read.answers.labels["parts"].value == ("key", "lid")
    assert [s.text for s in read.answers.spans["sum"]] == ["$1,299"]
    assert "uniform" not in json.loads(file.read_text("utf-8"))  # a row is none of the held-out texts


def test_what_is_filtered_is_accepted_at_once(report, tmp_path):
    report.fill("#search", "Terrible")
    report.click("text=Accept what is filtered")
    report.click("text=Accept all 20 as they are")
    with report.expect_download() as download:
        report.click("#tab-correct")
        report.click("#download")
    download.value.save_as(tmp_path / "c.jsonl")
    read = read_annotations(tmp_path / "c.jsonl", laptops.PLAN)
    assert len(read) == 20
    assert not any(one.answers.labels["positive"].value for one in read)


def test_disagreements_stand_side_by_side(report):
    report.click("#tab-differences")
    cards = report.locator("#panel-differences article")
    assert cards.count() == 4  # 2, 3, 7 and 11 of fifteen
    first = cards.nth(0)
    assert first.locator(".sides > div").count() == 2
    assert first.locator(".differs").all_inner_texts() == ["positive: true", "positive: false"]
    first.locator("text=Decide").click()
    assert report.locator(".decision .text").inner_text() == laptops.review(1002)


def test_quotes_without_a_place_say_why(open_page, tmp_path):
    quotes = ["$1", "I LOVE", "a bargain", " "]
    add_unplaced(tmp_path, [UnplacedQuote.of(laptops.review(1), "price", quote) for quote in quotes])
    page = open_page(summary_of([row(1)]), [row(1)], Evidence.of(tmp_path))
    page.click("#tab-unplaced")
    cards = page.locator("#panel-unplaced article")
    assert cards.locator("q").all_inner_texts()[:3] == quotes[:3]
    reasons = ["as a part of a number", "in other letters", "does not have it", "is empty"]
    for shown, reason in zip(cards.locator(".id").all_inner_texts(), reasons, strict=True):
        assert reason in shown


def test_hostile_rows_stay_texts(open_page):
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\"'{{7*7}}"
    bad = {**row(1, f"love {hostile} $5"), "id": hostile, "metadata": {hostile: hostile, "source": hostile}}
    failed = {"id": hostile, "error": f"no text: {hostile}", "text": ""}
    page = open_page(summary_of([bad, row(2)]), [bad, row(2), failed])
    assert page.locator("section .bad", has_text="no text").inner_text() == failed["error"]
    assert page.locator("#panel-rows article .id a").all_inner_texts()[0] == hostile
    assert page.locator("#panel-rows .text").nth(0).inner_text() == bad["text"]
    assert page.locator("img").count() == 0


def test_a_quarter_of_a_million_rows_open_as_a_sample(open_page, tmp_path):
    few = [row(i) for i in range(1_000)]
    rows = ({**few[i % 1_000], "id": f"r{i}"} for i in range(240_000))
    summary = summary_of(few)
    summary = summary.model_copy(update={"rows": summary.rows.model_copy(update={"total": 240_000})})
    page = open_page(summary, rows)
    assert "in this file, a sample of 240,000" in counted(page)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_nothing_is_clipped(open_page, tmp_path, scheme):
    import axe_core_python

    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text("utf-8")
    rows = [row(i) for i in range(N)]
    evidence = held_out(tmp_path)
    for width in (400, 1400):
        view = {"width": width, "height": 900}
        page = open_page(summary_of(rows), rows, evidence, viewport=view, color_scheme=scheme, bypass_csp=True)
        for tab in ("rows", "differences", "correct"):
            page.click(f"#tab-{tab}")
            if tab == "correct":
                page.select_option("#source", "heldOut")
                page.keyboard.press("y")
            assert clipped(page) == []
            if width == 1400:
                page.evaluate(axe)
                found = page.evaluate("tab => axe.run(tab === 'rows' ? document : '#app')", tab)["violations"]
                assert [v["id"] for v in found if v["impact"] in {"serious", "critical"}] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_in_a_few_pages(report):
    pages = re.findall(rb"/Type\s*/Page[^s]", report.pdf(format="A4"))
    assert 1 < len(pages) < 8


def clipped(page) -> list[str]:
    """Elements that reach over the window, and are not in a box that scrolls."""
    return page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll') && e.getClientRects().length"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 100))"
    )


def test_without_its_script_the_page_shows_rows_and_figures(open_page):
    rows = [row(i) for i in range(N)]
    page = open_page(summary_of(rows), rows, java_script_enabled=False)
    assert page.locator("#printed article").count() == 40
    assert not page.locator("#app").is_visible()
    assert page.locator(".plan .node").count() == 3
