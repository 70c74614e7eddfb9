"""From an event loop: the same results, the LLM awaited on the loop, cancellation that keeps what is done."""

import asyncio
import threading
from operator import attrgetter

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langgraph.checkpoint.memory import InMemorySaver
from laptops import DRAFT, INSTRUCTION, PLAN, reviews, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer import (
    Falconer,
    FalconerToolkit,
    LLMError,
    MiningResult,
    ProxyError,
    Review,
    SettingsError,
    create_falconer_graph,
)

TEXTS = reviews(60)
STAGES = ["plan", "pilot", "route", "sample", "annotate", "train", "evaluate", "execute", "report"]


@pytest.fixture
def server():
    with ChatServer(teacher) as running:
        yield running


@pytest.fixture
def settings(settings):
    annotate = settings.annotate.model_copy(update={"pilot": 0, "repeated": 0.0})
    train = settings.train.model_copy(update={"epochs": 3})
    return settings.model_copy(update={"annotate": annotate, "train": train, "unlabelled": 0})


@pytest.fixture
def falconer(server, settings, tmp_path):
    return Falconer(llm_at(server, max_concurrency=3), home=tmp_path / "home", settings=settings)


class Gate:
    """A teacher that answers so many calls, and holds all others until it is opened."""

    def __init__(self, calls):
        self._passes = threading.Semaphore(calls)
        self._open = threading.Event()
        self.held = threading.Event()

    def __call__(self, request):
        if not self._passes.acquire(blocking=False):
            self.held.set()
            assert self._open.wait(60)
        return teacher(request)

    def open(self):
        self._open.set()


async def test_amine_gives_the_rows_of_mine(server, settings, tmp_path):
    beats = 0

    async def heart():
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(heart())
    result = await Falconer(llm_at(server), home=tmp_path / "a", settings=settings).amine(INSTRUCTION, texts=TEXTS)
    beating.cancel()
    assert beats > 50  # training, encoder and SQLite leave the loop free
    assert {request.headers["x-stainless-async"] for request in server.requests} == {"async:asyncio"}
    asked = server.calls
    same = Falconer(llm_at(server), home=tmp_path / "b", settings=settings).mine(INSTRUCTION, texts=TEXTS)
    assert {request.headers["x-stainless-async"] for request in server.requests[asked:]} == {"false"}
    assert server.calls == 2 * asked
    assert list(result.rows()) == list(same.rows())
    assert result.quality == same.quality


async def test_astream_yields_the_stages_and_then_the_result(falconer):
    events = [event async for event in falconer.astream(INSTRUCTION, texts=TEXTS)]
    *events, result = events
    assert isinstance(result, MiningResult)
    begun = [event["stage"] for event in events if event.get("event") == "begin"]
    assert list(dict.fromkeys(begun)) == [stage for stage in STAGES if stage in begun]
    assert {"plan", "annotate", "train", "execute", "report"} <= set(begun)
    assert [event async for event in falconer.astream(INSTRUCTION, texts=TEXTS)][-1].summary.rows == result.summary.rows


async def test_a_stream_that_is_left_stops_the_work(server, falconer):
    gate = server.reply = Gate(4)
    stream = falconer.astream(INSTRUCTION, texts=TEXTS)
    async for event in stream:
        if event["stage"] == "annotate":
            break
    await stream.aclose()  # its calls are held, and it does not wait for them
    gate.open()
    assert (await falconer.amine(INSTRUCTION, texts=TEXTS)).summary.rows.total == len(TEXTS)


async def test_an_error_is_raised_from_the_stream(server, falconer):
    server.reply = lambda request: (401, {"error": {"message": "no"}}, {})
    with pytest.raises(LLMError, match="refused the credentials"):
        async for _ in falconer.astream(INSTRUCTION, texts=TEXTS):
            pass


