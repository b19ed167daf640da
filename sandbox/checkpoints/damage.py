"""Whether a checkpoint is whole: all that it is made of is read and compared with its digests."""

from __future__ import annotations

from sandbox.checkpoints.errors import CheckpointError, Damaged
from sandbox.checkpoints.packs import Packs
from sandbox.checkpoints.store import Checkpoint, Store
from sandbox.checkpoints.tree import DIRECTORY, OMITTED, TOP, WHITEOUT, decode


def refuse_damaged(store: Store, target: Checkpoint, instead: str) -> None:
    """Damaged, in one line: what of it is, and the nearest checkpoint that is whole, which the command
    `instead` takes as its last word.
    """
    sound: set[bytes] = set()
    path = _damaged(store.packs, target.root, sound)
    if path is None:
        return
    whole = _nearest_whole(store, target.number, sound)
    way = "and so is every other" if whole is None else f"checkpoint {whole} is whole: {instead} {whole}"
    what = "its list of files" if path == TOP else repr(path)
    raise Damaged(f"checkpoint {target.number} is damaged ({what} is not what was stored); {way}")


def _damaged(packs: Packs, root: bytes, sound: set[bytes]) -> str | None:
    """The path of the first object that is missing or not what was stored, None when there is none. Content
    that is `sound` is not read again, and what was found to be is added to it.
    """
    trees: set[bytes] = set()
    left = [(TOP, root, True)]
    while left:
        path, digest, is_tree = left.pop()
        if digest in (trees if is_tree else sound):
            continue
        try:
            if not is_tree:
                packs.check(digest)
            else:
                held = list(decode(packs.read(digest)))
                prefix = "" if path == TOP else f"{path}/"
                left += [
                    (TOP if digest == root else prefix + name, node.digest, node.kind == DIRECTORY)
                    for name, node in held
                    if node.kind not in (WHITEOUT, OMITTED)
                ]
        except Damaged:
            return path
        (trees if is_tree else sound).add(digest)
    return None


def _nearest_whole(store: Store, number: int, sound: set[bytes]) -> int | None:
    for other in sorted(store.numbers(), key=lambda one: abs(one - number)):
        try:
            if _damaged(store.packs, store.load(other).root, sound) is None:
                return other
        except CheckpointError:
            continue
    return None
