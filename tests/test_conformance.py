"""Servers that speak OpenAI's protocol as they do: for each quirk, what can be answered is answered, once."""

import json
import random
import threading
from collections import Counter

import pytest
from langchain_openai import ChatOpenAI
from laptops import asked
from loopback import DROPPED, ChatServer, llm_at

from langchain_falconer.annotate import AnnotationStore, Annotator, Budget
from langchain_falconer.errors import LLMError
from langchain_falconer.llm import LLM, on_wait
from langchain_falconer.plan import Plan
from langchain_falconer.settings import AnnotateSettings, BudgetSettings, LLMSettings

YES_NO = {"id": "positive", "op": "get_label", "instruction": "Is it positive?"}
CHOICE = {**YES_NO, "instruction": "Which mood?", "labels": ["angry", "calm", "very calm"]}
MULTI = {**CHOICE, "multi_label": True}
SPANS = {"id": "price", "op": "get_span", "instruction": "Extract the price"}
TEXTS = [f"{'good' if i % 3 else 'bad'} text {i}: ${i}" for i in range(12)]


def plan_of(step):
    return Plan.parse({"instruction": "x", "steps": [step]})


def truth(text):
    return text.startswith("good")


def teacher(request):
    return json.dumps({key: truth(text) for key, text in asked(request).items()})


def way(request):
    return "json_schema" if "response_format" in request else "function_calling" if "tools" in request else "text"


def refusal(status, message, headers=None, **error):
    return status, {"error": {"message": message, "code": None, "type": "x", "param": None, **error}}, headers or {}


