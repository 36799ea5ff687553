"""Each scenario sends what it says."""

from __future__ import annotations

from collections import Counter
from itertools import count, islice
from pathlib import Path

import pytest

from cluster.core.errors import SetupError, TraceError
from loadtest.plan import Session
from loadtest.scenarios import ArrivalKind, Context, find_scenario, list_scenarios
from loadtest.scenarios.options import shown
from loadtest.text import ratio_writer

WRITER = ratio_writer()


def context(tokens: int = 262_144, **fields: object) -> Context:
    return Context(seed=1, context_tokens=tokens, writer=WRITER, **fields)  # type: ignore[arg-type]


def made(name: str, most: int, *settings: str, tokens: int = 262_144) -> list[Session]:
    scenario = find_scenario(name)
    sessions = scenario.sessions(scenario.read_options(settings), map(float, count()), context(tokens))
    return list(islice(sessions, most))


def notes(name: str, *settings: str, tokens: int) -> str:
    return " ".join(find_scenario(name).read_options(settings).notes(context(tokens)))


def test_all_that_the_issue_names_are_there() -> None:
    names = [scenario.name for scenario in list_scenarios()]
    assert len(set(names)) == len(names)
    assert {"short-chat", "document", "agents", "code-review", "mixed", "tenants", "ramp", "idle-burst", "soak"} < {
        *names
    }
    assert {"article-chat", "article-summary", "article-write", "trace"} < set(names)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(SetupError, match="did you mean mixed"):
        find_scenario("mixd")
    with pytest.raises(SetupError, match="known: short-chat"):
        find_scenario("zzz")


@pytest.mark.parametrize("scenario", list_scenarios(), ids=lambda scenario: scenario.name)
def test_every_option_takes_its_own_default(scenario: object) -> None:
    found = find_scenario(scenario.name)  # type: ignore[attr-defined]
    for spec in found.options:
        assert spec.read(shown(spec.default)) == spec.default
        assert spec.about.endswith((".", ")")) or ":" in spec.about
    assert found.read_options([]) == found.read_options([])


