"""`falconer check`: what an LLM can do, told by a few calls; an exit code that says whether it can annotate."""

import json

import pytest
from batches import BatchServer
from laptops import asked
from loopback import ChatServer, llm_at

from langchain_falconer import check_llm
from langchain_falconer.cli import main

PRICE = "$20"


def able(request):
    """An LLM that knows the answers of the check."""
    words = json.dumps(request["messages"])
    if "fresh snow" in words:
        return '{"colour": "white"}'
    texts = asked(request)
    if "Extract the price" in request["messages"][-1]["content"]:
        return json.dumps({key: [PRICE] for key in texts})
    return json.dumps({key: "love" in text for key, text in texts.items()})


def way(request):
    if "response_format" in request:
        return "json_schema"
    return "function_calling" if "tools" in request else "text"


def found(reply, **settings):
    with ChatServer(reply) as server:
        return check_llm(llm_at(server, **settings)), server.calls


def test_an_llm_that_can_do_everything_takes_five_calls():
    check, calls = found(able, usd_per_million_tokens=(1.0, 2.0))
    assert check.works
    assert check.reason is None
    assert check.output_mode == "json_schema"
    assert [(call.name, call.works, call.is_right) for call in check.calls] == [
        (name, True, True) for name in ("json_schema", "function_calling", "text", "label", "span")
    ]
    assert (check.n_calls, check.tokens) == (calls, 5 * 15) == (5, 75)
    assert check.usd == pytest.approx(5 * 20 / 1e6)
    assert check.usd_per_million_tokens == (1.0, 2.0)
    assert not check.is_reasoning


def test_the_mode_that_works_is_found_and_the_others_have_their_reason():
    def only_text(request):
        return able(request) if way(request) == "text" else (400, {"error": {"message": "no such parameter here"}}, {})

    check, _ = found(only_text)
    assert check.works
    assert check.output_mode == "text"
    assert [call.works for call in check.calls] == [False, False, True, True, True]
    assert "no such parameter" in check.calls[0].reason
    assert check.usd is None
    assert check.prices is None


def test_an_llm_that_cannot_annotate_says_why_in_one_sentence():
    check, _ = found(lambda request: "{}" if "fresh snow" not in json.dumps(request["messages"]) else able(request))
    assert not check.works
    assert "label question" in check.reason
    assert "name another model" in check.reason


def test_wrong_answers_are_called_wrong():
    check, _ = found(lambda request: able(request).replace("true", "false"))
    assert check.works
    assert [call.is_right for call in check.calls] == [True, True, True, False, True]


def test_no_access_ends_the_check_at_once():
    check, calls = found(lambda request: (401, {"error": {"message": "wrong key"}}, {}))
    assert calls == 1
    assert not check.works
    assert "API_KEY" in check.reason


def test_a_reasoning_model_is_called_one():
    def thinks(request):
        usage = {"prompt_tokens": 10, "completion_tokens": 400}
        return {"content": able(request), "usage": usage}

    check, _ = found(thinks)
    assert check.is_reasoning
    assert check.context_tokens is None  # this server lists no models


class ListingServer(BatchServer):
    """A server that lists its models with their context, and answers nothing."""

    def _answer(self, method, path, body):
        if (method, path) != ("GET", "/v1/models"):
            return 400, {"error": {"message": "not now"}}
        model = {"id": "loopback", "object": "model", "created": 0, "owned_by": "me"}
        return 200, {"object": "list", "data": [{**model, "id": "other"}, {**model, "meta": {"n_ctx": 4096}}]}


def test_the_context_that_a_server_reports_is_shown():
    with ListingServer(able) as server:
        check = check_llm(llm_at(server))
    assert check.context_tokens == 4096
    assert check.max_output_tokens is None
    assert check.output_limit == 1024
    assert not check.works


def run(server, monkeypatch, capsys, *options):
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setattr("sys.argv", ["falconer", "check", "--llm", "openai:loopback", *options])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_command_prints_ten_lines_or_one_json_object(monkeypatch, capsys):
    with ChatServer(able) as server:
        code, out, _ = run(server, monkeypatch, capsys)
        assert code == 0
        assert len(out.strip().splitlines()) == 10
        code, out, _ = run(server, monkeypatch, capsys, "--json")
        assert (code, json.loads(out)["works"]) == (0, True)


def test_the_command_fails_with_one_sentence(monkeypatch, capsys):
    with ChatServer(lambda request: "{}") as server:
        code, out, err = run(server, monkeypatch, capsys, "--json", "--max-retries", "0")
        assert (code, json.loads(out)["works"]) == (1, False)
        assert len(err.strip().splitlines()) == 1
        assert "usable answer" in err
