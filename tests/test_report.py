from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from langchain_falconer.errors import RunError
from langchain_falconer.evaluate import Certificate, evaluate_plan
from langchain_falconer.execute import Guarantee, RowCounts
from langchain_falconer.plan import Plan
from langchain_falconer.records import Answers, Label, Span
from langchain_falconer.report import (
    AnnotationSummary,
    CorpusSummary,
    Cost,
    Pace,
    RunSummary,
    notebook_html,
    print_summary,
    render_html,
)
from langchain_falconer.settings import Targets

HOSTILE = (
    '<script>alert("x")</script>\x1b[31m\u202e <img src=https://evil.example/x.png onerror=alert(1)> {{ 7 * 7 }} [bold]'
)

PLAN = Plan.parse(
    {
        "instruction": "Extract all laptop prices, and what people think of each part, from positive reviews",
        "steps": [
            {"id": "positive", "op": "get_label", "instruction": "Is this a positive review of a laptop?"},
            {
                "id": "topic",
                "op": "get_label",
                "instruction": "What is it about?",
                "labels": ["hardware", "service", "price"],
            },
            {
                "id": "price",
                "op": "get_span",
                "instruction": "Extract the laptop's price, with its currency sign, exactly as the review writes it",
                "where": {
                    "all": [{"step": "positive", "equals": True}, {"step": "topic", "in": ["hardware", "price"]}]
                },
            },
            {
                "id": "part",
                "op": "get_span",
                "instruction": "Extract the parts that are judged",
                "where": {"step": "positive", "equals": True},
            },
            {
                "id": "mood",
                "op": "get_label",
                "instruction": "The sentiment towards {span}",
                "labels": ["good", "bad"],
                "of": "part",
            },
        ],
    }
)

GUARANTEE = Guarantee(
    targets=Targets(agreement=0.95, recall=0.9),
    certificates={
        "agreement": Certificate(
            target=0.95, confidence=0.975, certified=True, threshold=0.8714, n=290, failures=31, lower_bound=0.853
        ),
        "recall": Certificate(
            target=0.9, confidence=0.975, certified=False, threshold=None, n=20, failures=1, lower_bound=0.75
        ),
    },
    texts=100_000,
    drawn=290,
    unanswered=0,
    below_threshold=12_400,
    escalated=10_000,
    uncertain=2_400,
)

TEXT = "Love it: $999 for this, and the screen of the 14-inch model is a joy, though the fan is loud."


def answers(seed: int, wrong: float = 0.0) -> Answers:
    rng = np.random.default_rng(seed)

    def slips() -> bool:
        return bool(rng.random() < wrong)

    parts = (
        Span(28 + 4, 38, TEXT[32:38], 0.93, {"mood": Label("bad" if slips() else "good", 0.9)}),
        Span(81, 84, TEXT[81:84], 0.81, {"mood": Label("good" if slips() else "bad", 0.7)}),
    )
    return Answers(
        {"positive": Label(not slips(), 0.97), "topic": Label("service" if slips() else "hardware", 0.8)},
        {"price": () if slips() else (Span.at(TEXT, 9, 13, 0.91),), "part": parts[: 1 if slips() else 2]},
    )


