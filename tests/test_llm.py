"""The LLM behind planner and annotator: structured output, retries, account, and errors that name the fix."""

import re
import sys
import threading
import time

import pytest
from langchain_core.language_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from loopback import ChatServer

from langchain_falconer.errors import BudgetError, LLMError
from langchain_falconer.llm import LLM, Usage
from langchain_falconer.settings import LLMSettings

SCHEMA = {
    "title": "Answer",
    "description": "An answer.",
    "type": "object",
    "properties": {"n": {"type": "integer"}, "word": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["n", "word"],
    "additionalProperties": False,
}
MESSAGES = [("system", "Be brief."), ("user", "How many?")]
GOOD = '{"n": 3, "word": "yes"}'
NOW = {"retry-after": "0"}
KEY = "sk-very-secret-key-123456"


def llm_at(server, **settings):
    return LLM(
        ChatOpenAI(base_url=server.base_url, api_key=KEY, model="loopback", max_retries=0), LLMSettings(**settings)
    )


def refusal(message="no", code=None):
    return {"error": {"message": message, "code": code, "type": "x", "param": None}}


class Meter:
    """A meter that records its calls and refuses after `cap` attempts."""

    def __init__(self, cap=100):
        self.cap, self.estimated, self.used = cap, [], []

    def reserve(self, estimated):
        if len(self.estimated) >= self.cap:
            raise BudgetError("the cap on calls is reached; raise it")
        self.estimated.append(estimated)

    def settle(self, estimated, used):
        assert estimated in self.estimated
        self.used.append(used)


def test_a_string_names_a_provider_and_the_environment_its_server(monkeypatch):
    with ChatServer(lambda request: GOOD) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        llm = LLM("openai:some-model", LLMSettings(max_output_tokens=77, temperature=0.5))
        reply = llm.complete(MESSAGES, SCHEMA)
    assert llm.name == "openai:some-model"
    assert reply.data == {"n": 3, "word": "yes"}
    assert reply.error is None
    sent = server.requests[0].json
    assert (sent["model"], sent["temperature"], sent["max_completion_tokens"]) == ("some-model", 0.5, 77)
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["n", "word"]
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_usage_is_what_the_server_reports_and_an_estimate_without():
    answers = iter(
        [{"content": GOOD, "usage": {"prompt_tokens": 120, "completion_tokens": 7}}, {"content": GOOD, "usage": None}]
    )
    with ChatServer(lambda request: next(answers)) as server:
        llm = llm_at(server, usd_per_million_tokens=(1.0, 10.0))
        reported, estimated = (llm.complete(MESSAGES, SCHEMA).usage for _ in range(2))
    assert (reported.calls, reported.input_tokens, reported.output_tokens) == (1, 120, 7)
    assert reported.usd == pytest.approx((120 * 1 + 7 * 10) / 1e6)
    assert estimated.input_tokens > 50
    assert 0 < estimated.output_tokens < 20


@pytest.mark.parametrize("status", [400, 404, 422])
def test_falls_back_to_tools_then_to_text_and_remembers(status):
    supported = {"text"}

    def reply(request):
        way = "json_schema" if "response_format" in request else "function_calling" if "tools" in request else "text"
        return f"Here you are:\n```json\n{GOOD}\n```" if way in supported else (status, refusal("not supported"), {})

    with ChatServer(reply) as server:
        llm = llm_at(server)
        assert [llm.complete(MESSAGES, SCHEMA).data["n"] for _ in range(2)] == [3, 3]
    assert [r.way for r in server.requests] == ["json_schema", "function_calling", "text", "text"]
    assert '"enum": ["yes", "no"]' in server.requests[-1].json["messages"][0]["content"]

    supported = {"function_calling"}
    with ChatServer(lambda r: GOOD if "tools" in r else (status, refusal(), {})) as server:
        llm = llm_at(server)
        assert llm.complete(MESSAGES, SCHEMA).data == {"n": 3, "word": "yes"}
    assert [r.way for r in server.requests] == ["json_schema", "function_calling"]


def test_models_without_structured_output_get_a_text_prompt():
    llm = LLM(GenericFakeChatModel(messages=iter([AIMessage(f"Sure! {GOOD} Anything else?")])))
    assert llm.complete(MESSAGES, SCHEMA).data == {"n": 3, "word": "yes"}


def test_tool_calls_of_any_langchain_model_are_read():
    class Caller(FakeMessagesListChatModel):
        def bind_tools(self, tools, **kwargs):
            return self

    call = {"name": "Answer", "args": {"n": 1, "word": "no"}, "id": "1"}
    reply = LLM(Caller(responses=[AIMessage("", tool_calls=[call])])).complete(MESSAGES, SCHEMA)
    assert reply.data == {"n": 1, "word": "no"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"n": 3}', "'word' is a required property"),
        ('{"n": "3", "word": "yes"}', "n: '3' is not of type 'integer'"),
        ('{"n": 3, "word": "maybe"}', "word: 'maybe' is not one of"),
        ('{"n": 3, "word": "yes", "x": 1}', "'x' was unexpected"),
        ("I would rather not.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"n": NaN, "word": "yes"}', "no JSON object"),
        ('{"n": 3, "word": "ye', "no JSON object"),
        ('{"a":' * 100_000, "no JSON object"),
        ("__import__('os').abort()", "no JSON object"),
    ],
)
def test_a_reply_that_does_not_fit_is_an_error_in_the_reply_not_an_exception(text, why):
    with ChatServer(lambda request: text) as server:
        reply = llm_at(server).complete(MESSAGES, SCHEMA)
    assert reply.data is None
    assert why in reply.error
    assert reply.usage.calls == server.calls == 3
    assert [r.way for r in server.requests] == ["json_schema", "function_calling", "text"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```\n{GOOD}\n```",
        f"<think>is it {{3}}?</think>{GOOD}",
        f"The answer is {GOOD}.",
        f"```json\n{GOOD}\n``` done",
    ],
)
def test_json_is_read_bare_fenced_or_in_prose(text):
    assert LLM(GenericFakeChatModel(messages=iter([AIMessage(text)]))).complete(MESSAGES, SCHEMA).data == {
        "n": 3,
        "word": "yes",
    }


