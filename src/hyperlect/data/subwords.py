"""From words and texts to sub-words: special tokens, the first sub-word of a word, windows."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any

from ..errors import DataError
from .windows import balanced_windows, cut


@dataclass(frozen=True)
class Window:
    """One input of the encoder: all of an example, or a part of a long one.

    Attributes:
        input_ids: sub-words with the special tokens around them.
        token_type_ids: one a sub-word; used only where the tokenizer makes them.
        positions: where the first sub-word of each of its words is; empty for whole texts.
        words: which words of the example these are.
        sizes: of how many sub-words each of its words is made; those of a word are neighbours.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    positions: list[int]
    words: range
    sizes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Frame:
    """The special tokens that a tokenizer puts before, between and after one or two texts.

    Attributes:
        ids: the special tokens of each gap: (before, after), or (before, between, after).
        gap_types: their token types.
        text_types: the token type of each text.
    """

    ids: list[list[int]]
    gap_types: list[list[int]]
    text_types: list[int]

    @property
    def size(self) -> int:
        """How many special tokens there are."""
        return sum(map(len, self.ids))

    def around(self, *texts: list[int]) -> tuple[list[int], list[int]]:
        """Put the special tokens around the sub-words of one or two texts.

        Returns:
            The ids, and the token type of each.
        """
        ids, types = list(self.ids[0]), list(self.gap_types[0])
        for number, text in enumerate(texts):
            ids += text + self.ids[number + 1]
            types += [self.text_types[number]] * len(text) + self.gap_types[number + 1]
        return ids, types


class Subwords:
    """Splits words, texts and pairs into sub-words with one tokenizer.

    The fast tokenizer's backend is used directly, so that nothing depends on which class
    transformers wraps it in. Unicode is normalised to NFC first: decomposed text would come out
    as many more sub-words.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: the longest window in sub-words, special tokens counted.

    Raises:
        DataError: `max_length` leaves no room beside the special tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.backend = plain_backend(tokenizer)
        self.max_length = max_length
        self.single, self.double = _frame(self.backend, "a"), _frame(self.backend, "a", "a")
        if max_length <= self.double.size + 1:
            raise DataError(
                f"A length of {max_length} sub-words leaves no room beside the "
                f"{self.double.size} special tokens. Choose a greater one."
            )
        self.special = frozenset(tokenizer.all_special_ids)
        self.word_prefix = _word_prefix(self.backend)
        stand_ins = (tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id)
        self.unknown = next(token for token in stand_ins if token is not None)

    @property
    def capacity(self) -> int:
        """How many sub-words of one text fit into a window."""
        return self.max_length - self.single.size

    def words(self, sentences: Sequence[Sequence[str]]) -> list[list[Window]]:
        """Encode sentences given as words; each word is in exactly one window of its sentence.

        A word without any sub-word (a lone control character) becomes the unknown token, for it
        must be scored like every other; of a word longer than a window the first sub-words stay.
        """
        spelled = [[self.word_prefix + nfc(word) for word in sentence] for sentence in sentences]
        encodings = self.backend.encode_batch(
            spelled, is_pretokenized=True, add_special_tokens=False
        )
        result = []
        for sentence, encoding in zip(sentences, encodings, strict=True):
            pieces: list[list[int]] = [[] for _ in sentence]
            for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
                pieces[word].append(token)
            pieces = [piece[: self.capacity] or [self.unknown] for piece in pieces]
            spans = balanced_windows([len(piece) for piece in pieces], self.capacity)
            result.append([self._window(pieces, span) for span in spans])
        return result

    def _window(self, pieces: Sequence[list[int]], span: range) -> Window:
        tokens: list[int] = []
        positions = []
        for word in span:
            positions.append(len(self.single.ids[0]) + len(tokens))
            tokens += pieces[word]
        sizes = [len(pieces[word]) for word in span]
        return Window(*self.single.around(tokens), positions, span, sizes)

    def texts(self, texts: Sequence[str]) -> list[list[Window]]:
        """Encode texts, one window each; what does not fit is cut off."""
        encodings = self._encode(texts)
        cut = (encoding.ids[: self.capacity] for encoding in encodings)
        return [[Window(*self.single.around(tokens), [], range(0))] for tokens in cut]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[list[Window]]:
        """Encode pairs of texts, one window each; of one that does not fit the longer is cut."""
        firsts = self._encode([first for first, _ in pairs])
        seconds = self._encode([second for _, second in pairs])
        room = self.max_length - self.double.size
        result = []
        for first, second in zip(firsts, seconds, strict=True):
            kept = min(len(first.ids), max(room - len(second.ids), room - room // 2))
            texts = first.ids[:kept], second.ids[: room - kept]
            result.append([Window(*self.double.around(*texts), [], range(0))])
        return result

    def lines(self, lines: Sequence[str]) -> list[list[Window]]:
        """Encode raw lines for language modelling, long ones as several windows between words.

        Windows that hold nothing but special and unknown tokens are left out: there is nothing
        to predict in them.
        """
        result = []
        for encoding in self._encode(lines):
            words = (len(list(run)) for _, run in groupby(encoding.word_ids))
            sizes = list(cut(words, self.capacity))
            bounds = [0, *accumulate(sizes)]
            spans = balanced_windows(sizes, self.capacity)
            texts = [encoding.ids[bounds[span.start] : bounds[span.stop]] for span in spans]
            result.append(
                [
                    Window(*self.single.around(tokens), [], range(0))
                    for tokens in texts
                    if not self.special.issuperset(tokens)
                ]
            )
        return result

    def _encode(self, texts: Sequence[str]) -> Any:
        return self.backend.encode_batch([nfc(text) for text in texts], add_special_tokens=False)


def nfc(text: str) -> str:
    """Normalise to Unicode NFC."""
    return unicodedata.normalize("NFC", text)


def plain_backend(tokenizer: Any) -> Any:
    """Return the `tokenizers.Tokenizer` of a fast tokenizer, with truncation and padding off.

    Either may be on from its file or an earlier call; transformers sets both anew at every call.
    """
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend


def _frame(backend: Any, *texts: str) -> Frame:
    """Find the special tokens by encoding a short text or two."""
    encoding = backend.encode(*texts)
    ids: list[list[int]] = [[]]
    types: list[list[int]] = [[]]
    text_types: list[int] = []
    for token, type_id, text in zip(
        encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True
    ):
        if text is None:
            ids[-1].append(token)
            types[-1].append(type_id)
        elif text == len(text_types):
            text_types.append(type_id)
            ids.append([])
            types.append([])
    return Frame(ids, types, text_types)


def _word_prefix(backend: Any) -> str:
    """Find what a word given alone needs before it to be split as it is inside a sentence.

    WordPiece and most Unigram tokenizers need nothing. Byte-level BPE (RoBERTa, ModernBERT)
    writes the space before a word into its first sub-word, and adds none by itself.
    """

    def ids(text: Any, pretokenized: bool = False) -> list[int]:
        encoding = backend.encode(text, is_pretokenized=pretokenized, add_special_tokens=False)
        return list(encoding.ids)

    inside = ids("a a")[len(ids("a")) :]
    return next((prefix for prefix in ("", " ") if ids([f"{prefix}a"], True) == inside), "")


def unknown_share(rows: Sequence[Sequence[int]], tokenizer: Any) -> float:
    """Return the share of sub-words, special ones aside, that a tokenizer has no piece for."""
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    counted = [index for row in rows for index in row if index not in special]
    return counted.count(tokenizer.unk_token_id) / len(counted) if counted else 0.0
