"""What the program itself says to a model (system notices): in the user's role, for want of one of its own.

Whoever tells of the user's words leaves it out.
"""

from __future__ import annotations

from harness.loops import notice_text

KEPT, EMPTY = "the workspace is as it was left,", "the workspace is empty,"
DAMAGED = (
    "the disk failed under the workspace, where files may be missing or cut short, so look at them before "
    "you rely on them,"
)
NEW_BOX = (
    "[usermode] The session was interrupted and its container is gone. It goes on in a new one: {kept} and "
    "everything else is as the image has it. Background jobs and running programs have ended."
)
FORKED = (
    "[usermode] The session was forked at this point and goes on in a new container: the workspace is as it "
    "was here, and everything else is as the image has it. Background jobs and running programs have ended."
)
CUT_OFF = (
    "[usermode] Your last message was cut off, since the context was full. There is room again: go on from "
    "where it ended."
)
_NEW_BOXES = (NEW_BOX.format(kept=kept) for kept in (KEPT, EMPTY, DAMAGED))
NOTICES = frozenset({notice_text(), FORKED, CUT_OFF, *_NEW_BOXES})