def test_a_cut_off_reply_is_never_completed():
    cut = {
        "content": '{"n": 3, "word": "yes"',
        "finish_reason": "length",
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }
    with ChatServer(lambda request: cut) as server:
        reply = llm_at(server).complete(MESSAGES, SCHEMA, mode="json_schema")
    assert reply.data is None
    assert "--max-output-tokens" in reply.error
    assert reply.text == '{"n": 3, "word": "yes"'
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3 * 9, 3 * 4)


def test_lone_surrogates_neither_break_the_request_nor_come_back():
    with ChatServer(lambda request: '{"n": 1, "word": "yes", "quote": "a\\ud83d"}') as server:
        open_schema = SCHEMA | {"properties": SCHEMA["properties"] | {"quote": {"type": "string"}}}
        reply = llm_at(server).complete([("user", "x\udcff")], open_schema)
    assert server.requests[0].json["messages"][0]["content"] == "x\ufffd"
    assert reply.data["quote"] == "a\ufffd"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_transient_failures_are_retried_and_every_attempt_is_metered(status):
    answers = iter([(status, refusal("later"), NOW), (status, refusal("later"), NOW), GOOD])
    meter = Meter()
    with ChatServer(lambda request: next(answers)) as server:
        reply = llm_at(server).complete(MESSAGES, SCHEMA, meter)
    assert server.calls == len(meter.estimated) == len(meter.used) == 3
    assert reply.data == {"n": 3, "word": "yes"}
    assert reply.usage == sum(meter.used, Usage()) == Usage(3, 10, 5, None)
    assert meter.used[0] == Usage(1, 0, 0, None)
    assert all(e.input_tokens > 50 and e.output_tokens == 1024 for e in meter.estimated)


