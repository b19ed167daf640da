"""Checkpoints (snapshots): a session's tree as it was after a turn, kept outside of it to go back to.

    packs      content, once each, under its BLAKE2b
    tree       what a directory holds, as an object of its own
    scan       a live tree into objects; what did not change is not read again
    store      the numbered checkpoints of a session, their bounds, and what is collected
    restore    a tree made exactly what a checkpoint says
    compare    what differs between two of them
    damage     whether one is whole, and which other is

The tree is the guest's, also while it is looked at: every step is taken beneath open directories and follows
no link (`sandbox.workspace.beneath`). All of it blocks: call it by `asyncio.to_thread`.
"""