@pytest.fixture
def store(tmp_path):
    with AnnotationStore(tmp_path / "store.sqlite") as store:
        yield store


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the client would have slept."""
    waits = []
    monkeypatch.setattr("langchain_falconer.llm.waiting.time.sleep", waits.append)
    return waits


def annotate(server, store, texts=TEXTS, step=YES_NO, texts_per_call=4, caps=None, llm=None, run="run"):
    llm = llm or llm_at(server, max_retries=5)
    budget = Budget(store, run, BudgetSettings(**(caps or {})), priced=llm.price() is not None)
    return Annotator(llm, store, plan_of(step), budget, AnnotateSettings(texts_per_call=texts_per_call)).annotate(texts)


def labels(report, step="positive"):
    return {a.text: a.answers.labels[step].value for a in report.annotations if step in a.answers.labels}


def all_right(report, texts=TEXTS):
    assert labels(report) == {text: truth(text) for text in texts}
    assert (report.failed, report.error) == (0, None)


# ---- what a provider refuses belongs to the text


FILTERS = [
    refusal(400, "The prompt triggered our content management policy", code="content_filter"),
    refusal(400, "Content Exists Risk", code="invalid_request_error"),
    refusal(400, "Invalid prompt: flagged as potentially violating our usage policy", code="invalid_prompt"),
    refusal(400, "Input data may contain inappropriate content", code="data_inspection_failed"),
    refusal(403, "openai/gpt-x requires moderation. Your input was flagged for \"violence\""),
    refusal(422, "no"),
    {"content": "", "finish_reason": "content_filter"},
    {"content": None, "refusal": "I cannot help with that."},
]  # fmt: skip


@pytest.mark.parametrize("filtered", FILTERS, ids=range(len(FILTERS)))
@pytest.mark.parametrize("share", [0.05, 0.15, 0.25])
def test_refused_texts_fail_alone_and_are_asked_again_next_time(filtered, share, store):
    texts = [f"{'good' if i % 3 else 'bad'} text {i}." for i in range(40)]
    refused = set(random.Random(1).sample(texts, round(share * len(texts))))
    seen = Counter()

    def strict(request):
        if refused & set(asked(request).values()):
            return filtered
        seen.update(asked(request).values())
        return teacher(request)

    with ChatServer(strict) as server:
        report = annotate(server, store, texts)
        assert labels(report) == {text: truth(text) for text in texts if text not in refused}
        assert (report.failed, report.error) == (len(refused), None)
        assert sum(n for _, n in report.reasons) == len(refused)
        assert set(seen.values()) == {1}
        server.reply = teacher
        server.requests.clear()
        all_right(annotate(server, store, texts), texts)
    assert {text for r in server.requests for text in asked(r.json).values()} == refused


def test_300_texts_of_which_a_filter_refuses_15_percent(store):
    texts = [f"{'good' if i % 3 else 'bad'} text {i}." for i in range(300)]
    refused = set(random.Random(0).sample(texts, 45))

    def strict(request):
        return FILTERS[0] if refused & set(asked(request).values()) else teacher(request)

    with ChatServer(strict) as server:
        report = annotate(server, store, texts)
    assert labels(report) == {text: truth(text) for text in texts if text not in refused}
    assert report.error is None
    ((reason, count),) = report.reasons
    assert count == 45
    assert "content management policy" in reason


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, you requested 900 tokens",
        "the request exceeds the available context size, try increasing it",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512",
        "prompt is too long: 900 tokens > 512 maximum",
    ],
)
def test_a_call_that_is_too_long_is_halved(message, store):
    """Two texts fit, the last text never does."""

    def small(request):
        texts = asked(request).values()
        too_long = len(texts) > 2 or TEXTS[-1] in texts
        return refusal(400, message) if too_long else teacher(request)

    with ChatServer(small) as server:
        report = annotate(server, store)
    assert labels(report) == {text: truth(text) for text in TEXTS[:-1]}
    assert (report.failed, report.error) == (1, None)
    assert server.calls == 2 + 2 + 2 + 2 * 3 - 1 + 0 or server.calls <= 16


# ---- output modes


def broken_schema(answer):
    return lambda request: answer if way(request) == "json_schema" else teacher(request)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(500, "guided decoding failed"),
        refusal(502, "bad gateway"),
        refusal(400, "response_format is not supported"),
        refusal(422, "extra fields"),
        refusal(404, "No endpoints found that support response_format"),
        refusal(501, "not implemented"),
        (200, {"choices": None}, {}),
        (200, {"choices": []}, {}),
        (200, {"error": {"message": "grammar error", "code": 500}}, {}),
        (200, '{"choices": [', {}),
        "",
        "{}",
        "Sure, I can do that for you!",
        {"content": " " * 50, "finish_reason": "length"},
        DROPPED,
    ],
    ids=str,
)
@pytest.mark.parametrize("max_retries", [0, 5])
def test_a_mode_is_remembered_only_after_it_gave_an_object_that_fits(answer, max_retries, store, waits):
    with ChatServer(broken_schema(answer)) as server:
        all_right(annotate(server, store, llm=llm_at(server, max_retries=max_retries)))
    ways = [r.way for r in server.requests]
    assert set(ways[ways.index("function_calling") :]) == {"function_calling"}
    assert ways.count("function_calling") == 3


def test_a_mode_that_hangs(store):
    release = threading.Event()

    def hanging(request):
        if way(request) == "json_schema":
            release.wait(20)
        return teacher(request)

    with ChatServer(hanging) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key="k", model="m", max_retries=0, timeout=0.3)
        all_right(annotate(server, store, llm=LLM(model)))
        release.set()
    assert [r.way for r in server.requests].count("json_schema") == 1


@pytest.mark.parametrize("answer", [refusal(400, "no"), refusal(500, "no"), "{}", ""], ids=str)
def test_a_mode_that_stops_to_work_is_negotiated_anew(answer, store, waits):
    def changing(request):
        return answer if server.calls > 3 and way(request) == "json_schema" else teacher(request)

    texts = [f"good text {i}." for i in range(30)]
    with ChatServer(changing) as server:
        llm = llm_at(server, max_concurrency=1)
        report = annotate(server, store, texts, texts_per_call=1, llm=llm)
        assert report.error is None
        assert len(labels(report)) >= 28  # one or two calls may have been lost before it was noticed
        all_right(annotate(server, store, texts, texts_per_call=1, llm=llm), texts)


# ---- where a server puts the answer, and how it is written


def wrapped(wrap, keeps_tools=False):
    def reply(request):
        answer = teacher(request)
        made = wrap(answer)
        return {"message": made} if isinstance(made, dict) else {"message": {"content": made}}

    return reply


NOTATIONS = {
    "reasoning_content": lambda a: {"content": "", "reasoning_content": f"Let me see. {a}"},
    "reasoning": lambda a: {"content": None, "reasoning": a},
    "tool call as text": lambda a: f'<tool_call>\n{{"name": "Answers", "arguments": {a}}}\n</tool_call>',
    "tool call with a string": lambda a: f'<tool_call>{json.dumps({"name": "Answers", "arguments": a})}</tool_call>',
    "parameters": lambda a: f'<|python_tag|>{{"name": "Answers", "parameters": {a}}}',
    "list of calls": lambda a: f'[TOOL_CALLS] [{{"name": "Answers", "arguments": {a}}}]',
    "function tag": lambda a: f"<function=Answers>{a}</function>",
    "xml": lambda a: "<tool_call><function=Answers>" + "".join(
        f"<parameter={k}>\n{json.dumps(v)}\n</parameter>" for k, v in json.loads(a).items()) + "</function></tool_call>",  # noqa: E501
    "closing mark only": lambda a: f'First {{"t1": false}}, or {{maybe}} {{"t1": true}}?\n</think>\n\n{a}',
    "both marks": lambda a: f'<think>{{"t1": true, "t2": true, "t3": true, "t4": true}}</think>{a}',
    "harmony": lambda a: f'<|channel|>analysis<|message|>{{"t1": true}}<|end|><|channel|>final<|message|>{a}<|return|>',
    "fence": lambda a: f"```json\n{a}\n```",
    "prose": lambda a: f"Here you are: {a} I hope that {{this}} helps!",
    "twice the same": lambda a: f"{a}\n\n{a}",
    "one object a line": lambda a: "\n".join(json.dumps({k: v}) for k, v in json.loads(a).items()),
    "wrapper": lambda a: f'{{"answers": {a}}}',
    "schema echoed": lambda a: f'{{"type": "object", "properties": {a}}}',
    "reason beside": lambda a: json.dumps({"reason": "clear", **json.loads(a)}),
    "python literals": lambda a: str(json.loads(a)),
    "trailing comma": lambda a: a.replace("}", ",}"),
    "capital keys": lambda a: a.replace("t", "T").replace("True", "true").replace("T", "T").replace("True", "true"),
    "words": lambda a: a.replace("true", '"Yes"').replace("false", '"no."'),
    "numbers": lambda a: a.replace("true", "1").replace("false", "0"),
    "capitals": lambda a: a.replace("true", '"TRUE"').replace("false", '" False "'),
    "objects": lambda a: json.dumps({k: {"answer": v, "confidence": 0.9} for k, v in json.loads(a).items()}),
    "lists of one": lambda a: json.dumps({k: [v] for k, v in json.loads(a).items()}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTATIONS)
@pytest.mark.parametrize("texts_per_call", [1, 4])
def test_an_answer_is_read_wherever_it_is_and_however_it_is_written(name, texts_per_call, store):
    with ChatServer(wrapped(NOTATIONS[name])) as server:
        all_right(annotate(server, store, texts_per_call=texts_per_call))
        assert server.calls == len(TEXTS) / texts_per_call


def test_conflicting_answers_are_no_answer(store):
    conflicts = iter(['{"t1": true} or rather {"t1": false}', '{"t1": true, "t1": false}', '{"t1": "yes or no"}'])
    with ChatServer(lambda request: {"message": {"content": next(conflicts, "maybe")}}) as server:
        report = annotate(server, store, TEXTS[:1])
    assert labels(report) == {}
    assert report.failed == 1


@pytest.mark.parametrize(
    ("step", "written", "meant"),
    [
        (CHOICE, "ANGRY", "angry"),
        (CHOICE, " Very  Calm. ", "very calm"),
        (CHOICE, "very_calm", "very calm"),
        (CHOICE, '"calm"', "calm"),
        (CHOICE, "**calm**", "calm"),
        (CHOICE, "Label: calm", "calm"),
        (CHOICE, ["calm"], "calm"),
        (CHOICE, {"label": "calm"}, "calm"),
        (CHOICE, {"label": "calm", "score": 0.3}, "calm"),
        (CHOICE, {"angry": False, "calm": True, "very calm": False}, "calm"),
        (CHOICE, "calm, angry", None),
        (CHOICE, "not angry", None),
        (CHOICE, ["calm", "angry"], None),
        (CHOICE, {"label": "calm", "answer": "angry"}, None),
        (CHOICE, None, None),
        (CHOICE, 1, None),
        (MULTI, "Angry", ("angry",)),
        (MULTI, "calm, angry", ("angry", "calm")),
        (MULTI, {"angry": True, "calm": False}, ("angry",)),
        (MULTI, {"labels": ["calm"]}, ("calm",)),
        (MULTI, [{"label": "calm"}], ("calm",)),
        (MULTI, "none", ()),
        (MULTI, ["calm", "furious"], None),
        (MULTI, None, None),
        (YES_NO, "y", True),
        (YES_NO, 0, False),
        (YES_NO, {"value": "No"}, False),
        (YES_NO, "yes and no", None),
        (YES_NO, 2, None),
        (YES_NO, [True, False], None),
        (SPANS, "$5", ["$5"]),
        (SPANS, {"price": ["$5"]}, ["$5"]),
        (SPANS, [{"text": "$5", "start": 3}], ["$5"]),
        (SPANS, '["$5", "$7"]', ["$5", "$7"]),
        (SPANS, "five dollars", None),
        (SPANS, None, None),
        (SPANS, [None], None),
    ],
    ids=str,
)
def test_what_has_one_reading_is_taken_and_counted(step, written, meant, store):
    with ChatServer(lambda request: json.dumps({"t1": written})) as server:
        report = annotate(server, store, ["it was $5, then $7"], step)
    (annotation,) = report.annotations
    if meant is None:
        assert (report.failed, report.coerced) == (1, 0)
        assert not annotation.answers.labels
        assert not annotation.answers.spans
    else:
        assert (report.failed, report.coerced, server.calls) == (0, 1, 1)
        found = [span.text for span in annotation.answers.spans.get("price", ())]
        assert (found if step is SPANS else annotation.answers.labels["positive"].value) == meant


def test_what_a_reply_answers_is_kept_and_the_rest_is_asked_again(store):
    def forgetful(request):
        answers = json.loads(teacher(request))
        return json.dumps({k: v for k, v in answers.items() if k != "t2"})

    with ChatServer(forgetful) as server:
        all_right(annotate(server, store))
    seen = Counter(text for r in server.requests for text in asked(r.json).values())
    assert seen == {text: 1 + (i % 4 == 1) for i, text in enumerate(TEXTS)}


# ---- parameters and lengths


def test_a_reply_that_was_cut_off_gets_twice_the_length_and_later_ones_too(store):
    def thinking(request):
        if request["max_completion_tokens"] < 400:
            return {"content": "", "finish_reason": "length", "usage": {"prompt_tokens": 9, "completion_tokens": 100}}
        return teacher(request)

    with ChatServer(thinking) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key="k", model="m", max_retries=0, max_tokens=100)
        all_right(annotate(server, store, llm=LLM(model)))
    assert [r.json["max_completion_tokens"] for r in server.requests] == [100, 200, 400, 400, 400]


def test_no_length_exceeds_a_cap(store):
    """A longer reply that a cap forbids is not asked for, and the run goes on."""

    def thinking(request):
        if TEXTS[2] in asked(request).values():
            return {"content": "", "finish_reason": "length", "usage": {"prompt_tokens": 9, "completion_tokens": 100}}
        return teacher(request)

    with ChatServer(thinking) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key="k", model="m", max_retries=0, max_tokens=1_000)
        llm = LLM(model, LLMSettings(max_concurrency=1))
        report = annotate(server, store, texts_per_call=1, llm=llm, caps={"max_tokens": 2_000})
    assert len(labels(report)) == 11
    assert report.error is None
    assert store.spent("run").tokens <= 2_000


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1)."),
        ("max_completion_tokens", "Unrecognized request argument supplied: max_completion_tokens"),
        ("strict", "Extra inputs are not permitted: 'strict'"),
        ("parallel_tool_calls", "property 'parallel_tool_calls' is unsupported"),
        ("tool_choice", "tool_choice is not supported; remove it"),
    ],
)
def test_a_parameter_that_is_refused_is_dropped_and_remembered(parameter, message, store):
    def picky(request):
        if parameter in ("parallel_tool_calls", "tool_choice") and "response_format" in request:
            return refusal(400, "response_format is not supported")
        if f'"{parameter}"' in json.dumps(request):
            return refusal(400, message)
        return {"message": {"content": teacher(request)}}

    with ChatServer(picky) as server:
        model = ChatOpenAI(
            base_url=server.base_url, api_key="k", model="m", max_retries=0, temperature=0.0, max_tokens=64
        )
        all_right(annotate(server, store, llm=LLM(model, LLMSettings(max_concurrency=1))))
    with_it = [f'"{parameter}"' in json.dumps(r.json) for r in server.requests]
    refused = with_it.index(True)
    assert with_it.count(True) <= 2  # a parameter may stand in two places of a request
    assert not any(with_it[refused + 2 :])
    if parameter == "max_completion_tokens":
        assert server.requests[-1].json["max_tokens"] == 64
    # LangChain states `strict` in every json_schema, so that the next mode is what leaves it out
    is_tool = parameter in ("parallel_tool_calls", "tool_choice", "strict")
    assert {r.way for r in server.requests[-3:]} == {"function_calling" if is_tool else "json_schema"}


# ---- waiting


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (refusal(429, "slow down", {"retry-after": "58"}), 58),
        (refusal(429, "slow down", {"retry-after-ms": "1500"}), 1.5),
        (refusal(429, "Resource exhausted. Please retry in 58.5s."), 58.5),
        (refusal(429, "Rate limit reached: limit 3 a minute. Please try again in 1m3s. Visit our site"), 63),
        ((429, [{"error": {"code": 429, "details": [{"retryDelay": "58s"}]}}], {}), 58),
        ((200, {"error": {"code": 429, "message": "retry in 20 seconds"}}, {}), 20),
        ((200, {"error": {"code": "rate_limit_exceeded", "message": "wait 2 minutes"}}, {}), 120),
        ((200, {"error": {"code": "429", "message": "try again in 500ms"}, "choices": None}, {}), 0.5),
        (refusal(503, "overloaded", {"retry-after": "7"}), 7),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["json_schema", "text"])
def test_the_wait_that_a_server_asks_for_is_kept_and_told(answer, seconds, mode, waits):
    answers = iter([answer])
    told = []
    messages, schema = [("user", "?")], {"title": "A", "type": "object", "properties": {}}
    with ChatServer(lambda request: next(answers, "{}")) as server, on_wait(told.append):
        reply = llm_at(server, max_retries=5).complete(messages, schema, mode=mode)
    assert reply.data == {}
    assert server.calls == 2
    assert max(waits) == pytest.approx(seconds, rel=0.03)
    assert [round(wait.seconds / seconds, 1) for wait in told] == [1.0] * (seconds > 1)
    assert all("(attempt 2 of 6)" in str(wait) for wait in told)


def test_a_limit_of_one_minute_is_outlasted_without_a_hint(store, waits):
    """The server's clock is the sum of the waits."""

    def limited(request):
        return teacher(request) if sum(waits) >= 61 else refusal(429, "Too many requests")

    with ChatServer(limited) as server:
        all_right(annotate(server, store, texts_per_call=12))


