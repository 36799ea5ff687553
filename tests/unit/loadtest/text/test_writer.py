"""Writers: exact with a tokenizer, about without, and clear where a folder has none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from cluster.models.tiny import write_small_files
from loadtest.text import Style, Writer, load_writer, ratio_writer
from loadtest.text.writer import USUAL_TOKENS_PER_WORD, fitted


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    folder = tmp_path_factory.mktemp("tiny")
    write_small_files(folder)
    return load_writer(folder)


def test_the_tiny_model_has_pieces_of_each_style(tiny: Writer) -> None:
    assert tiny.is_exact
    assert set(tiny.pieces) == set(Style)


def test_text_is_of_its_style(tiny: Writer) -> None:
    texts = {style: tiny.text(random.Random(1), 200, style) for style in Style}
    assert texts[Style.ENGLISH].isascii()
    assert not texts[Style.CHINESE].isascii()
    assert "\n    " in texts[Style.CODE]


def test_a_style_that_a_writer_lacks_is_english() -> None:
    writer = ratio_writer()
    assert writer.text(random.Random(1), 30, Style.CHINESE) == writer.text(random.Random(1), 30)


def test_without_samples_the_ratio_is_the_usual_one() -> None:
    writer = ratio_writer()
    assert not writer.is_exact
    words = len(writer.text(random.Random(1), 1_101).split())
    assert abs(words * USUAL_TOKENS_PER_WORD - 1_101) < 3


def test_a_ratio_is_learned_from_what_prompts_had() -> None:
    writer = ratio_writer([(100, 145), (200, 275), (1_000, 1_315)])
    assert writer.wrapping.chat_tokens == 15
    assert abs(len(writer.text(random.Random(1), 1_301).split()) - 1_001) <= 1


def test_the_line_through_samples() -> None:
    ratio, around = fitted([(1, 12), (3, 16)])
    assert (ratio, around) == pytest.approx((2, 10))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no tokenizer\.json"):
        load_writer(tmp_path)


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    write_small_files(tmp_path)
    for path in tmp_path.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    with pytest.raises(SetupError, match="chat template"):
        load_writer(tmp_path)