def test_gives_up_after_max_retries_in_one_sentence():
    with ChatServer(lambda request: (503, refusal("overloaded"), NOW)) as server, pytest.raises(LLMError) as caught:
        llm_at(server, max_retries=2).complete(MESSAGES, SCHEMA)
    # A server may fail in one way of asking only: the others get an attempt each, which is no retry.
    assert [r.way for r in server.requests] == ["json_schema"] * 2 + ["function_calling", "text", "json_schema"]
    assert "5 attempts (overloaded)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_meter_stops_fallbacks_and_retries_alike():
    for answer in [(400, refusal(), {}), (429, refusal(), NOW)]:
        with ChatServer(lambda request, answer=answer: answer) as server:
            with pytest.raises(BudgetError):
                llm_at(server).complete(MESSAGES, SCHEMA, Meter(cap=1))
            assert server.calls == 1


def test_a_timeout_is_retried_and_counts_in_full():
    release = threading.Event()

    def reply(request):
        release.wait(20)
        return GOOD

    meter = Meter()
    with ChatServer(reply) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key=KEY, model="m", max_retries=0, timeout=0.2)
        with pytest.raises(LLMError, match="longer timeout"):
            LLM(model, LLMSettings(max_retries=0)).complete(MESSAGES, SCHEMA, meter)
        release.set()
    assert meter.used == meter.estimated


def test_an_unreachable_server_is_an_llm_error():
    with ChatServer(lambda request: GOOD) as server:
        gone = server.base_url
    model = ChatOpenAI(base_url=gone, api_key=KEY, model="m", max_retries=0)
    with pytest.raises(LLMError, match="check that the server runs and is reachable") as caught:
        LLM(model, LLMSettings(max_retries=0)).complete(MESSAGES, SCHEMA)
    assert caught.value.__cause__ is not None
    assert (caught.value.model, caught.value.attempts) == ("openai:m", 1)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_fail_at_once_and_are_never_repeated(status):
    answer = (status, refusal(f"Incorrect API key provided: {KEY}"), {})
    with ChatServer(lambda request: answer) as server, pytest.raises(LLMError) as caught:
        llm_at(server).complete(MESSAGES, SCHEMA)
    assert server.calls == 1
    assert "OPENAI_API_KEY" in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_no_error_carries_a_key_even_if_the_server_echoes_it():
    odd = "0123456789-odd-token"
    with ChatServer(lambda request: (418, refusal(f"bad Bearer {odd}, at http://me:pass@host/"), {})) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key=odd, model="m", max_retries=0)
        with pytest.raises(LLMError) as caught:
            LLM(model).complete(MESSAGES, SCHEMA)
    assert odd not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_an_empty_account_and_a_wrong_model_name_are_not_retried():
    for answer, word in [
        ((429, refusal("quota", "insufficient_quota"), {}), "credit"),
        ((404, refusal("no such model", "model_not_found"), {}), "check the model's name"),
        ((400, refusal("exceeds the context size", "context_length_exceeded"), {}), "context size"),
    ]:
        with ChatServer(lambda request, answer=answer: answer) as server:
            with pytest.raises(LLMError, match=word):
                llm_at(server).complete(MESSAGES, SCHEMA)
            assert server.calls == 1