def test_an_unreachable_server_is_named_with_every_attempt(waits):
    with ChatServer(teacher) as server:
        gone = server.base_url
    told = []
    model = ChatOpenAI(base_url=gone, api_key="sk-secret-123456", model="m", max_retries=0)
    with on_wait(told.append), pytest.raises(LLMError) as caught:
        LLM(model, LLMSettings(max_retries=4)).complete([("user", "?")], {"title": "A", "type": "object"})
    assert gone in str(caught.value)
    assert "--max-retries" in str(caught.value)
    assert caught.value.kind == "server"
    assert told
    assert all(gone in str(wait) and wait.attempts == 5 for wait in told)


# ---- what says nothing about a text


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ((200, "<!doctype html><html><body>Welcome</body></html>", {"content-type": "text/html"}), "/v1"),
        (refusal(401, "no key"), "OPENAI_API_KEY"),
        (refusal(403, "no access"), "OPENAI_API_KEY"),
        (refusal(404, "no such model", code="model_not_found"), "model's name"),
        ((404, "<html>Not found</html>", {"content-type": "text/html"}), "OPENAI_BASE_URL"),
        ((405, "<html>Not allowed</html>", {"content-type": "text/html"}), "OPENAI_BASE_URL"),
        ((200, {"error": {"code": 401, "message": "no key"}}, {}), "OPENAI_API_KEY"),
        (refusal(402, "top up"), "credit"),
        (refusal(429, "quota", code="insufficient_quota"), "credit"),
        (refusal(429, "tokens per day used up, try again in 7h2m"), "minutes"),
        (refusal(503, "down"), "attempts"),
    ],
    ids=str,
)
def test_what_says_nothing_about_a_text_ends_the_run_soon(answer, word, store, waits):
    with ChatServer(lambda request: answer) as server:
        report = annotate(server, store, [f"good text {i}" for i in range(200)], texts_per_call=1)
    assert word in str(report.error)
    assert 1 <= server.calls <= 30
    assert labels(report) == {}


