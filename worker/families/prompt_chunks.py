"""Long prompts for CLIP: chunks of as many tokens as it reads, each encoded by itself, one after another.

As AUTOMATIC1111's web UI does (its ``sd_hijack_clip.py`` and ``sd_emphasis.py``): a chunk that is full ends behind its
last comma, if that is near its end. Weights multiply the tokens' encodings, whose mean is then as before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jobs.prompt_syntax import Parts
from jobs.schema import PromptTokens
from worker.denoise.transfer import to_device

MAX_CHUNKS = 8
"""What a prompt's encoding has at most: 600 tokens of CLIP's. Rows of other jobs do not pay for it."""
COMMA_REACH = 20
"""Tokens before the end of a full chunk in which a comma is looked for."""

Chunk = tuple[tuple[int, float], ...]
"""Tokens of the prompt with their weights; () is the empty prompt."""
Encoded = tuple[torch.Tensor, torch.Tensor | None]
"""A text's encoding, (1, tokens, width), and its pooled one, (1, pooled width), where the encoder has it."""


@dataclass(frozen=True)
class ClipReader:
    """A CLIP text encoder with its tokenizer.

    ``encode``: from ids and attention mask, both (1, tokens), to what ``Encoded`` names.
    """

    tokenizer: Any
    encode: Callable[[torch.Tensor, torch.Tensor], Encoded]
    device: torch.device

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a chunk beside its begin and its end."""
        return int(self.tokenizer.model_max_length) - 2

    def chunks(self, parts: Parts) -> list[Chunk]:
        """All chunks of a prompt, at least one; also those beyond ``MAX_CHUNKS``."""
        (comma,) = self._ids(",")[-1:]
        found: list[Chunk] = []
        for pieces in parts:
            tokens = [(token, weight) for text, weight in pieces for token in self._ids(text)]
            found += split(tokens, comma, self.chunk_tokens)
        while len(found) > 1 and not found[-1]:  # BREAK at the end begins nothing
            found.pop()
        return found

    def count(self, parts: Parts, most: int) -> PromptTokens:
        """How much of a prompt is read, if ``most`` chunks are."""
        chunks = self.chunks(parts)
        used, read = (sum(map(len, some)) for some in (chunks, chunks[:most]))
        return PromptTokens(used=used, limit=most * self.chunk_tokens, cut=used - read)

    def encoded(self, chunks: Sequence[Chunk]) -> Encoded:
        """The chunks' encodings in a row, and the first one's pooled one."""
        once = {chunk: self._encoded_chunk(chunk) for chunk in dict.fromkeys(chunks)}
        return torch.cat([once[chunk][0] for chunk in chunks], 1), once[chunks[0]][1]

    def _encoded_chunk(self, chunk: Chunk) -> Encoded:
        begin, end = self.tokenizer("").input_ids
        padding = self.chunk_tokens - len(chunk)
        ids = [begin, *(token for token, _ in chunk), end, *[self.tokenizer.pad_token_id] * padding]
        mask = [1] * (len(chunk) + 2) + [0] * padding
        text, pooled = self.encode(*(to_device(torch.tensor([row]), self.device) for row in (ids, mask)))
        if all(weight == 1 for _, weight in chunk):
            return text, pooled
        weights = to_device(torch.tensor([1.0, *(weight for _, weight in chunk), *[1.0] * (padding + 1)]), self.device)
        weighted = text.float() * weights[None, :, None]
        return (weighted * (text.float().mean() / weighted.mean())).to(text.dtype), pooled

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)


def encoded_alike(readers: Sequence[ClipReader], prompts: Sequence[Parts], most: int) -> list[Encoded]:
    """Each prompt's encoding, those of all readers side by side, (1, tokens, widths), and the last one's pooled one.

    All have as many chunks as the longest prompt has in any reader, at most ``most``: the others go on with empty ones.
    """
    chunks = [[reader.chunks(parts)[:most] for reader in readers] for parts in prompts]
    count = max(len(each) for of_prompt in chunks for each in of_prompt)
    found = []
    for of_prompt in chunks:
        rows = [
            reader.encoded([*each, *[()] * (count - len(each))])
            for reader, each in zip(readers, of_prompt, strict=True)
        ]
        found.append((torch.cat([text for text, _ in rows], -1), rows[-1][1]))
    return found


def split(tokens: list[tuple[int, float]], comma: int, most: int) -> list[Chunk]:
    """Chunks of at most ``most`` tokens; one that is full gives what stands behind its last comma to the next."""
    found = []
    while len(tokens) > most:
        near = range(most - 1, max(most - 1 - COMMA_REACH, -1), -1)
        next_is_comma = tokens[most][0] == comma
        last = None if next_is_comma else next((at for at in near if tokens[at][0] == comma), None)
        end = most if last is None else last + 1
        found.append(tuple(tokens[:end]))
        tokens = tokens[end:]
    return [*found, tuple(tokens)]