@pytest.mark.parametrize(
    ("spec", "fix"),
    [
        ("openai:gpt-4.1-mini", "set the API key in the environment variable OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-4-5", "pip install langchain-anthropic"),
        ("nonesuch:model", "write provider:model"),
        ("nonesuch", "write provider:model"),
        ("", "provider:model"),
        ("openai:", "provider:model"),
        ("http://user:pw@127.0.0.1/v1", "OPENAI_BASE_URL"),
        ("gguf:/no/such/model.gguf", "check the path"),
    ],
)
def test_a_model_that_cannot_be_set_up_names_the_fix(spec, fix, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    with pytest.raises(LLMError) as caught:
        LLM(spec)
    assert fix in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pw@" not in str(caught.value)
    assert caught.value.model is not None
    assert "pw@" not in caught.value.model
    if spec.startswith("anthropic"):
        assert isinstance(caught.value.__cause__, ImportError)


def test_at_most_max_concurrency_requests_run_at_once():
    lock, in_flight, highest = threading.Lock(), 0, 0

    def reply(request):
        nonlocal in_flight, highest
        with lock:
            in_flight += 1
            highest = max(highest, in_flight)
        time.sleep(0.03)
        with lock:
            in_flight -= 1
        return GOOD

    with ChatServer(reply) as server:
        llm = llm_at(server, max_concurrency=2)
        llm.complete(MESSAGES, SCHEMA)
        threads = [threading.Thread(target=llm.complete, args=(MESSAGES, SCHEMA)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.calls == 9
    assert highest == 2


def test_requests_per_second_holds_for_model_objects_and_every_attempt(monkeypatch):
    from langchain_core.rate_limiters import InMemoryRateLimiter

    waited = []
    acquire = InMemoryRateLimiter.acquire
    monkeypatch.setattr(InMemoryRateLimiter, "acquire", lambda limiter: waited.append(limiter) or acquire(limiter))
    answers = iter([(429, refusal(), NOW), GOOD, GOOD])
    with ChatServer(lambda request: next(answers)) as server:
        llm = llm_at(server, requests_per_second=50)
        llm.complete(MESSAGES, SCHEMA)
        llm.complete(MESSAGES, SCHEMA)
    assert len(waited) == server.calls == 3
    assert {limiter.requests_per_second for limiter in waited} == {50}


def test_prices_come_from_table_or_settings_or_are_none():
    def named(model):
        return LLM(ChatOpenAI(model=model, api_key=KEY))

    listed = named("gpt-4.1-mini").price()
    assert listed == named("gpt-4.1-mini-2025-04-14").price()
    assert (listed.input, listed.output, listed.cached_input, listed.batch) == pytest.approx((0.4, 1.6, 0.1, 0.5))
    assert re.fullmatch(r"genai-prices [\d.]+, checked 20\d\d-\d\d-\d\d", listed.source)
    assert named("local").price() is None
    own = LLMSettings(usd_per_million_tokens=(7, 8))
    assert LLM(ChatOpenAI(model="gpt-4.1-mini", api_key=KEY), own).price().usd(1e6, 1e6) == 15


def test_input_tokens_that_the_provider_had_cached_cost_their_own_price():
    usage = {"prompt_tokens": 1_000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 800}}
    with ChatServer(lambda request: {"content": GOOD, "usage": usage}) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key=KEY, model="gpt-4.1-mini", max_retries=0)
        reply = LLM(model).complete(MESSAGES, SCHEMA)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1_000, 10)
    assert reply.usage.usd == pytest.approx((200 * 0.4 + 800 * 0.1 + 10 * 1.6) / 1e6)


def test_usage_adds_up_and_an_unknown_price_stays_unknown():
    paid, unpriced = Usage(1, 10, 5, 0.5), Usage(1, 1, 1)
    assert sum([paid, paid], Usage()) == Usage(2, 20, 10, 1.0)
    assert (paid + unpriced).usd is None
    assert Usage() + Usage() == Usage()


def test_an_answer_from_langchains_cache_costs_nothing():
    from langchain_core.caches import InMemoryCache

    with ChatServer(lambda request: GOOD) as server:
        model = ChatOpenAI(base_url=server.base_url, api_key=KEY, model="m", cache=InMemoryCache())
        replies = [LLM(model).complete(MESSAGES, SCHEMA) for _ in range(2)]
    assert server.calls == 1
    assert [r.usage.calls for r in replies] == [1, 0]
    assert replies[1].data == replies[0].data


def test_settings_are_validated():
    for wrong in [{"max_retries": -1}, {"timeout_s": 0}, {"max_concurrency": 0}, {"typo": 1}]:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LLMSettings(**wrong)


def test_a_gguf_without_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(LLMError, match=r"pip install 'langchain-falconer\[local\]'"):
        LLM(f"gguf:{tmp_path / 'm.gguf'}")