def test_an_llm_that_never_answers_is_not_paid_for_every_text(store):
    with ChatServer(lambda request: "I would rather not.") as server:
        report = annotate(server, store, [f"good text {i}" for i in range(200)], texts_per_call=1)
    assert isinstance(report.error, LLMError)
    assert server.calls < 40


# ---- faults of all kinds


FAULTS = [
    refusal(500, "crashed", {"retry-after": "0"}),
    refusal(429, "slow", {"retry-after": "0"}),
    (200, {"error": {"code": 429, "message": "slow"}}, {"retry-after": "0"}),
    (200, '{"choices": [{"mess', {}),
    DROPPED,
    {"content": '{"t1": tr', "finish_reason": "length"},
    {"message": {"content": "", "reasoning_content": "hm"}},
    "I am not sure.",
    '{"t1": "perhaps"}',
    refusal(400, "content management policy", code="content_filter"),
    refusal(503, "overloaded"),
]


def test_nothing_is_lost_or_paid_twice_under_30_percent_faults(store, waits):
    texts = [f"{'good' if i % 3 else 'bad'} text {i}." for i in range(1_000)]
    dice, lock = random.Random(3), threading.Lock()
    paid = Counter()

    def faulty(request):
        with lock:
            if dice.random() < 0.3:
                return dice.choice(FAULTS)
            paid.update(asked(request).values())
        return teacher(request)

    caps = {"max_calls": 1_500, "max_tokens": 400_000}
    with ChatServer(faulty) as server:
        llm = llm_at(server, max_retries=5, usd_per_million_tokens=(1, 1))
        first = annotate(server, store, texts, llm=llm, caps={**caps, "max_usd": 1})
        assert first.error is None
        for _ in range(6):  # a text that a filter refuses, at random here, is asked again next time
            again = annotate(server, store, texts, llm=llm, caps=caps)
        spent = store.spent("run")
    all_right(again, texts)
    assert len(labels(first)) >= 950
    assert set(paid.values()) == {1}
    assert spent.calls == server.calls <= 1_500
    assert spent.tokens <= 400_000


@pytest.mark.parametrize("caps", [{"max_calls": 60}, {"max_tokens": 3_000}, {"max_usd": 0.003}], ids=str)
def test_no_cap_is_passed_under_faults(caps, store, waits):
    texts = [f"good text {i}." for i in range(400)]
    dice, lock = random.Random(5), threading.Lock()

    def faulty(request):
        with lock:
            return dice.choice(FAULTS) if dice.random() < 0.3 else teacher(request)

    with ChatServer(faulty) as server:
        llm = llm_at(server, max_retries=5, usd_per_million_tokens=(1, 1), max_concurrency=8)
        report = annotate(server, store, texts, llm=llm, caps=caps)
        spent = store.spent("run")
        (name, limit), calls = next(iter(caps.items())), server.calls
    assert report.error is not None
    assert getattr(spent, name.removeprefix("max_")) <= limit
    assert spent.calls == calls