@cache
def summary() -> RunSummary:
    rng = np.random.default_rng(1)
    gold, proxy = [answers(i) for i in range(150)], [answers(i, 0.06) for i in range(150)]
    data = {
        "run_id": "2025-11-22-laptops-7f3a",
        "instruction": PLAN.instruction,
        "plan": PLAN.to_dict(),
        "corpus": {"sources": ["reviews.jsonl"], "documents": 100_000, "bad_rows": 3},
        "annotations": {
            "source": "openai:gpt-4.1-mini",
            "train": 450,
            "development": 75,
            "test": 75,
            "failed": 2,
            "rejected_quotes": 7,
            "rounds": 2,
        },
        "quality": evaluate_plan(PLAN, gold, proxy),
        "guarantee": GUARANTEE,
        "cost": {
            "calls": 120,
            "input_tokens": 210_400,
            "output_tokens": 31_200,
            "usd": 0.1343,
            "tokens_for_every_text": 40_300_000,
        },
        "pace": {"texts_per_second": 1184.2, "seconds": 84.4, "llm_seconds_per_text": 1.31, "ratio": 1551.3},
        "rows": {
            "total": 100_000,
            "matched": 18_234,
            "failed": 2,
            "labels": {
                "positive": {"true": 61_020, "false": 38_980},
                "topic": {"hardware": 55_100, "service": 23_800, "price": 21_100},
            },
            "spans": {
                "price": {
                    "texts": 18_234,
                    "spans": 20_110,
                    "top": [["$999", 1204], ["$1,299", 980], ["$499", 611], ["€1.099", 404], ["$899", 390]],
                },
                "part": {
                    "texts": 40_200,
                    "spans": 77_002,
                    "top": [["screen", 9021], ["battery", 8400], ["keyboard", 7222], [HOSTILE, 3], ["fan", 2]],
                },
            },
            "scores": {
                "positive": [
                    900,
                    300,
                    100,
                    80,
                    60,
                    50,
                    40,
                    40,
                    50,
                    60,
                    70,
                    90,
                    120,
                    160,
                    220,
                    300,
                    450,
                    700,
                    1200,
                    3000,
                ],
                "price": [0] * 10 + [5, 9, 20, 50, 90, 150, 300, 500, 800, 900],
            },
        },
        "training": {
            "loss": [2.1 * 0.985**i + 0.1 + float(rng.normal(0, 0.05)) for i in range(700)],
            "seconds": 71.2,
        },
        "backend": {
            "name": "onnxruntime int8",
            "agreement": 0.996,
            "candidates": [
                {"name": "torch float32", "texts_per_second": 402.0, "agreement": 1.0, "refused": None},
                {"name": "onnxruntime float32", "texts_per_second": 790.0, "agreement": 1.0, "refused": None},
                {"name": "onnxruntime int8", "texts_per_second": 1184.2, "agreement": 0.996, "refused": None},
                {
                    "name": "openvino int8",
                    "texts_per_second": 1301.0,
                    "agreement": 0.982,
                    "refused": "agrees with float32 on 98.2% of decisions, below 99%",
                },
            ],
        },
        "seconds": {"plan": 2.1, "sample": 3.3, "annotate": 196.0, "train": 71.2, "evaluate": 4.0, "execute": 84.4},
        "output": "out/laptops.jsonl",
        "proxy": "~/.falconer/proxies/7f3a",
        "messages": ["2 texts were not annotated: the LLM gave no valid JSON twice.", HOSTILE],
    }
    return RunSummary.model_validate(data)


@cache
def bare() -> RunSummary:
    """A summary of the least: no quality, no guarantee, no training."""
    return RunSummary(
        run_id="r",
        instruction=PLAN.instruction,
        plan=PLAN,
        corpus=CorpusSummary(sources=("c.jsonl",), documents=0),
        annotations=AnnotationSummary(),
        cost=Cost(),
        pace=Pace(),
        rows=RowCounts(total=0, matched=0, failed=0),
        output="rows.jsonl",
    )


def changed(**parts: Any) -> RunSummary:
    return bare().model_copy(update=parts)


def rows() -> list[dict[str, Any]]:
    row = {
        "id": "review-1",
        "text": TEXT,
        **{"labels": {k: v.to_dict() for k, v in answers(0).labels.items()}},
        "spans": {k: [s.to_dict() for s in v] for k, v in answers(0).spans.items()},
        "match": True,
        "decided_by": {"positive": "proxy", "topic": "proxy", "price": "llm", "part": "proxy"},
    }
    nested = {
        **row,
        "id": "review-2",
        "spans": {
            "price": [{"start": 9, "end": 22, "text": TEXT[9:22], "score": 0.5}],
            "part": [
                {"start": 18, "end": 38, "text": TEXT[18:38], "score": 0.6},
                {"start": 46, "end": 59, "text": TEXT[46:59], "score": 0.8},
            ],
            "number": [{"start": 46, "end": 48, "text": "14", "score": 0.7}],
        },
    }
    hostile = {
        "id": HOSTILE,
        "text": HOSTILE,
        "labels": {"positive": {"value": False, "score": 0.88}},
        "spans": {},
        "match": False,
        "decided_by": {"positive": "proxy"},
    }
    long = {**row, "id": "review-4", "text": TEXT + " And so on." * 300, "match": False, "uncertain": True}
    failed = {"id": "review-5", "error": "the text is empty", "text": ""}
    return [hostile, failed, long, row, nested]


