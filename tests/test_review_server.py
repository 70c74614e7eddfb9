"""The page in which a person corrects a run: who may talk to its server, and what becomes of corrections."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import laptops
import pytest
from conftest import TRAIN
from laptops import INSTRUCTION, PLAN, annotation_row, reviews, write_corpus, write_lines

from langchain_falconer import Falconer
from langchain_falconer.annotate import CORRECTIONS, UNIFORM_CORRECTIONS, AnnotationStore, stored_annotations
from langchain_falconer.cli.review import review_server
from langchain_falconer.execute import read_rows
from langchain_falconer.settings import MineSettings

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def run(tiny_bert, tmp_path_factory):
    """The folder of a run on a person's annotations, two of which are wrong."""
    folder = tmp_path_factory.mktemp("run")
    write_corpus(folder / "corpus.jsonl", reviews(80))
    rows = [annotation_row(text) for text in reviews(40)]
    for i in (3, 7):
        rows[i] = {"text": rows[i]["text"], "labels": {"positive": not rows[i]["labels"]["positive"]}}
    write_lines(folder / "labels.jsonl", rows)
    settings = MineSettings.model_validate(
        {
            "base": tiny_bert,
            "train": TRAIN.model_copy(update={"epochs": 8}),
            "unlabelled": 0,
            "run": {"backend": "onnx", "shard_texts": 40},
        }
    )
    falconer = Falconer(annotations=folder / "labels.jsonl", home=folder / "home", settings=settings)
    falconer.mine(INSTRUCTION, folder / "corpus.jsonl", folder / "out.jsonl", plan=PLAN)
    return folder


@contextmanager
def serving(run: Path):
    server = review_server(None, run / "home")
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def request(server, method, path, body=None, **headers):
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    known = {"origin": f"http://{parts.netloc}", "content-type": "application/json"} if method == "POST" else {}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**known, **names}.items() if value is not None}
    data = json.dumps(body) if body is not None else None
    connection.request(method, path if path.startswith("/") else parts.path + path, data, sent)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response.headers


def corrections(run: Path, texts: list[str]) -> dict[str, dict[str, object]]:
    found = {}
    with AnnotationStore(run / "home" / "annotations.sqlite") as store:
        for source in (UNIFORM_CORRECTIONS, CORRECTIONS):
            for one in stored_annotations(store, PLAN, texts, source, corrected=False):
                found[one.text] = {step: label.value for step, label in one.answers.labels.items()}
    return found


def test_no_other_page_or_name_reaches_the_server(run):
    text = reviews(80)[50]
    row = {"text": text, "labels": {"positive": False}}
    sent = {"rows": [row], "removed": []}
    with serving(run) as server:
        assert server.url.startswith("http://127.0.0.1:")
        status, page, headers = request(server, "GET", "")
        assert (status, headers["referrer-policy"]) == (200, "no-referrer")
        assert b"connect-src 'self'" in page
        assert request(server, "GET", "/")[0] == 404
        assert request(server, "GET", f"/{'x' * 43}/")[0] == 404
        assert request(server, "GET", "", host="falconer.example")[0] == 403
        for headers in (
            {"origin": None},
            {"origin": "null"},
            {"origin": "https://evil.example"},
            {"host": "evil.example"},
        ):
            assert request(server, "POST", "corrections", sent, **headers)[0] == 403
        assert request(server, "POST", "corrections", sent, content_type="text/plain")[0] == 400
        assert request(server, "POST", "/corrections", sent)[0] == 404
        assert corrections(run, [text]) == {}
        assert json.loads(request(server, "POST", "corrections", sent)[1]) == {"texts": 1}
        assert corrections(run, [text]) == {text: {"positive": False}}


def test_corrections_are_checked_replaced_and_taken_back(run):
    one, other = reviews(80)[60:62]
    rows = [{"text": text, "labels": {"positive": True}, "spans": {"price": None}} for text in (one, other)]
    with serving(run) as server:
        before = len(request(server, "GET", "")[1])
        assert request(server, "POST", "corrections", {"rows": rows, "removed": []})[0] == 200
        assert before < len(request(server, "GET", "")[1])
        for bad in (
            {"rows": [{"text": one, "labels": {"nosuch": True}}], "removed": []},
            {"rows": [{"text": one, "spans": {"price": [[0, 9_999]]}}], "removed": []},
            {"rows": [{"labels": {}}], "removed": []},
            {"rows": 7, "removed": []},
            {"removed": [one]},
        ):
            status, content, _ = request(server, "POST", "corrections", bad)
            assert status == 400
            assert json.loads(content)["error"]
        assert corrections(run, [one, other]) == {one: {"positive": True}, other: {"positive": True}}
        changed = {"rows": [{"text": one, "labels": {"positive": False}}], "removed": [other]}
        assert request(server, "POST", "corrections", changed)[0] == 200
    assert corrections(run, [one, other]) == {one: {"positive": False}}
    with serving(run) as server:  # it goes on from what was saved
        assert json.dumps(one).encode() in request(server, "GET", "")[1]
        assert request(server, "POST", "corrections", {"rows": [], "removed": [one]})[0] == 200
    assert corrections(run, [one]) == {}


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
def test_a_person_corrects_sees_accuracy_grow_and_trains_again(run):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    before = list(read_rows(run / "out.jsonl"))
    with serving(run) as server, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.url)
        page.select_option("#source", "heldOut")
        answered = set()
        while (decision := page.locator(".decision")).locator("h3").count() and len(answered) < 6:
            text = decision.locator(".text").inner_text()
            answered.add(text)
            is_label = "positive" in decision.locator("h3").inner_text()
            page.keyboard.press("y" if laptops.is_positive(text) or not is_label else "n")
        page.select_option("#source", "doubt")  # a row that nobody annotated teaches too
        status = page.locator("#app > [role=status]")
        status.filter(has_text="in the annotation store").wait_for()
        page.click("#tab-rows")
        page.fill("#search", "laptop 66:")
        page.click("#panel-rows article >> text=Correct")
        page.keyboard.press("n")
        assert page.locator(".accuracy tbody tr").count() >= 2
        page.keyboard.press("r")
        status.filter(has_text="rows were written again").wait_for(timeout=120_000)
        page.click("text=Show the new result")
        page.wait_for_selector(".decision")
        browser.close()
    assert not faults
    rows = {row["text"]: row for row in read_rows(run / "out.jsonl")}
    assert rows[reviews(80)[66]]["decided_by"]["positive"] == "human"
    assert rows[reviews(80)[66]]["labels"]["positive"]["value"] is False
    assert [row["id"] for row in before] == [row["id"] for row in rows.values()]
    assert answered <= corrections(run, reviews(80)).keys()
