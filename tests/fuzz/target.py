"""What a fuzz target is: valid inputs, a way to spoil them, and what reads them.

The property: MiMix accepts each input or refuses it with its own error. Any other exception, more
than 5 seconds of work, more than 1 GB of memory or a dead process is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from tests.fuzz.mutations import MAX_BYTES

MAX_MUTATIONS = 4


class Refused(Exception):
    """The input was refused by something other than MiMix's own error, as documented."""


@dataclass(frozen=True)
class Target:
    """A reader of input from strangers.

    ``seeds``: inputs that it accepts. ``mutate``: returns a spoilt copy of an input, or of one
    that is spoilt already. ``act``: reads an input, with an empty folder to put files into; raises
    MimixError or Refused for one that it refuses.
    """

    name: str
    seeds: Sequence[bytes] = field(repr=False)
    mutate: Callable[[bytes, Random], bytes] = field(repr=False)
    act: Callable[[bytes, Path], object] = field(repr=False)


@st.composite
def spoilt_inputs(draw: st.DrawFn, target: Target) -> bytes:
    """Draw a seed of the target that is spoilt up to MAX_MUTATIONS times."""
    data: bytes = draw(st.sampled_from(target.seeds))
    for number in draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=MAX_MUTATIONS)):
        data = target.mutate(data, Random(number))[:MAX_BYTES]
    return data
