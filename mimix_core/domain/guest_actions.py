"""Reduce the action of a pasted character to what was pasted with it.

A cutout is the character alone. "sits on a bench with a smile beside a bubble tea" names two things
that stayed in the other scene: what remains true in the composite is "sits with a smile". A phrase
stays only when it is known to be the character's own (a part of its body, what it wears, its
manner) or to be in every scene (a direction, the ground); a clause whose object is a foreign thing
is dropped whole. It is a matter of words and of no picture: a thing in the character's hand is
dropped as well, and a caption that needs it is written by a model that sees it, or by a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mimix_core.domain.guest_vocabulary import (
    ADVERBS,
    BODY,
    COMPOUND_PREPOSITIONS,
    DEPENDENT_VERBS,
    DETERMINERS,
    INFINITIVE_VERBS,
    LINKING_VERBS,
    MANNER,
    POSSESSIVES,
    PREPOSITIONS,
    PRONOUNS,
    REFLEXIVES,
    SUBORDINATORS,
    SURROUNDINGS,
    TRAILING_ADJECTIVES,
    WEARING_VERBS,
    WORN,
)

_TOKEN = re.compile(r'"[^"]*"|[^\s,;]+|[,;]')
_JOINERS = frozenset({",", ";", "and", "then", "but", "or"})
_AUXILIARIES = frozenset({"is", "are", "keeps", "starts", "begins"})
_NEVER_LAST = frozenset({"from", "at", "for", "to", "with", "of"})


@dataclass(frozen=True)
class GuestAction:
    """An action without foreign things; ``text`` is empty when nothing remains.

    ``props``: the things that were named and not pasted, as the action names them.
    """

    text: str
    props: tuple[str, ...]


@dataclass
class _Clause:
    """``joiner``: the words before it. ``remaining``: its words that remain; empty when dropped."""

    joiner: tuple[str, ...]
    words: list[str]
    remaining: list[str] = field(default_factory=list)
    is_modifier: bool = False


def reduce_guest_action(action: str, present: Collection[str] = ()) -> GuestAction:
    """Drop from ``action`` what was not pasted with the character.

    ``present``: names of the characters of the composite, which may be referred to. An action that
    names nothing foreign is returned as it is.
    """
    props: list[str] = []
    clauses = _split_clauses(_TOKEN.findall(action))
    in_subordinate = False
    previous: _Clause | None = None
    for clause in clauses:
        subordinate = next((word for word in clause.joiner if word in SUBORDINATORS), None)
        if subordinate is not None:
            in_subordinate = not _continues_character(clause.words)
        elif clause.joiner and ("," in clause.joiner or "then" in clause.joiner):
            in_subordinate = in_subordinate and _starts_noun_phrase(clause.words)
        if in_subordinate:
            props.append(" ".join(clause.words))
            continue
        if previous is not None and _starts_noun_phrase(clause.words):
            # "a cup and a plate": the clause before goes on.
            clause.remaining = (
                _own_phrases(clause.words, present, props) if previous.remaining else []
            )
            clause.is_modifier = True
            if not previous.remaining:
                props.append(" ".join(clause.words))
            continue
        clause.is_modifier = subordinate is not None or not _is_finite_verb(clause.words)
        is_list = (
            previous is not None and not previous.remaining and _has_bare_object(previous.words)
        )
        if is_list and len(clause.words) == 1 and "," not in clause.joiner:
            # "eats noodles and dumplings": more likely a second object than a verb.
            props.append(clause.words[0])
            continue
        count = len(props)
        clause.remaining = _reduce_clause(clause.words, present, props)
        if clause.is_modifier and len(props) > count:
            clause.remaining = []
        previous = clause
    if not props:
        return GuestAction(action, ())
    return GuestAction(_join(clauses), tuple(dict.fromkeys(props)))


def find_absent_things(actions: Sequence[tuple[str, str]], character: str) -> tuple[str, ...]:
    """Find the things that all actions of ``character`` are about, and that were not pasted.

    Empty when something remains without them. ``actions``: pairs of name and action.
    """
    reduced = [reduce_guest_action(action) for name, action in actions if name == character]
    if any(action.text for action in reduced):
        return ()
    return tuple(dict.fromkeys(prop for action in reduced for prop in action.props))


def _split_clauses(tokens: Sequence[str]) -> list[_Clause]:
    clauses = [_Clause((), [])]
    joiner: list[str] = []
    for token in tokens:
        word = token.casefold()
        last = clauses[-1].words
        starts_participle = (
            word.endswith("ing")
            and last
            and last[-1].casefold() not in DETERMINERS | PREPOSITIONS | _AUXILIARIES
            and not _inside_noun_phrase(last)
        )
        if word in _JOINERS or (word in SUBORDINATORS and last):
            joiner.append(word)
        elif joiner or starts_participle:
            clauses.append(_Clause(tuple(joiner), [token]))
            joiner = []
        else:
            last.append(token)
    return clauses


def _inside_noun_phrase(words: Sequence[str]) -> bool:
    """Whether a preposition or determiner is open at the end: "with big bulging ..."."""
    for word in reversed(words):
        if word.casefold() in DETERMINERS:
            return True
        if word.casefold() in PREPOSITIONS:
            return word is words[-1]
        if _head(word) in BODY | WORN | MANNER | SURROUNDINGS:
            return False
    return False


def _continues_character(words: Sequence[str]) -> bool:
    """Whether a subordinate clause is about the character itself: "while holding", "as he runs"."""
    first = words[0].casefold() if words else ""
    return first.endswith("ing") or first in PRONOUNS


def _starts_noun_phrase(words: Sequence[str]) -> bool:
    return bool(words) and words[0].casefold() in DETERMINERS


def _is_finite_verb(words: Sequence[str]) -> bool:
    word = next((w.casefold() for w in words if not _is_adverb(w.casefold())), "")
    return word.endswith("s") and not word.endswith("ss")


def _is_adverb(word: str) -> bool:
    return word in ADVERBS or (word.endswith("ly") and word not in ("fly", "belly", "family"))


def _reduce_clause(words: Sequence[str], present: Collection[str], props: list[str]) -> list[str]:
    """Return the words of a clause that remain; none when its object is foreign."""
    start = 0
    while start < len(words) - 1 and (
        _is_adverb(words[start].casefold()) or words[start].casefold() in PRONOUNS
    ):
        start += 1
    verb = words[start].casefold()
    end = start + 1
    if verb in _AUXILIARIES and end < len(words):
        following = words[end].casefold()
        if following.endswith("ing"):
            verb, end = following, end + 1
    phrases = _split_phrases(words[end:])
    remaining = list(words[:end])
    dropped: set[str] = set()
    for preposition, noun_phrase in phrases:
        if preposition is None:
            if _is_own_object(verb, noun_phrase, present):
                remaining += noun_phrase
                continue
            props.append(" ".join(noun_phrase))
            return []
        own = _is_own(noun_phrase, present, preposition)
        if preposition == "to" and verb in INFINITIVE_VERBS and noun_phrase:
            own = own or _is_own(noun_phrase[1:], present, "")
        after_dropped = dropped and preposition not in ("with", "to", "from", "toward", "towards")
        if own and not after_dropped:
            remaining += [*preposition.split("-"), *noun_phrase]
            continue
        if not own:
            props.append(" ".join(noun_phrase))
        dropped.add(preposition)
        while len(remaining) > end and remaining[-1] in _NEVER_LAST:
            remaining.pop()
    if dropped - {"with"} and verb in DEPENDENT_VERBS:
        return []
    return remaining


def _own_phrases(words: Sequence[str], present: Collection[str], props: list[str]) -> list[str]:
    remaining: list[str] = []
    for preposition, noun_phrase in _split_phrases(words):
        if _is_own(noun_phrase, present, preposition or ""):
            remaining += [*(preposition or "").split("-"), *noun_phrase]
        else:
            props.append(" ".join(noun_phrase))
            break
    return [word for word in remaining if word]


def _split_phrases(words: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Split the words after a verb: its object (preposition None), then prepositional phrases.

    "of" continues the phrase before it.
    """
    phrases: list[tuple[str | None, list[str]]] = [(None, [])]
    position = 0
    while position < len(words):
        word = words[position].casefold()
        compound = next(
            (
                parts
                for parts in COMPOUND_PREPOSITIONS
                if tuple(w.casefold() for w in words[position : position + len(parts)]) == parts
            ),
            None,
        )
        if compound is not None:
            phrases.append(("-".join(compound), []))
            position += len(compound)
            continue
        if word in PREPOSITIONS and word != "of":
            phrases.append((word, []))
        else:
            phrases[-1][1].append(words[position])
        position += 1
    return [phrase for phrase in phrases if phrase[0] is not None or phrase[1]]


