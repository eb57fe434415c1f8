"""Splitting raw sentences into words."""

from __future__ import annotations

import pytest

from hyperlect.data.words import split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Anna sees a cat.", ["Anna", "sees", "a", "cat", "."]),
        ("Don't! l’eau rock'n'roll", ["Don't", "!", "l’eau", "rock'n'roll"]),
        ("a well-known - dash", ["a", "well-known", "-", "dash"]),
        ("3.14 or 1,000.50 at 12:30.", ["3.14", "or", "1,000.50", "at", "12:30", "."]),
        ("«Где?» — спросил он", ["«", "Где", "?", "»", "—", "спросил", "он"]),
        ("مرحبا، كيف حالك؟", ["مرحبا", "،", "كيف", "حالك", "؟"]),
        ("می‌خواهم بروم", ["می‌خواهم", "بروم"]),  # with a joiner inside
        ("वह घर जाता है।", ["वह", "घर", "जाता", "है", "।"]),
        ("நான் வந்தேன்.", ["நான்", "வந்தேன்", "."]),
        ("我在北京，1990年。", ["我", "在", "北", "京", "，", "1990", "年", "。"]),
        ("猫が好き。", ["猫", "が", "好", "き", "。"]),
        ("한국어 문장.", ["한국어", "문장", "."]),
        ("ภาษาไทย ดี", ["ภาษาไทย", "ดี"]),
        ("Cafe\u0301 nai\u0308f", ["Cafe\u0301", "nai\u0308f"]),  # decomposed
        ("\ufeffHi\u200b  there\u00a0!\r\n", ["Hi", "there", "!"]),
        ("ok ❤\ufe0f 👩‍👩‍👧!", ["ok", "❤\ufe0f", "👩‍👩‍👧", "!"]),
        (" \t ", []),
    ],
)  # fmt: skip
def test_raw_sentences_are_split_into_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_words_spell_the_sentence_they_are_split_from() -> None:
    text = "“Já,” sagði Þórný: «3,5 km til Ísafjarðar?» 北京 (ok) e-mail a_b x̂y̌"
    assert "".join(split_words(text)) == "".join(text.split())
