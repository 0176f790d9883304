"""Reads the YAML of a ``config.yaml`` and of the files that it includes, with the line of each value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from routing.litellm_config.remarks import Remark
from routing.litellm_config.values import Fields, Found, InvalidConfig, Items, Tagged

_MOST_FILES = 200
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.CSafeLoader):
    """The C parser: 5,000 models are read in a second, not in ten."""

    file_name = ""  # of an included file
    flattened: set[int]
    #: What a file says twice in one mapping. YAML takes the last, and whole lists of models get lost without a word.
    said_twice: list[Remark]

    def line_of(self, node: yaml.Node) -> str:
        line = f"line {node.start_mark.line + 1}"
        return f"{line} of {self.file_name}" if self.file_name else line

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Looks for names that are there twice before a merge (``<<``) adds its own, which may be there again."""
        last: dict[str, yaml.Node] = {}
        for key, _ in node.value if id(node) not in self.flattened else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in last:
                why = f"is there again in {self.line_of(key)}: YAML takes the last, and this is lost"
                self.said_twice.append(Remark(key.value, self.line_of(last[key.value]), why))
            last[key.value] = key
        self.flattened.add(id(node))
        super().flatten_mapping(node)


def _fields(loader: _Loader, node: yaml.MappingNode) -> Fields:
    loader.flatten_mapping(node)
    fields = Fields()
    for key_node, value_node in node.value:
        name = str(loader.construct_object(key_node, deep=True))
        fields[name] = loader.construct_object(value_node, deep=True)
        fields.lines[name] = loader.line_of(key_node)
    return fields


def _items(loader: _Loader, node: yaml.SequenceNode) -> Items:
    items = Items()
    for value_node in node.value:
        items.append(loader.construct_object(value_node, deep=True))
        items.lines.append(loader.line_of(value_node))
    return items


def _tagged(_: _Loader, node: yaml.Node) -> Tagged:
    return Tagged(node.tag.replace("tag:yaml.org,2002:", "!!"))


_Loader.add_constructor("tag:yaml.org,2002:map", _fields)
_Loader.add_constructor("tag:yaml.org,2002:seq", _items)
_Loader.add_constructor(None, _tagged)  # every other tag: its value alone cannot be read


def read(text: str, environment: Mapping[str, str], path: Path | None, left_out: list[Remark]) -> Found:
    """The sections of the file. ``path`` is where it lies, beside the files that it includes; those that cannot be read
    are added to ``left_out``. Raises InvalidConfig when the file itself cannot."""
    sections = _sections(text, left_out)
    if "include" in sections:
        sections = _with_included(sections, environment, path, left_out)
    return Found(sections, "", "", environment)


def _sections(text: str, left_out: list[Remark], file_name: str = "") -> Fields:
    named = f"the file {file_name}" if file_name else "the file"
    of_one = {"file_name": file_name, "said_twice": left_out, "flattened": set[int]()}
    loader = type("_LoaderOfOne", (_Loader,), of_one)
    try:
        found: Any = yaml.load(text, Loader=loader)  # noqa: S506  a safe loader
    except yaml.MarkedYAMLError as error:
        # The error's own text would quote the line, which may hold a key.
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        if "another document" in f"{error.problem}":
            raise InvalidConfig(named, f"has a second document (---){place}: LiteLLM reads one") from None
        raise InvalidConfig(named, f"is not YAML{place}{_slip(error, text)}") from None
    except yaml.YAMLError:
        raise InvalidConfig(named, "is not YAML: it has characters that YAML does not allow") from None
    except (ValueError, RecursionError, OverflowError, TypeError):
        raise InvalidConfig(named, "is not YAML: it has a value that cannot be read") from None
    if found is None:
        return Fields()
    if not isinstance(found, Fields):
        raise InvalidConfig(named, "must be a mapping (name: value)")
    return found


def _slip(error: yaml.MarkedYAMLError, text: str) -> str:
    """The slip of the pen that people make most, by what the parser says of it."""
    said = f"{error.context} {error.problem}"
    if "alias" in said:
        return ": a value that begins with * needs quotes"
    mark = error.problem_mark
    if (
        "cannot start any token" in said
        and mark is not None
        and "\t" in text.splitlines()[mark.line][: mark.column + 1]
    ):
        return ": YAML is indented by spaces, not by tabs"
    return ""


def _with_included(
    sections: Fields, environment: Mapping[str, str], path: Path | None, left_out: list[Remark]
) -> Fields:
    """As LiteLLM does it: lists of an included file are appended, what else it says takes the place of ours. A file
    lies beside the one that names it, or beside the first."""
    main = path or Path("config.yaml")
    merged = _without_include(sections)
    seen = {main.resolve()}
    pending = [(sections, main)]
    while pending:
        naming, declared_in = pending.pop(0)
        try:
            for item in _names(naming, environment):
                name = item.text()
                beside = [(folder / name).resolve() for folder in (declared_in.parent, main.parent)]
                found = next((candidate for candidate in beside if candidate.exists()), beside[0])
                if found in seen:
                    continue
                seen.add(found)
                if len(seen) > _MOST_FILES:
                    raise item.refused(f"more than {_MOST_FILES} files are included")
                try:
                    included = _sections(_text_of(found, item), left_out, name)
                except InvalidConfig as error:
                    left_out.append(Remark.of(error, line=item.line))
                    continue
                pending.append((included, found))
                _merge(merged, _without_include(included))
        except InvalidConfig as error:
            left_out.append(Remark.of(error))
    return merged


def _text_of(path: Path, item: Found) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise item.refused(f"{item.text()} cannot be read: {reason}") from None


def _names(sections: Fields, environment: Mapping[str, str]) -> list[Found]:
    """The files that these sections include."""
    if "include" not in sections:
        return []
    return list(Found(sections["include"], "include", sections.lines["include"], environment).items())


def _without_include(sections: Fields) -> Fields:
    kept = Fields()
    for name, value in sections.items():
        if name != "include":
            kept[name] = value
            kept.lines[name] = sections.lines[name]
    return kept


def _merge(into: Fields, included: Fields) -> None:
    for name, value in included.items():
        before = into.get(name)
        if isinstance(before, Items) and isinstance(value, Items):
            joined = Items()
            joined += [*before, *value]
            joined.lines += [*before.lines, *value.lines]
            into[name] = joined
        else:
            into[name] = value
            into.lines[name] = included.lines[name]