async def test_a_cancelled_run_keeps_its_answers_and_begins_no_call(server, falconer):
    gate = server.reply = Gate(9)
    task = asyncio.create_task(falconer.amine(INSTRUCTION, texts=TEXTS))
    await asyncio.to_thread(gate.held.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task  # although no reply comes
    begun = server.calls
    gate.open()
    result = await falconer.amine(INSTRUCTION, texts=TEXTS)
    assert result.summary.rows.total == len(TEXTS)
    bodies = [str(request.json["messages"]) for request in server.requests]
    again = [body for body in bodies[begun:] if body in bodies[:begun]]
    assert 0 < len(again) <= 3  # nothing but what was in flight, and was never answered
    assert server.calls - len(again) == len(set(bodies))


async def test_a_timeout_cancels_the_graph(server, settings, tmp_path):
    gate = server.reply = Gate(3)
    graph = create_falconer_graph(llm_at(server), home=tmp_path, settings=settings, checkpointer=InMemorySaver())
    file = write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    state = {"instruction": INSTRUCTION, "corpus": [str(file)], "auto_approve": True}
    config = {"configurable": {"thread_id": "1"}}
    task = asyncio.create_task(graph.ainvoke(state, config))
    await asyncio.to_thread(gate.held.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    output = await graph.ainvoke(None, config)
    assert output["summary"]["rows"]["total"] == len(TEXTS)
    assert {request.headers["x-stainless-async"] for request in server.requests} == {"async:asyncio"}


async def test_questions_at_once_share_the_limit_of_calls(server, falconer):
    lock, in_flight, most = threading.Lock(), 0, 0

    def counted(request):
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        try:
            return teacher(request)
        finally:
            with lock:
                in_flight -= 1

    server.reply = counted
    results = await asyncio.gather(*(falconer.aask(PLAN, texts=reviews(8, start=i)) for i in range(0, 60, 10)))
    assert all(result.decision.chosen.name == "llm" for result in results)
    assert most <= 3


async def test_callbacks_are_called_on_the_loop(server, falconer):
    loop, seen = asyncio.get_running_loop(), []

    async def reviewer(request):
        assert asyncio.get_running_loop() is loop
        assert request["plan"]["instruction"] == INSTRUCTION
        return Review(action="approve")

    result = await falconer.amine(INSTRUCTION, texts=TEXTS, reviewer=reviewer, on_event=seen.append)
    assert [step.id for step in result.plan.steps] == ["positive", DRAFT["steps"][0]["id"]]
    assert (seen[0]["stage"], seen[0]["event"]) == ("plan", "begin")


# ---- in a chain


async def test_a_falconer_is_a_link_of_a_chain(server, falconer):
    request = {"instruction": RunnablePassthrough(), "texts": lambda _: TEXTS}
    chain = request | falconer.as_runnable() | attrgetter("summary")
    summary = await chain.ainvoke(INSTRUCTION)
    assert summary.rows.total == len(TEXTS)
    assert {request.headers["x-stainless-async"] for request in server.requests} == {"async:asyncio"}
    assert chain.invoke(INSTRUCTION).rows == summary.rows
    asked = await falconer.as_runnable().abatch(
        [{"question": PLAN, "texts": reviews(n), "refresh": True} for n in (4, 5)]
    )
    assert [one.summary.rows.total for one in asked] == [4, 5]


@pytest.mark.parametrize("request_", [{"corpus": "x"}, {"question": "Why?", "texts": ["a"], "output": "x.jsonl"}])
def test_a_request_that_cannot_be_answered_is_refused(falconer, request_):
    with pytest.raises(SettingsError, match="pass instruction or question"):
        falconer.as_runnable().invoke(request_)


async def test_a_proxy_is_a_link_of_a_chain(proxy):
    texts = reviews(150)
    records = proxy.run(texts)
    runnable = proxy.as_runnable()
    assert runnable.invoke([Document(text) for text in texts]) == records
    chain = RunnableLambda(str.splitlines) | runnable | RunnableLambda(len)
    assert await chain.ainvoke("\n".join(texts)) == 150
    assert await runnable.abatch([texts[:3], [], texts[:2]]) == [records[:3], [], records[:2]]
    chunks = [chunk async for chunk in runnable.astream(texts)]
    assert [len(chunk) for chunk in chunks] == [64, 64, 22]
    assert [record for chunk in chunks for record in chunk] == records
    with pytest.raises(ProxyError, match="list of strings"):
        runnable.invoke("I love it")


async def test_a_tool_awaits_the_llm_on_the_loop(server, falconer):
    tool = next(tool for tool in FalconerToolkit(falconer).get_tools() if tool.name == "get_label")
    asked = [{"texts": reviews(4, start=i), "instruction": "Is the writer happy?"} for i in range(0, 12, 4)]
    answers = await asyncio.gather(*(tool.ainvoke(arguments) for arguments in asked))
    assert all('"quality": "the LLM itself answered"' in answer for answer in answers)
    assert {request.headers["x-stainless-async"] for request in server.requests} == {"async:asyncio"}


async def test_a_model_without_a_coroutine_is_called_in_a_thread(falconer, tmp_path, settings):
    class Silent(FakeMessagesListChatModel):
        def _generate(self, *args, **kwargs):
            threads.append(threading.current_thread())
            return super()._generate(*args, **kwargs)

    threads = []
    model = Silent(responses=[AIMessage('{"t1": true, "t2": true}')])
    result = await Falconer(model, home=tmp_path / "silent", settings=settings).aask(
        {"instruction": "Happy?", "steps": [{"id": "happy", "op": "get_label", "instruction": "Is the writer happy?"}]},
        texts=reviews(4),
    )
    assert result.summary.unanswered == 0
    assert threads
    assert threading.main_thread() not in threads
    assert not any(thread.name.startswith("asyncio") for thread in threads)  # the loop's common pool is small
