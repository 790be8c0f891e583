"""The tokenizer: byte-pair encoding learnt on the titles, the colour words and common nouns, in CLIP's format."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from recipe.words import all_colour_words, plain_title, things

MAX_LENGTH = 77
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
WORD_END = "</w>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(titles: Iterable[str], merges: int = 700) -> CLIPTokenizer:
    """Every byte, and every byte that ends a word, has a token of its own, so no text is unknown."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [plain_title(title) for title in titles] + 4 * all_colour_words() + 2 * things()
    rules = _learn_merges(texts, alphabet, merges)
    pieces = [*SPECIAL, *alphabet, *(byte + WORD_END for byte in alphabet), *("".join(rule) for rule in rules)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=rules, model_max_length=MAX_LENGTH)


def _learn_merges(texts: list[str], alphabet: list[str], count: int) -> list[tuple[str, str]]:
    learner = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    room = 2 * len(alphabet) + count
    trainer = BpeTrainer(
        vocab_size=room, initial_alphabet=alphabet, end_of_word_suffix=WORD_END, show_progress=False, min_frequency=2
    )
    learner.train_from_iterator(texts, trainer)
    return _merges(learner)[:count]


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    import json

    rules = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(rule) if isinstance(rule, list) else tuple(rule.split(" ")) for rule in rules]
