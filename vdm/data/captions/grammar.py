"""Sentences that say attributes, and what sentences say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

SLOT = re.compile(r"\[([^\[\]{}]*)\{(\w+)\.(\d)\}([^\[\]{}]*)\]|\{(\w+)\.(\d)\}")
"""[, {slant.1}], which is left out where nothing is said of the slant, or {class.0}, which is always said."""


@dataclass(frozen=True)
class Grammar:
    """Phrases of each value of each attribute, and templates of sentences with places for them.

    `{slant.1}` is phrase 1 of the slant that there is; in square brackets it is left out, with what is beside it, where
    there is none. What a template does not name, its sentence leaves open.

    >>> weights = {"light": ("light", "thin"), "bold": ("bold", "heavy")}
    >>> grammar = Grammar({"class": {"8": ("eight",)}, "weight": weights}, ("a[ {weight.0}] {class.0}",))
    >>> grammar.captions({"class": "8", "weight": "bold"}), grammar.captions({"class": "8", "weight": ""})
    (('a bold eight',), ('an eight',))
    >>> grammar.attributes_of("a very heavy Eight"), grammar.unknown("a very heavy Eight")
    ({'class': '8', 'weight': 'bold'}, ['very'])
    """

    phrases: Mapping[str, Mapping[str, Sequence[str]]]
    """Of each attribute, of each of its values; those that no template has are read alone. None says two things."""
    templates: Sequence[str]
    """The first says all there is to say."""

    def captions(self, attributes: Mapping[str, str]) -> tuple[str, ...]:
        """A sentence by each template, those that are the same once. An attribute of value "" is not said."""
        return tuple(dict.fromkeys(self._sentence(template, attributes) for template in self.templates))

    def _sentence(self, template: str, attributes: Mapping[str, str]) -> str:
        sentence = SLOT.sub(partial(self._said, attributes), template)
        return re.sub(r"\ba (?=[aeiou](?!ne\b))", "an ", sentence)  # a one

    def _said(self, attributes: Mapping[str, str], slot: re.Match[str]) -> str:
        before, optional, number, after, always, number_always = slot.groups(default="")
        if optional and not attributes[optional]:
            return ""
        name = optional or always
        return before + self.phrases[name][attributes[name]][int(number or number_always)] + after

    def attributes_of(self, text: str) -> dict[str, str | None]:
        """What a text says of each attribute, in whatever order and among whatever other words; None where nothing.

        Raises ValueError for a text that says two values of one attribute.
        """
        found: dict[str, str | None] = dict.fromkeys(self.phrases)
        for match in self._pattern.finditer(text.casefold()):
            name, value = self._meaning[match[0]]
            if found[name] not in (None, value):
                raise ValueError(f"{text!r} says of the {name} both {found[name]!r} and {value!r}: must be one")
            found[name] = value
        return found

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are of no phrase and no template."""
        left = re.findall(r"\w+", self._pattern.sub(" ", text.casefold()))
        return [word for word in dict.fromkeys(left) if word not in self._fillers]

    def combination(self, text: str) -> dict[str, str]:
        """The values that a text of this grammar says.

        Raises ValueError for one that says two of one attribute, nothing at all, or has words of no phrase.
        """
        said = {name: value for name, value in self.attributes_of(text).items() if value is not None}
        if (words := self.unknown(text)) or not said:
            problem = f"unknown are {', '.join(map(repr, words))}" if words else "says nothing"
            known = "; ".join(f"{name}: {', '.join(self._first(name))}" for name in self.phrases)
            raise ValueError(f"{text!r}: {problem}; known are, among others, {known}")
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
        """Long phrases first: "in bright light" is not "light"."""
        longest = sorted(self._meaning, key=len, reverse=True)
        return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)")

    @cached_property
    def _fillers(self) -> set[str]:
        return {word for template in self.templates for word in re.findall(r"\w+", SLOT.sub(" ", template))} | {"an"}