# --- reading a page as a browser would


class Page(HTMLParser):
    """A page's tags, its text, and the texts of its rows with the steps that mark each character."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[tuple[str, frozenset[str]]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(self.tags[-1])
        if tag == "div" and dict(attrs).get("class") == "text":
            self.rows.append([])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, "tags must nest"

    def handle_data(self, data):
        if not any(tag in {"style", "script"} for tag, _ in self.open):
            self.text += data
        if any(attrs.get("class") == "text" for tag, attrs in self.open if tag == "div"):
            marks = frozenset((attrs["title"] or "").split()[0] for tag, attrs in self.open if tag == "mark")
            self.rows[-1] += [(c, marks) for c in data]


def page(tmp_path, summary_=None, rows_=(), **options) -> Page:
    out = tmp_path / "report.html"
    render_html(summary_ or bare(), rows_, out, **options)
    return Page(out.read_text("utf-8"))


def printed(summary_, width=120) -> str:
    out = io.StringIO()
    print_summary(summary_, Console(file=out, width=width, force_terminal=True, color_system="truecolor"))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


# --- the HTML


def test_a_full_report_shows_every_part(tmp_path):
    shown = page(tmp_path, summary(), rows())
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", (tmp_path / "report.html").read_text("utf-8"))
    assert ", ".join(headings) == (
        "Messages, Plan, Results, Rows, Quality, Guarantee, Confidence, Cost and time, Files"
    )
    for expected in (
        "18,234 of 100,000", "95% interval", "0.60% of the 40.3M", "1,551x the LLM",
        "20,110 spans in 18,234 texts", "positive by class", "refused: agrees with float32 on 98.2%",
        "3 min 16 s", "$0.13",
        "agreement 95.0%", "0.8714", "at least 85.3%", "10,000 (10.0% of all), and 2,400 (2.4%) are marked uncertain",
        "their error budgets add up to 5.0%", "recall of 0.9 is not certified: 20 of the 290 texts", "uncertain",
        "the text is empty", "screen → mood: good", "out/laptops.jsonl", "7, not found verbatim",
    ):  # fmt: skip
        assert expected in shown.text
    drawn = [attrs.get("aria-label") for tag, attrs in shown.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(drawn) == 6 + 2 + 1 + 5  # intervals, scores, loss, calibration
    assert all(drawn)


def test_a_report_needs_nothing_from_outside_and_runs_its_own_script_alone(tmp_path):
    shown = page(tmp_path, summary(), rows())
    assert not {"img", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in shown.tags}
    for _, attrs in shown.tags:
        assert not any(name.startswith("on") or name in {"src", "style"} for name in attrs)
        assert (attrs.get("href") or "#").startswith("#")
    policy = next(a["content"] for t, a in shown.tags if a.get("http-equiv") == "Content-Security-Policy")
    html = (tmp_path / "report.html").read_text("utf-8")
    css, script = re.search(r"<style>(.*)</style>.*<script>(.*)</script>", html, re.DOTALL).groups()
    assert "url(" not in css
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(", script)
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (css, script)]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; base-uri 'none'; "
        "form-action 'none'"
    )


def embedded(path) -> dict[str, Any]:
    """The data that the script of a page works on."""
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[1])


def test_a_large_result_is_sampled_uniformly_and_by_interest(tmp_path):
    def many():
        for i in range(40_000):
            labels = {"positive": {"value": i != 39_123, "score": 0.99 - 0.9 * (i == 17_000)}}
            yield {"id": f"r{i}", "text": f"{i} " + "x" * 1_500, "labels": labels, "spans": {}, "match": i % 2 == 0}

    out = tmp_path / "report.html"
    render_html(summary(), many(), out)
    assert out.stat().st_size < 5_000_000
    data = embedded(out)
    held = {row["id"] for row in data["rows"]}
    assert {"r17000", "r39123"} <= held  # the least certain row, and the only one of its label
    uniform = [int(row["id"][1:]) for row in data["rows"][: data["uniform"]]]
    assert len(uniform) > 500
    assert abs(np.mean(uniform) / 40_000 - 0.5) < 0.06
    assert np.mean(uniform[:100]) != pytest.approx(np.mean(sorted(uniform)[:100]), rel=0.5)  # in random order
    render_html(summary(), many(), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()


def test_the_page_holds_texts_as_they_are(tmp_path):
    text = "a\ud800b </script><!-- \u2028 \r\n 🙂"
    render_html(bare(), [{"id": "1", "text": text, "labels": {}, "spans": {}, "match": True}], tmp_path / "r.html")
    assert embedded(tmp_path / "r.html")["rows"][0]["text"] == text


def test_a_report_names_no_folder_of_the_home(tmp_path):
    home = tmp_path / "home"
    run = home / "runs" / "r"
    shared = changed(
        output=str(tmp_path / "out.jsonl"),
        proxy=str(home / "proxies" / "p"),
        report=str(run / "report.html"),
        corpus=CorpusSummary(sources=(str(tmp_path / "in.csv"),), documents=1),
        messages=(f"see {run / 'review.jsonl'}",),
    )
    out = tmp_path / "report.html"
    render_html(shared, rows(), out)
    assert str(tmp_path) not in out.read_text("utf-8")
    assert "HOME/runs/r/review.jsonl" in out.read_text("utf-8")


def test_hostile_text_shows_as_text(tmp_path):
    shown = page(tmp_path, changed(instruction=HOSTILE, messages=(HOSTILE,), output=HOSTILE), rows())
    assert shown.text.count('<script>alert("x")</script>') >= 5
    assert "{{ 7 * 7 }}" in shown.text
    assert HOSTILE in ["".join(c for c, _ in row) for row in shown.rows]


def test_a_hostile_plan_shows_as_text(tmp_path):
    step = {"id": "a", "op": "get_span", "instruction": "</text><script>x</script>"}
    shown = page(tmp_path, changed(plan=Plan.parse({"instruction": "</pre><script>", "steps": [step]})))
    assert [tag for tag, _ in shown.tags].count("script") == 2  # the page's own
    assert 'a = get_span(text, "</text><script>x</script>")' in shown.text


def test_overlapping_and_nested_spans_mark_exactly_their_characters(tmp_path):
    shown = page(tmp_path, summary(), [rows()[-1]])
    marked = {step: "".join(c for c, m in shown.rows[0] if step in m) for step in ("price", "part", "number")}
    assert marked == {"price": TEXT[9:22], "part": TEXT[18:38] + TEXT[46:59], "number": "14"}
    assert "".join(c for c, _ in shown.rows[0]) == TEXT


@settings(deadline=None, max_examples=40)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=60), data=st.data())
def test_any_spans_mark_exactly_their_characters(tmp_path_factory, text, data):
    offsets = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).filter(lambda o: o[0] < o[1])
    steps = data.draw(st.dictionaries(st.sampled_from("abc"), st.lists(offsets, max_size=4))) if text else {}
    spans = {
        step: [{"start": s, "end": e, "text": text[s:e], "score": 0.5} for s, e in offsets]
        for step, offsets in steps.items()
    }
    shown = page(
        tmp_path_factory.mktemp("any"), None, [{"id": "1", "text": text, "labels": {}, "spans": spans, "match": True}]
    )
    assert "".join(c for c, _ in shown.rows[0]) == text
    for i, (_, marks) in enumerate(shown.rows[0]):
        assert marks == {step for step, offsets in steps.items() if any(s <= i < e for s, e in offsets)}


def test_matches_come_first_and_rows_are_bounded(tmp_path):
    many = [{"id": f"row{i}", "text": "t", "labels": {}, "spans": {}, "match": i % 2 == 1} for i in range(100)]
    shown = page(tmp_path, None, many, max_rows=20)
    assert "Matches (15 shown)" in shown.text
    assert "No match (5 shown)" in shown.text
    assert shown.text.index("row29") < shown.text.index("row0")
    assert "No match (20 shown)" in page(tmp_path, None, [r for r in many if not r["match"]], max_rows=20).text


def test_long_text_between_spans_is_left_out_and_counted(tmp_path):
    row = {**rows()[-2], "text": TEXT + "x" * 50_000}
    shown = page(tmp_path, None, [row])
    assert re.search(r"… 19,\d\d\d characters …", shown.text)
    assert re.search(r"… 30,\d\d\d characters …", shown.text)  # of a text of more than 20,000 the page holds no more
    assert len(shown.text) < 3_000


def test_a_notebook_shows_a_result_in_brief_without_a_script():
    html = notebook_html(summary(), rows())
    shown = Page(html)
    assert {tag for tag, _ in shown.tags} <= {"div", "p", "b", "table", "tr", "th", "td", "bdi", "blockquote", "i", "u"}
    assert not any(name.startswith("on") or name in {"src", "href"} for _, attrs in shown.tags for name in attrs)
    for expected in ("18,234 of 100,000", "$999", "positive", TEXT, '<script>alert("x")</script>'):
        assert expected in shown.text
    assert len(notebook_html(bare(), [])) < 2_000


def test_a_summary_of_the_least_has_a_report_too(tmp_path):
    assert "Falconer report" in page(tmp_path, bare(), rows()).text
    assert "0 of 0" in printed(bare())


def test_a_summary_survives_json():
    assert RunSummary.model_validate_json(summary().model_dump_json()) == summary()
    assert hash(summary().cost) == hash(summary().cost)


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path):
    assert "a?b" in page(tmp_path, changed(messages=("a\ud800b",))).text


def test_a_span_outside_its_text_is_one_sentence(tmp_path):
    row = {"id": "r7", "text": "abc", "spans": {"p": [{"start": 2, "end": 9, "text": "c"}]}, "match": True}
    with pytest.raises(RunError, match=r"row 'r7' has a span of 'p' at \[2, 9\]"):
        page(tmp_path, None, [row])


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match="No such file or directory"):
        render_html(bare(), [], tmp_path / "no" / "report.html")


def test_a_failed_report_leaves_the_old_one(tmp_path):
    page(tmp_path, changed(run_id="first"))
    row = {"id": "r7", "text": "abc", "spans": {"p": [{"start": 2, "end": 9, "text": "c"}]}, "match": True}
    with pytest.raises(RunError):
        page(tmp_path, changed(run_id="second"), [row])
    assert "first" in (tmp_path / "report.html").read_text("utf-8")


# --- the terminal


def test_the_terminal_shows_the_main_results():
    output = printed(summary().model_copy(update={"report": "out/report.html"}))
    for part in (
        "18,234 of 100,000", "95% interval 9", "0.60% of the 40.3M to ask about every text", "1,184 texts/s", "$1,299",
        "20,110 spans in 18,234 texts", "accuracy 96.7%", "out/laptops.jsonl", "out/report.html",
        "proxies/7f3a", "2 texts were not", "not certified: recall 90.0%", "10.0% sent to the LLM",
    ):  # fmt: skip
        assert part in output


def test_the_terminal_obeys_no_text():
    output = printed(changed(instruction=HOSTILE, messages=(HOSTILE,), output=HOSTILE), width=300)
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "[bold]" in output


@pytest.mark.parametrize("width", [40, 80])
def test_the_terminal_fits_narrow_windows(width):
    assert max(map(len, printed(summary(), width).splitlines())) <= width


def test_the_package_is_light():
    heavy = "{'torch', 'jinja2', 'rich', 'pandas', 'pyarrow'}"
    code = f"import sys, langchain_falconer.report; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
