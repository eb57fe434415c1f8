"""One YAML file as plain data, with the line of every key and everything that is wrong with it.

Recipes, the files of experiments and the arguments of released checkpoints are read this way:

    document = Document.read(path)
    document.override("training.steps=200")              # --set
    document.expand(os.environ)                          # ${VARIABLE}
    recipe = document.validate(Recipe)                   # pydantic's errors, in plain words
    document.add(("training", "steps"), "must be even")  # what no single key shows
    document.raise_if_any()                              # one error with all of it

The text is read by the rules of YAML 1.2: ``no`` is text (and the code of a language), ``1e-3`` is
a number, and a key is always the text that is written there.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from ..errors import HyperlectError, Problems, RecipeError, counted, nearest

Model = TypeVar("Model", bound=BaseModel)

SET = 0
"""The line of what ``--set`` gave."""

_TAG = "tag:yaml.org,2002:"
_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
_VARIABLE = re.compile(r"(?P<escape>\$)?\$\{(?P<name>[^:}${]*)(?::-(?P<default>[^}]{0,1000}))?\}")


_DEEPEST = 50
_MOST_REPEATED = 100_000
"""Values that aliases may repeat, in all: a few lines can stand for a million."""
_ODD = re.compile(r"[\x00\ud800-\udfff]")
_LONGEST_NUMBER = 100


@dataclass
class Document:
    """One YAML file as plain data.

    Attributes:
        data: dicts, lists and scalars.
        path: the file; None for data from elsewhere.
        what: names it in the error: "The recipe".
        error: the sort of error to raise.
        renamed: the path of each key under its old name → its new name in the same section. The
            old one is accepted, with a warning that names the new one and the line.
        warn: whether to warn of it.
        lines: the line of each key and item, counted from 1; `SET` for what ``--set`` gave.
        broken: the sections that cannot be used as they are, so that checks between sections can
            leave out what merely follows from it. Of a table of sections, it is single entries.
        unset: the paths of texts that name a variable without a value.
    """

    data: dict[str, Any]
    path: Path | None = None
    what: str = "The recipe"
    error: type[HyperlectError] = RecipeError
    renamed: Mapping[Pattern, str] = field(default_factory=dict)
    warn: bool = True
    lines: dict[Loc, int] = field(default_factory=dict)
    broken: set[Loc] = field(default_factory=set)
    unset: set[Loc] = field(default_factory=set)
    _faults: dict[tuple[Loc, str], None] = field(default_factory=dict)
    _values: int = 0

    @classmethod
    def read(cls, path: Path, what: str = "The recipe", **options: Any) -> Document:
        """Read a file. Keys that are written twice and the like are noted, not raised.

        Args:
            path: the file.
            what: names it in the error.
            options: other attributes of the document.

        Raises:
            HyperlectError: of the sort `error`; the file cannot be read, is not YAML, or is not a
                block of keys.
        """
        document = cls({}, path, what, **options)
        try:
            data = document._parse(path.read_text(encoding="utf-8-sig"), ())
        except (UnicodeDecodeError, OSError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            reason = "it is a folder" if path.is_dir() else reason
            hint = nearest(path.name, [near.name for near in path.parent.glob("*.y*ml")])
            raise document.error(f"{path} cannot be read: {reason}.{hint}") from error
        if not isinstance(data, dict):
            if not document._faults:
                document.add((), "write lines of the form key: value; there are none")
            document.raise_if_any()
        document.data = data
        return document

    def override(self, text: str) -> None:
        """Put one ``key.path=value`` of ``--set`` into the data.

        The value is read as YAML. Items of lists are counted from 0.
        """
        path, equals, value = text.partition("=")
        names = path.strip().split(".")
        fault = "" if equals and all(names) else "write key.path=value, as in training.steps=200"
        parent: Any = None
        here: Any = self.data
        loc: Loc = ()
        for name in names:
            if here is None:
                here = parent[loc[-1]] = {}
                self.lines.setdefault(loc, SET)
            is_item = isinstance(here, list) and name in map(str, range(len(here)))
            if not is_item and not isinstance(here, dict):
                fault = fault or f'{dotted(loc)} has no "{name}"; items are counted from 0'
                break
            key = int(name) if is_item else self._present(loc, name, SET)
            parent, here, loc = here, here[key] if is_item else here.get(key), (*loc, key)
        if fault:
            loc = (text,)
            self.add(loc, fault)
        else:
            parent[loc[-1]] = self._parse(value, loc)
        kept = {place: line for place, line in self.lines.items() if place[: len(loc)] != loc}
        self.lines = kept | {loc: SET}

    def fill(self, defaults: Mapping[str, Any]) -> None:
        """Put values in for keys that are not written, in sections of sections too."""

        def filled(written: Any, default: Any) -> Any:
            if not (isinstance(written, dict) and isinstance(default, Mapping)):
                return written
            both = {key: filled(value, default.get(key)) for key, value in written.items()}
            return both | {key: value for key, value in default.items() if key not in written}

        self.data = filled(self.data, defaults)

    def expand(
        self, environment: Mapping[str, str], later: Sequence[Pattern] = (), strict: bool = True
    ) -> None:
        """Put values in for ``${VAR}`` and ``${VAR:-default}`` in every text.

        ``$${`` stands for ``${`` itself. Each variable without a value is one fault, which names
        all the keys that need it; their paths are in `unset`.

        Args:
            environment: the variables.
            later: the texts that stay as they are, for `fill_in` where they are used.
            strict: whether the variables of these must have values already.
        """
        needed: dict[str, list[Loc]] = defaultdict(list)

        def expanded(text: str, loc: Loc) -> str:
            keep = matches(loc, *later)
            if keep and not strict:
                return text
            filled = fill_in(text, environment, lambda name: needed[name].append(loc))
            return text if keep else filled

        self.data = map_texts(self.data, expanded)
        for name, locs in needed.items():
            self.unset.update(locs)
            where = ", ".join(dict.fromkeys(map(dotted, locs)))
            what = f"the environment variable {name} has no value (needed by {where})"
            self.add(locs[0], f"{what}; run `export {name}=…`, or write ${{{name}:-default}}")

    def validate(
        self, model: type[Model], stand_ins: Mapping[Pattern, Any] | None = None
    ) -> Model | None:
        """Make a pydantic model of the data, and note all that is wrong with it.

        What is wrong is left out and the rest tried again, so that checks between sections can
        look at all that is sound. The data itself does not change.

        Args:
            model: what to make.
            stand_ins: sound data in place of a key or section that is required but unusable.

        Returns:
            The model, of sound values alone; None where a required one has no stand-in.
        """
        sections = sections_of(model)
        data = copy.deepcopy(self.data)
        is_whole = changed = True
        while changed:
            try:
                return model.model_validate(data)
            except ValidationError as error:
                changed = False
                for detail in error.errors(include_url=False):
                    loc = _place_in(data, detail["loc"])
                    missing = detail["type"] == "missing"
                    around = (loc[:size] for size in range(1, len(loc) + 1))
                    # The outermost one: an entry of a table, or a top-level key.
                    section = next((p for p in around if matches(p, *sections)), loc[:1])
                    self.broken.add(section)
                    if loc not in self.unset and (is_whole or not missing):
                        self.add(loc, _explained(loc, detail, sections))
                    changed |= _take_out(data, section if missing else loc, stand_ins or {})
                is_whole = False
        return None

    def add(self, loc: Loc, message: str) -> None:
        """Note that something is wrong at a key; the same thing twice counts once."""
        self._faults[loc, message] = None

    def line(self, loc: Loc) -> int | None:
        """Return the line of a key, or of the nearest thing around it; None where there is none."""
        around = (loc[:length] for length in range(len(loc), 0 if loc else -1, -1))
        return next((self.lines[place] for place in around if place in self.lines), None)

    def is_broken(self, *loc: str | int) -> bool:
        """Whether a section, or any entry of it, cannot be used."""
        return any(broken[: len(loc)] == loc for broken in self.broken)

    def raise_if_any(self, hint: str = "") -> None:
        """Raise one error with all that was noted, in the order of the file, if there is anything.

        Args:
            hint: comes first in the message.
        """
        problems = Problems(str(self.path or ""), shown=100)
        for loc, message in sorted(self._faults, key=lambda fault: self.line(fault[0]) or 0):
            if (line := self.line(loc)) == SET:
                problems.add(message, key=f"--set {dotted(loc)}", file="")
            else:
                problems.add(message, line, dotted(loc))
        heading = f"{self.what} has {counted(len(self._faults), 'fault')}:"
        problems.raise_if_any(self.error, f"{hint}\n{heading}".strip())

    def _present(self, loc: Loc, key: str, line: int) -> str:
        """Return the present name of a key, with a warning where an old one is written."""
        new = self.renamed.get((*map(str, loc), key))
        if new is not None and self.warn:
            where = "--set " if line == SET else f"{self.path}:{line}, "
            what = f"is called {new} now; the next version will not know the old name"
            warnings.warn(f"{where}{dotted((*loc, key))} {what}", stacklevel=1)
        return key if new is None else new

    def _parse(self, text: str, loc: Loc) -> Any:
        """Read YAML text that belongs at a path; None where it is not YAML at all."""
        try:
            yaml, node = _compose(text)
            self._values = len(text) + _MOST_REPEATED
            return None if node is None else self._construct(yaml, node, loc)
        except RecursionError:
            self.add(loc, "it is nested too deep, or an alias is inside of what it repeats")
        except MarkedYAMLError as error:
            mark: Any = error.problem_mark or error.context_mark
            variable = "${" in "".join(text.splitlines()[mark.line : mark.line + 1])
            hint = '; inside of {} put values with ${…} in quotes: "${DATA}/x"' if variable else ""
            self.lines.setdefault(loc, mark.line + 1)
            self.add(loc, f"this is not valid YAML: {error.problem or error.context}{hint}")
        except YAMLError as error:
            self.add(loc, f"this is not valid YAML: {error}")
        return None

    def _construct(self, yaml: YAML, node: Any, loc: Loc) -> Any:
        """Turn a node into plain data; note lines and faults."""
        self.lines.setdefault(loc, node.start_mark.line + 1)
        self._values -= 1
        if len(loc) > _DEEPEST:
            raise RecursionError
        if self._values < 0:
            raise YAMLError("aliases repeat too much; write out less")
        kind = node.tag.removeprefix(_TAG)
        if kind not in _KINDS:
            self.add(loc, f"the tag {node.tag} is not used here; remove it")
        if isinstance(node, ScalarNode):
            text = self._text(node.value, loc)
            # YAML 1.2 has no 1_000. Truth values stay text: only the model knows where true is one.
            # So does 010: a label in a list, or else a number that pydantic reads.
            is_plain = not node.style and len(text) < _LONGEST_NUMBER
            is_plain = is_plain and not re.search(r"_|^[-+]?0\d", text)
            is_value = is_plain and kind in ("int", "float", "null")
            return yaml.constructor.construct_object(node) if is_value else text
        if isinstance(node, SequenceNode):
            return [self._construct(yaml, item, (*loc, n)) for n, item in enumerate(node.value)]
        merged: dict[str, Any] = {}
        pairs: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self.add(loc, "a key must be a word, not a list or a block of keys")
            elif key.tag == f"{_TAG}merge":
                for block in value.value if isinstance(value, SequenceNode) else [value]:
                    content = self._construct(yaml, block, loc)
                    merged = content | merged if isinstance(content, dict) else merged
            else:
                name = self._present(loc, self._text(key.value, loc), line)
                place = (*loc, name)
                if name in pairs:
                    self.add(place, f"is written twice, in lines {self.lines[place]} and {line}")
                pairs[name] = self._construct(yaml, value, place)
                self.lines[place] = line
        return merged | pairs

    def _text(self, text: str, loc: Loc) -> str:
        """Return a text of the file without what can stand in no name; it is noted."""
        if _ODD.search(text):
            self.add(loc, "a text holds a NUL character, or half of a surrogate pair; remove it")
        return _ODD.sub("", text)


@lru_cache(maxsize=16)
def _compose(text: str) -> tuple[YAML, Any]:
    """Parse YAML text, which takes most of the time; an experiment loads a recipe many times."""
    yaml = YAML(typ="safe", pure=True)
    return yaml, yaml.compose(text)


def fill_in(
    text: str, environment: Mapping[str, str], unset: Callable[[str], None] = lambda name: None
) -> str:
    """Put values in for the variables of one text. `unset` hears of those that stay without."""

    def value(match: re.Match[str]) -> str:
        if match["escape"]:
            return match[0][1:]
        filled = environment.get(match["name"]) or match["default"]
        if filled is None:
            unset(match["name"])
        return match[0] if filled is None else filled

    return _VARIABLE.sub(value, text)


def _place_in(data: Any, loc: Loc) -> Loc:
    """Return pydantic's path of a fault without what is no key of the data.

    Members of unions, and keys of tables themselves, are in brackets.
    """
    place: list[str | int] = []
    for key in loc:
        is_key = isinstance(data, dict) and key in data
        if is_key or not str(key).startswith("["):
            place.append(key)
            item = isinstance(data, list) and isinstance(key, int) and key < len(data)
            data = data[key] if is_key or item else None
    return tuple(place)


def _take_out(data: Any, loc: Loc, stand_ins: Mapping[Pattern, Any]) -> bool:
    """Remove the value at a path, or put its stand-in there. Return whether there was one.

    A list with a faulty item cannot be used at all, unless the item has a stand-in.
    """
    *around, key = loc
    stand_in = next((sound for pattern, sound in stand_ins.items() if matches(loc, pattern)), None)
    if stand_in is None and isinstance(key, int):
        return _take_out(data, loc[:-1], stand_ins)
    for outer in around:
        data = data.get(outer, {}) if isinstance(data, dict) else data[outer]
    is_there = stand_in is not None or key in data
    if stand_in is None:
        data.pop(key, None)
    else:
        data[key] = copy.deepcopy(stand_in)
    return is_there


def map_texts(value: Any, change: Callable[[str, Loc], str], loc: Loc = ()) -> Any:
    """Return plain data with each text as `change` makes it of the text and its path."""
    if isinstance(value, dict):
        return {key: map_texts(item, change, (*loc, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change, (*loc, index)) for index, item in enumerate(value)]
    return change(value, loc) if isinstance(value, str) else value


class _Representer(SafeRepresenter):
    """Quotes every text that some reader of YAML 1.1 or 1.2 would read as something else."""

    def represent_str(self, data: Any) -> Any:
        plain = re.fullmatch(r"[^\W\d_](?:[\w ./-]*[\w./-])?", data)
        word = re.fullmatch(r"y|n|yes|no|on|off|true|false|null", data, re.IGNORECASE)
        return self.represent_scalar(f"{_TAG}str", data, style=None if plain and not word else '"')

    def represent_float(self, data: Any) -> Any:
        node = super().represent_float(data)
        if "." not in node.value:
            node.value = node.value.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as text
        return node


_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(float, _Representer.represent_float)


def dump_document(data: Any) -> str:
    """Write plain data as YAML that `Document.read` reads back, as does any other reader."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = None
    yaml.width = 1000  # a list of labels is one line
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


Loc = tuple[str | int, ...]
"""The path of a key: ``("data", 0, "cells", "eng")``."""
Pattern = tuple[str, ...]
"""The paths of many keys: ``("data", "*", "cells", "*")``, where ``*`` is any name or item."""

# What other tools call a key or a value → what it is called here, or what to do.
_DELIMITER = "Name the format instead: csv has commas, tsv has tabs."
_USUAL = {
    **{"pos": "tagging", "ner": "spans", "dep": "parsing", "topic": "classification"},
    **{"nli": "pairs", "txt": "text", "json": "jsonl", "ndjson": "jsonl", "ud": "conllu"},
    **dict.fromkeys(("bio", "iob", "iob1", "iob2", "bioes", "conll2003"), "columns"),
    **dict.fromkeys(("delimiter", "delim", "sep", "separator"), _DELIMITER),
    **{"lr": "learning_rate", "max_steps": "steps", "warmup_steps": "warmup"},
    "epochs": "Training is counted in steps: write training.steps.",
}

# What pydantic says → what a person says.
_PLAIN = {
    "Field required": "is required",
    r"String should match pattern.*": "must be made of letters, digits, -, _ and .",
    r"\w+ should have at least 1 \w+.*": "must not be empty",
    r"\w+ should ": "must ",
    r"(,| or( an)?) (unable to|instance of|got a number) .*": "",
    "a valid (tuple|list)": "a list",
    "a (valid )?dictionary": "a block of keys",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}


def _explained(loc: Loc, detail: ErrorDetails, sections: Mapping[Pattern, Any]) -> str:
    """Say in plain words what pydantic found wrong."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return _unknown_key(loc, sections)
    if kind == "value_error":
        return str(context["error"])
    if value is None:
        return "is empty; write a value, or remove the key"
    if kind == "string_type" and isinstance(value, int | float):
        return "is read as a number; if it is text, write it in quotes"
    message = detail["msg"]
    for pattern, plain in _PLAIN.items():
        message = re.sub(pattern, plain, message)
    if kind == "missing" or message.endswith("empty"):
        return message
    blocks: dict[type, str] = {list: "a list", dict: "a block of keys", str: f'"{value}"'}
    known = re.findall(r"'(.*?)'", context.get("expected", ""))
    hint = nearest(_USUAL.get(str(value).lower(), str(value)), known)
    return f"{message}, not {blocks.get(type(value), value)}{hint and f'.{hint}'}"


def _unknown_key(loc: Loc, sections: Mapping[Pattern, Any]) -> str:
    """Suggest what an unknown key may mean: a near name, or the same name in another section."""
    name = _USUAL.get(str(loc[-1]).lower(), str(loc[-1]))
    if " " in name:
        return f"there is no such key. {name}"
    keys = {}
    for place, section in sections.items():
        fields = getattr(section, "model_fields", None) or section.__dataclass_fields__
        keys[place] = (*fields, *getattr(section, "ignored", ()))  # which are accepted
    known = [key for place in keys if matches(loc[:-1], place) for key in keys[place]]
    elsewhere = [dotted((*place, name)) for place in keys if name in keys[place]]
    hint = nearest(name, known)
    if elsewhere and name not in known:
        hint += f' Or "{elsewhere[0]}"?' if hint else f' Did you mean "{elsewhere[0]}"?'
    return f"there is no such key.{hint or ' Known here: ' + ', '.join(known) + '.'}"


def sections_of(kind: Any, place: Pattern = ()) -> dict[Pattern, type[Any]]:
    """Return a model, and the models and dataclasses inside of it, by their places."""
    sections: dict[Pattern, type[Any]] = {}
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        sections[place] = kind
        for name, field in getattr(kind, "model_fields", {}).items():
            sections |= sections_of(field.annotation, (*place, name))
    inner = (*place, "*") if get_origin(kind) in (dict, tuple, list) else place
    for argument in get_args(kind):
        sections |= sections_of(argument, inner)
    return sections


def dotted(loc: Loc) -> str:
    """Write the path of a key as ``--set`` takes it: ``data.0.cells.eng``."""
    return ".".join(map(str, loc))


def matches(loc: Loc, *patterns: Pattern) -> bool:
    """Whether a path is one of those that any of the patterns means."""
    return any(
        len(loc) == len(pattern) and all(w in ("*", k) for k, w in zip(loc, pattern, strict=True))
        for pattern in patterns
    )