def _is_own_object(verb: str, words: Sequence[str], present: Collection[str]) -> bool:
    rest = _without_adverbs(words)
    if not rest or _is_own(rest, present, "wearing" if verb in WEARING_VERBS else ""):
        return True
    return verb in LINKING_VERBS and rest[0].casefold() not in DETERMINERS


def _is_own(words: Sequence[str], present: Collection[str], preposition: str) -> bool:
    """Whether a noun phrase names nothing that stayed in the other scene."""
    rest = _without_adverbs(words)
    if not rest:
        return True
    text = " ".join(rest)
    if text.casefold() in {name.casefold() for name in present} or text.startswith('"'):
        return True
    if text.casefold() in REFLEXIVES:
        return True
    parts: list[list[str]] = [[]]
    for word in rest:
        if word.casefold() == "of":
            parts.append([])
        else:
            parts[-1].append(word)
    return all(_is_own_part(part, preposition) for part in parts)


def _is_own_part(words: Sequence[str], preposition: str) -> bool:
    if not words or any(word.endswith(("'s", "\u2019s")) for word in words):
        return False
    words = list(words)
    while len(words) > 1 and _follows_its_noun(words[-1].casefold()):
        words.pop()
    head = _head(words[-1])
    first = words[0].casefold()
    if head in WORN:
        return first in POSSESSIVES or preposition in ("in", "with", "wearing")
    return head in BODY | MANNER | SURROUNDINGS


