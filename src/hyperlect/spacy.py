"""A component of spaCy pipelines that sets tags, entities and trees.

    nlp = spacy.blank("is")
    nlp.add_pipe("hyperlect", config={"model": "runs/mine", "tasks": ["pos", "ner"]})

Importing this module registers the component: spaCy does so by itself, by the entry point of the
package, when it makes its first pipeline. PyTorch waits until a pipeline has the component.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from spacy.attrs import DEP, HEAD
from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.tokens import Doc, Span, Token
from spacy.util import minibatch

from .errors import HyperlectError, UnknownNameError
from .languages import resolve
from .tasks import UPOS, Task, TaskType

if TYPE_CHECKING:
    from .predict import Prediction

Sentence = Sequence[Token]
"""The words of a sentence; white space is no word."""
Predicted = Sequence[tuple[Sentence, "Prediction"]]


@Language.factory(  # type: ignore[untyped-decorator]
    "hyperlect",
    default_config={"tasks": None, "language": None, "revision": None, "device": "cpu"},
    assigns=["token.pos", "token.tag", "token.dep", "token.head", "doc.ents"],
)
def make_component(
    nlp: Language,
    name: str,
    model: str,
    tasks: list[str] | None,
    language: str | None,
    revision: str | None,
    device: str,
) -> "HyperlectComponent":
    """Make the component, and load its model.

    Args:
        nlp: the pipeline.
        name: of the component in it.
        model: a run folder, or an id on the hub.
        tasks: of the model, over words; all of these by default.
        language: any language; that of the pipeline by default.
        revision: a branch, tag or commit on the hub.
        device: "cpu", "cuda" or "mps".

    Raises:
        UnknownNameError: there is no such task, or the language is not one ("xx" for instance).
        HyperlectError: a task does not label words, or two would set the same attribute; or the
            model cannot be loaded.
    """
    from .model import HyperX

    try:
        code = resolve(language or nlp.lang)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} Name it in the config, as language.") from None
    loaded = HyperX.from_pretrained(model, revision=revision, device=device)
    return HyperlectComponent(name, loaded, tasks, code)


class HyperlectComponent(Pipe):  # type: ignore[misc]
    """Sets what a model predicts of the words of documents in one language.

    The tokens of a document are the words; white space is left out. Its sentences are predicted one
    by one where their boundaries are set (by `sentencizer`, for instance); else the whole document
    is one sentence. Trees set the boundaries anew: each is a sentence.

    `nlp.to_disk` stores the config, and so the model's folder or hub id, not the model.

    Args:
        name: of the component.
        model: a `HyperX`.
        tasks: names of its tasks; None for all over words.
        language: the ISO 639-3 code.

    Attributes:
        attributes: task → what it sets: "pos" (universal parts of speech), "tag" (other tags),
            "ents" or "heads".
    """

    def __init__(self, name: str, model: Any, tasks: Sequence[str] | None, language: str) -> None:
        self.name, self.model, self.language = name, model, language
        if tasks is None:
            tasks = [task.name for task in model.tasks.values() if task.type.reads_words]
        self.attributes: dict[str, str] = {}
        for task in map(model.task, tasks):
            attribute = _attribute(task)
            if attribute in self.attributes.values():
                what = f'The task "{task.name}" sets {attribute}, as another task does'
                raise HyperlectError(f"{what}. Name the tasks in the config, as tasks.")
            self.attributes[task.name] = attribute

    def __call__(self, doc: Doc) -> Doc:
        """Set the attributes of a document."""
        self._set([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Set the attributes of documents, which go through the model `batch_size` at a time."""
        with self.model.cached_weights():
            for docs in minibatch(stream, batch_size):
                try:
                    self._set(docs)
                except Exception as error:  # what is to be done then, the pipeline says
                    self.get_error_handler()(self.name, self, docs, error)
                else:
                    yield from docs

    def _set(self, docs: Sequence[Doc]) -> None:
        sentences = [list(_sentences(doc)) for doc in docs]
        words = [[token.text for token in tokens] for of_doc in sentences for tokens in of_doc]
        predictions = iter(self.model.predict(words, list(self.attributes), self.language))
        for doc, of_doc in zip(docs, sentences, strict=True):
            answers = [(tokens, next(predictions)) for tokens in of_doc]
            for task, attribute in self.attributes.items():
                _SETTERS[attribute](doc, [(tokens, by_task[task]) for tokens, by_task in answers])


def _attribute(task: Task) -> str:
    """Return what a task sets. Raises `HyperlectError` for one that does not label words."""
    if task.type is TaskType.TAGGING:
        return "pos" if set(task.labels) <= set(UPOS) else "tag"
    if task.type in (TaskType.SPANS, TaskType.PARSING):
        return "ents" if task.type is TaskType.SPANS else "heads"
    raise HyperlectError(f'The task "{task.name}" ({task.type}) does not label words.')


def _sentences(doc: Doc) -> Iterator[Sentence]:
    spans = doc.sents if doc.has_annotation("SENT_START") else [doc[:]]
    for span in spans:
        if tokens := [token for token in span if not token.is_space]:
            yield tokens


def _set_labels(doc: Doc, predicted: Predicted, attribute: str = "tag_") -> None:
    for tokens, prediction in predicted:
        for token, label in zip(tokens, prediction.labels, strict=True):
            setattr(token, attribute, label)


def _set_pos(doc: Doc, predicted: Predicted) -> None:
    for token in doc:
        if token.is_space:
            token.pos_ = "SPACE"
    _set_labels(doc, predicted, "pos_")


def _set_entities(doc: Doc, predicted: Predicted) -> None:
    spans = ((tokens, span) for tokens, prediction in predicted for span in prediction.spans)
    doc.set_ents([Span(doc, t[s.start].i, t[s.end - 1].i + 1, label=s.label) for t, s in spans])


def _set_heads(doc: Doc, predicted: Predicted) -> None:
    """Set heads and relations. The root's is called ROOT, as spaCy calls it.

    White space hangs on the word before it; at the beginning, on the first word.
    """
    owners, relations = list(range(len(doc))), ["dep"] * len(doc)
    for tokens, prediction in predicted:
        for token, head, label in zip(tokens, prediction.heads, prediction.labels, strict=True):
            owners[token.i] = tokens[head - 1].i if head else token.i
            relations[token.i] = label if head else "ROOT"
    last = next((token.i for token in doc if not token.is_space), 0)
    for token in doc:
        if token.is_space:
            owners[token.i] = last
        else:
            last = token.i
    distances = np.asarray(owners, dtype=np.int64) - np.arange(len(doc))
    names = [doc.vocab.strings.add(relation) for relation in relations]
    columns = distances.view(np.uint64), np.asarray(names, dtype=np.uint64)
    if len(doc):
        doc.from_array([HEAD, DEP], np.stack(columns, axis=1))


_SETTERS = {"pos": _set_pos, "tag": _set_labels, "ents": _set_entities, "heads": _set_heads}
