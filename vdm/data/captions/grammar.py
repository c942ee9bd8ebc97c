"""A grammar that writes sentences from attributes and reads attributes from sentences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

SLOT = re.compile(r"\[([^\[\]{}]*)\{(\w+)\.(\d)\}([^\[\]{}]*)\]|\{(\w+)\.(\d)\}")
"""A slot: [, {slant.1}], which is omitted if the slant has no value, or {class.0}, which is always present."""


@dataclass(frozen=True)
class Grammar:
    """Phrases for each value of each attribute, and sentence templates with slots for them.

    `{slant.1}` stands for phrase 1 of the current slant. A slot in square brackets is omitted, together with the text
    inside the brackets, if the attribute has no value. A sentence is silent about attributes that its template omits.

    >>> weights = {"light": ("light", "thin"), "bold": ("bold", "heavy")}
    >>> grammar = Grammar({"class": {"8": ("eight",)}, "weight": weights}, ("a[ {weight.0}] {class.0}",))
    >>> grammar.captions({"class": "8", "weight": "bold"}), grammar.captions({"class": "8", "weight": ""})
    (('a bold eight',), ('an eight',))
    >>> grammar.attributes_of("a very heavy Eight"), grammar.unknown("a very heavy Eight")
    ({'class': '8', 'weight': 'bold'}, ['very'])
    """

    phrases: Mapping[str, Mapping[str, Sequence[str]]]
    """Phrases by attribute and value; those that no template uses are only recognized. Each has a single meaning."""
    templates: Sequence[str]
    """Sentence templates; the first mentions every attribute."""

    def captions(self, attributes: Mapping[str, str]) -> tuple[str, ...]:
        """Return one sentence per template, without duplicates. Attributes with value "" are left unsaid."""
        return tuple(dict.fromkeys(self._sentence(template, attributes) for template in self.templates))

    def _sentence(self, template: str, attributes: Mapping[str, str]) -> str:
        sentence = SLOT.sub(partial(self._said, attributes), template)
        return re.sub(r"\ba (?=[aeiou](?!ne\b))", "an ", sentence)  # "a one", not "an one"

    def _said(self, attributes: Mapping[str, str], slot: re.Match[str]) -> str:
        before, optional, number, after, always, number_always = slot.groups(default="")
        if optional and not attributes[optional]:
            return ""
        name = optional or always
        return before + self.phrases[name][attributes[name]][int(number or number_always)] + after

    def attributes_of(self, text: str) -> dict[str, str | None]:
        """Return what a text says about each attribute, in any order and among any other words; None if nothing.

        Raises ValueError for a text that gives two values to one attribute.
        """
        found: dict[str, str | None] = dict.fromkeys(self.phrases)
        for match in self._pattern.finditer(text.casefold()):
            name, value = self._meaning[match[0]]
            if found[name] not in (None, value):
                raise ValueError(f"{text!r} gives the {name} as both {found[name]!r} and {value!r}: must be one")
            found[name] = value
        return found

    def unknown(self, text: str) -> list[str]:
        """Return the words of a text that occur in no phrase and no template."""
        left = re.findall(r"\w+", self._pattern.sub(" ", text.casefold()))
        return [word for word in dict.fromkeys(left) if word not in self._fillers]

    def combination(self, text: str) -> dict[str, str]:
        """Return the attribute values that a text specifies, using only words of this grammar.

        Raises ValueError for a text that gives two values to one attribute, says nothing, or contains unknown words.
        """
        said = {name: value for name, value in self.attributes_of(text).items() if value is not None}
        if (words := self.unknown(text)) or not said:
            problem = f"unknown words {', '.join(map(repr, words))}" if words else "says nothing"
            known = "; ".join(f"{name}: {', '.join(self._first(name))}" for name in self.phrases)
            raise ValueError(f"{text!r}: {problem}; known are, for example, {known}")
        return said

    def _first(self, name: str) -> list[str]:
        return [phrases[0] for phrases in self.phrases[name].values()]

    @cached_property
    def _meaning(self) -> dict[str, tuple[str, str]]:
        return {
            phrase: (name, value)
            for name, values in self.phrases.items()
            for value, phrases in values.items()
            for phrase in phrases
        }

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Match long phrases first, so that "in bright light" is not read as "light"."""
        longest = sorted(self._meaning, key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)")

    @cached_property
    def _fillers(self) -> set[str]:
        return {word for template in self.templates for word in re.findall(r"\w+", SLOT.sub(" ", template))} | {"an"}