def _without_adverbs(words: Sequence[str]) -> list[str]:
    """Drop adverbs before a noun phrase and after it: "slowly", "away a tear"."""
    rest = list(words)
    while rest and _is_adverb(rest[0].casefold()):
        rest.pop(0)
    if [word.casefold() for word in rest[-2:]] == ["head", "first"]:
        rest = rest[:-2]
    while rest and _is_adverb(rest[-1].casefold()) and _head(rest[-1]) not in SURROUNDINGS:
        rest.pop()
    return rest


def _follows_its_noun(word: str) -> bool:
    return word in TRAILING_ADJECTIVES or (word.endswith(("ed", "ing")) and word not in MANNER)


def _has_bare_object(words: Sequence[str]) -> bool:
    return not any(word.casefold() in DETERMINERS | PREPOSITIONS for word in words)


def _head(word: str) -> str:
    return word.casefold().strip("'\".!?")


def _join(clauses: Sequence[_Clause]) -> str:
    """Join what remains; without a clause that has a verb of its own, nothing does."""
    sentences: list[str] = []
    for clause in clauses:
        if not clause.remaining:
            continue
        text = " ".join(clause.remaining)
        if not clause.is_modifier:
            sentences.append(f"then {text}" if sentences and "then" in clause.joiner else text)
        elif sentences:
            words = [word for word in clause.joiner if word != ","]
            comma = "," if "," in clause.joiner else ""
            sentences[-1] += f"{comma} {' '.join([*words, text])}"
    if len(sentences) < 2:
        return "".join(sentences)
    return f"{', '.join(sentences[:-1])} and {sentences[-1]}"
