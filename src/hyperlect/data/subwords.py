"""From words and texts to sub-words: special tokens, the first sub-word of a word, windows."""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any

from ..errors import DataError


@dataclass(frozen=True)
class Window:
    """One input of the encoder: a whole example, or one stretch of a long one.

    Attributes:
        input_ids: sub-words with the special tokens around them.
        token_type_ids: one for each sub-word; used only if the tokenizer makes them.
        positions: where the first sub-word of each of its words is; empty for whole texts.
        words: which words of the example these are.
        sizes: the number of sub-words of each of its words, which are neighbours.
        truncated: whether the text was cut, since it is longer than a window.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    positions: list[int] = field(default_factory=list)
    words: range = range(0)
    sizes: list[int] = field(default_factory=list)
    truncated: bool = False


class Frame:
    """The special tokens that a tokenizer puts before, between and after one or two texts.

    Args:
        backend: the tokenizer.
        texts: a short one or two, which are encoded to find the special tokens.

    Attributes:
        tokens: the id of each, its token type, and None; in the place of each text one token that
            stands for it, with the type of its tokens and its number.
        size: the number of special tokens.
        start: the number of those before the first text.
    """

    def __init__(self, backend: Any, *texts: str) -> None:
        encoding = backend.encode(*texts)
        tokens = zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True)
        runs = groupby(tokens, key=itemgetter(2))
        self.tokens: list[tuple[int, int, int | None]] = [
            token for text, run in runs for token in (run if text is None else [next(run)])
        ]
        numbers = [text for _, _, text in self.tokens]
        self.size, self.start = numbers.count(None), numbers.index(0)

    def around(self, *texts: list[int]) -> tuple[list[int], list[int]]:
        """Put the special tokens around the sub-words of one or two texts.

        Returns:
            The ids, and the token type of each.
        """
        ids: list[int] = []
        types: list[int] = []
        for token, kind, text in self.tokens:
            subwords = [token] if text is None else texts[text]
            ids += subwords
            types += [kind] * len(subwords)
        return ids, types


class Subwords:
    """Splits words, texts and pairs into sub-words with one tokenizer.

    The fast tokenizer's backend is used directly, so that nothing depends on the class that
    transformers wraps it in. Unicode is normalised to NFC first: decomposed text would give many
    more sub-words. A control token written in a text, such as ``<mask>``, is text.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: the longest window in sub-words, special tokens counted.

    Attributes:
        capacity: how many sub-words of one text fit into a window.

    Raises:
        DataError: `max_length` leaves no room beside the special tokens.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.backend = plain_backend(tokenizer)
        self.max_length = max_length
        self.single, self.double = Frame(self.backend, "a"), Frame(self.backend, "a", "a")
        if max_length <= self.double.size + 1:
            room = f"leaves no room beside the {self.double.size} special tokens"
            raise DataError(f"max_length is {max_length}, which {room}. Choose a greater one.")
        self.capacity = max_length - self.single.size
        self.special = frozenset(tokenizer.all_special_ids)
        self.word_prefix = _word_prefix(self.backend)
        stand_ins = (tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id)
        self.unknown = next(token for token in stand_ins if token is not None)
        tokens = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, tokens)))

    @cached_property
    def _literal(self) -> Any:
        """A backend that knows no control tokens, neither as such nor as pieces of its vocabulary.

        It takes a second to make for a large vocabulary, so it serves only texts that need it.
        """
        from tokenizers import Tokenizer

        state = json.loads(self.backend.to_str())
        control = {token["content"] for token in state["added_tokens"] if token["special"]}
        state["added_tokens"] = [t for t in state["added_tokens"] if not t["special"]]
        vocabulary = state["model"].get("vocab")
        for entry in vocabulary if isinstance(vocabulary, list) else ():
            if entry[0] in control:  # Unigram would find the piece whole
                entry[0] = f"\ue000{entry[0]}"
        state["post_processor"] = None
        return Tokenizer.from_str(json.dumps(state))

    def _encode(self, texts: Sequence[Any], words: bool = False) -> list[Any]:
        """Encode texts, or lists of words, without special tokens."""
        options = {"is_pretokenized": words, "add_special_tokens": False}
        encodings: list[Any] = self.backend.encode_batch(texts, **options)
        for number, text in enumerate(texts):
            if any(map(self._control.search, text if words else [text])):
                encodings[number] = self._literal.encode(text, **options)
        return encodings

    def words(self, sentences: Sequence[Sequence[str]]) -> list[list[Window]]:
        """Encode sentences given as words; each word is in exactly one window of its sentence.

        Every word gets the sub-words that it has after a space inside running text. So does the
        first one, as if the sentence followed another; a tokenizer that adds no space by itself
        would write the first word of a text without one. Punctuation too is encoded as after a
        space, since words do not say whether there was one.

        A word without any sub-word (a lone control character) becomes the unknown token, for it
        must be scored like every other. A word longer than a window keeps its first sub-words.
        """
        spelled = [[self.word_prefix + nfc(word) for word in sentence] for sentence in sentences]
        result = []
        for sentence, encoding in zip(sentences, self._encode(spelled, words=True), strict=True):
            pieces: list[list[int]] = [[] for _ in sentence]
            for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
                pieces[word].append(token)
            pieces = [piece[: self.capacity] or [self.unknown] for piece in pieces]
            spans = balanced_windows([len(piece) for piece in pieces], self.capacity)
            result.append([self._window(pieces, span) for span in spans])
        return result

    def _window(self, pieces: Sequence[list[int]], span: range) -> Window:
        tokens = list(chain.from_iterable(pieces[span.start : span.stop]))
        sizes = [len(pieces[word]) for word in span]
        *positions, _ = accumulate(sizes, initial=self.single.start)
        return Window(*self.single.around(tokens), positions, span, sizes)

    def texts(self, texts: Sequence[str]) -> list[list[Window]]:
        """Encode texts, one window each; the end of a longer one is cut off."""
        result = []
        for encoding in self._encode([nfc(text) for text in texts]):
            ids = self.single.around(encoding.ids[: self.capacity])
            result.append([Window(*ids, truncated=len(encoding.ids) > self.capacity)])
        return result

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[list[Window]]:
        """Encode pairs of texts, one window each; if too long, the longer text is cut."""
        firsts = self._encode([nfc(first) for first, _ in pairs])
        seconds = self._encode([nfc(second) for _, second in pairs])
        room = self.max_length - self.double.size
        result = []
        for first, second in zip(firsts, seconds, strict=True):
            kept = min(len(first.ids), max(room - len(second.ids), room - room // 2))
            ids = self.double.around(first.ids[:kept], second.ids[: room - kept])
            truncated = len(first.ids) + len(second.ids) > room
            result.append([Window(*ids, truncated=truncated)])
        return result

    def lines(self, lines: Sequence[str]) -> list[list[Window]]:
        """Encode raw lines for language modelling, long ones as several windows between words.

        Windows that hold nothing but special and unknown tokens are left out: there is nothing to
        predict in them.
        """
        result, most = [], self.capacity
        for encoding in self._encode([nfc(line) for line in lines]):
            words = [len(list(run)) for _, run in groupby(encoding.word_ids)]
            # A word longer than a window is cut.
            sizes = [min(most, size - at) for size in words for at in range(0, size, most)]
            bounds, ids = [0, *accumulate(sizes)], encoding.ids
            spans = balanced_windows(sizes, most)
            texts = [ids[bounds[span.start] : bounds[span.stop]] for span in spans]
            kept = [text for text in texts if not self.special.issuperset(text)]
            result.append([Window(*self.single.around(text)) for text in kept])
        return result


def nfc(text: str) -> str:
    """Normalise to Unicode NFC."""
    return unicodedata.normalize("NFC", text)


def plain_backend(tokenizer: Any) -> Any:
    """Return the `tokenizers.Tokenizer` of a fast tokenizer, with truncation and padding off.

    Its file or an earlier call may have turned them on; transformers sets both at every call.
    """
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return backend


def balanced_windows(lengths: Sequence[int], capacity: int) -> list[range]:
    """Split a sequence into the fewest runs that fit, as even as possible.

    Args:
        lengths: of each item, none above `capacity`.
        capacity: the greatest sum of one run.

    Returns:
        Runs of indices, in order; the greatest sum among them is the least possible. None for
        an empty sequence.
    """
    if not lengths:
        return []
    if sum(lengths) <= capacity:
        return [range(len(lengths))]
    fewest = len(_fill(lengths, capacity))
    sizes = range(max(*lengths, -(-sum(lengths) // fewest)), capacity + 1)
    least = bisect_left(sizes, True, key=lambda size: len(_fill(lengths, size)) <= fewest)
    return _fill(lengths, sizes[least])


def _fill(lengths: Sequence[int], capacity: int) -> list[range]:
    """Fill one run after the other, which takes the fewest runs."""
    runs = []
    start = total = 0
    for index, length in enumerate(lengths):
        if total + length > capacity and index > start:
            runs.append(range(start, index))
            start, total = index, 0
        total += length
    return [*runs, range(start, len(lengths))]


def _word_prefix(backend: Any) -> str:
    """Return what a word given alone needs before it to be split as it is inside a sentence.

    WordPiece and most Unigram tokenizers need nothing. The BPE of RoBERTa, ModernBERT, EuroBERT
    and mmBERT writes the space before a word into its first sub-word, and adds none by itself.
    """

    def ids(text: Any, pretokenized: bool = False) -> list[int]:
        encoding = backend.encode(text, is_pretokenized=pretokenized, add_special_tokens=False)
        return list(encoding.ids)

    inside = ids("a a")[len(ids("a")) :]
    return next((prefix for prefix in ("", " ") if ids([f"{prefix}a"], True) == inside), "")


def unknown_share(rows: Sequence[Sequence[int]], tokenizer: Any) -> float:
    """Return the share of sub-words, special ones excluded, that are unknown to a tokenizer."""
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    counted = [index for row in rows for index in row if index not in special]
    return counted.count(tokenizer.unk_token_id) / len(counted) if counted else 0.0