@pytest.mark.parametrize(
    ("name", "setting", "words"),
    [
        ("mixed", "long_shares=1", "did you mean long_share"),
        ("mixed", "long_share=2", "from 0 to 1"),
        ("mixed", "long_share=nan", "from 0 to 1"),
        ("mixed", "with_long=maybe", "yes or no"),
        ("mixed", "long_tokens", "is no key=value"),
        ("mixed", "long_tokens=1.5", "a whole number"),
        ("short-chat", "language=latin", "one of english, chinese, both"),
        ("code-review", "sizes=8k", "numbers from 1"),
        ("code-review", "sizes=0", "numbers from 1"),
        ("tenants", "shares=gold", "NAME=SHARE"),
        ("tenants", "shares=gold=0", "NAME=SHARE"),
        ("tenants", "shares=gold=-1,silver=2", "NAME=SHARE"),
    ],
)
def test_wrong_options_are_told(name: str, setting: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        find_scenario(name).read_options([setting])


def test_options_are_typed() -> None:
    options = find_scenario("mixed").read_options(["with-long=no", "long_tokens=9_000", "spread=0"])
    assert (options.with_long, options.long_tokens, options.spread) == (False, 9_000, 0.0)  # type: ignore[attr-defined]


def test_default_arrivals() -> None:
    kinds = {scenario.name: scenario.arrivals.kind for scenario in list_scenarios()}
    assert kinds["ramp"] is ArrivalKind.RAMP
    assert kinds["idle-burst"] is ArrivalKind.BURSTS
    assert kinds["trace"] is ArrivalKind.TRACE
    assert kinds["mixed"] is ArrivalKind.POISSON
    ramp = find_scenario("ramp").arrivals
    assert ramp.to_rate_per_s is not None
    assert ramp.to_rate_per_s > ramp.rate_per_s


def test_one_document_has_many_questions() -> None:
    sessions = made("document", 7, "questions=3")
    assert [session.label for session in sessions] == ["first", "again", "again"] * 2 + ["first"]
    assert [len({session.system for session in sessions[at : at + 3]}) for at in (0, 3)] == [1, 1]
    assert len({session.system for session in sessions}) == 3
    assert len({session.turns[0].text for session in sessions}) == 7


def test_agents_have_over_twenty_turns_and_share_their_beginning() -> None:
    sessions = made("agents", 3)
    assert {len(session.turns) for session in sessions} == {24}
    assert len({session.system for session in sessions}) == 1
    assert all(session.keeps for session in sessions)
    assert len({session.turns[0].text for session in sessions}) == 3


def test_agents_in_a_small_context_have_shorter_turns_and_say_so() -> None:
    (session,) = made("agents", 1, tokens=8_192)
    assert len(session.turns) == 24
    assert "turns add" in notes("agents", tokens=8_192)
    assert "end before 24 turns" in notes("agents", tokens=3_000)
    assert not notes("agents", tokens=262_144)


def test_reviews_are_of_all_sizes_that_fit() -> None:
    assert {session.label for session in made("code-review", 40)} == {"8k", "32k", "128k"}
    assert {session.label for session in made("code-review", 40, tokens=40_000)} == {"8k", "32k"}
    assert notes("code-review", tokens=40_000).startswith("prompts left out: 131,072 tokens: ")
    assert len({session.label for session in made("code-review", 5, tokens=4_096)}) == 1
    assert "reviews have 1 questions" in notes("code-review", tokens=400)
    assert "instead" in notes("code-review", tokens=4_096)


def test_reviewers_share_repositories() -> None:
    sessions = made("code-review", 60, "sizes=8192", "repositories=2")
    assert len({session.system for session in sessions}) == 2


def test_mixed_without_long_ones_has_the_same_short_ones_at_the_same_times() -> None:
    both = made("mixed", 60, "long_share=0.2")
    alone = made("mixed", 60, "long_share=0.2", "with_long=no")
    short = [session for session in both if session.label == "short"]
    assert 0 < len(both) - len(short) < 30
    assert short == alone[: len(short)]


def test_tenants_send_their_shares() -> None:
    counts = Counter(session.tenant for session in made("tenants", 400, "shares=gold=3,bronze=1"))
    assert set(counts) == {"gold", "bronze"}
    assert 2 < counts["gold"] / counts["bronze"] < 5
    assert all(session.label == session.tenant for session in made("tenants", 5))


def test_article_rows_are_of_one_size() -> None:
    for name, prompt, output in (
        ("article-chat", 50, 100),
        ("article-summary", 8_192, 300),
        ("article-write", 120, 200),
    ):
        options = find_scenario(name).read_options([])
        assert (options.prompt_tokens, options.output_tokens) == (prompt, output)  # type: ignore[attr-defined]
        sessions = made(name, 4)
        assert len({len(session.turns[0].text.split()) for session in sessions}) == 1
        assert {session.turns[0].output_tokens for session in sessions} == {output}


def test_soak_has_everything() -> None:
    sessions = made("soak", 200)
    assert {session.label for session in sessions} >= {"chat", "first", "again", "agent"}
    assert [session.at_s for session in sessions] == [float(place) for place in range(200)]


def test_what_does_not_fit_is_shorter_and_said() -> None:
    (session,) = made("article-summary", 1, tokens=1_024)
    assert session.turns[0].output_tokens == 252
    assert "8,192 prompt and 300 output tokens do not fit the largest context, 1,024" in notes(
        "article-summary", tokens=1_024
    )
    assert not notes("article-summary", tokens=32_768)


def test_a_trace_is_drawn_where_no_file_is_named() -> None:
    options = find_scenario("trace").read_options(["requests=50", "fit=azure-code"])
    due_s = options.due_s(context())
    assert due_s is not None
    times = list(due_s)
    assert len(times) == 50
    assert times == sorted(times)
    assert "of 50 requests do not fit" in " ".join(options.notes(context(1_024)))


def test_azures_file_is_replayed(tmp_path: Path) -> None:
    file = tmp_path / "azure.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9,480,10\n2023-11-16 18:17:05.4,99,70000\n",
        encoding="utf-8",
    )
    scenario = find_scenario("trace")
    options = scenario.read_options([f"file={file}", "output_tokens_max=40"])
    due_s = options.due_s(context())
    assert due_s is not None
    sessions = list(scenario.sessions(options, due_s, context()))
    assert [round(session.at_s, 3) for session in sessions] == [0.0, 1.5]
    assert [session.turns[0].output_tokens for session in sessions] == [10, 40]


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("hello", encoding="utf-8")
    with pytest.raises(TraceError, match="no trace that is known"):
        find_scenario("trace").read_options([f"file={file}"]).due_s(context())
    with pytest.raises(SetupError, match="cannot be read"):
        find_scenario("trace").read_options([f"file={tmp_path / 'none'}"]).due_s(context())
