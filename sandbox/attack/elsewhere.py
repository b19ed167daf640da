"""Attacks of docs/attacks.md that this command does not try, and why. Those with a test are named there."""

from __future__ import annotations

from collections.abc import Mapping

IMAGE = "needs an image made for it: tests/docker"
HOST = "is tried on a whole session with a repository: tests/security and tests/sandbox/workspace"
GATE = "needs the gate and its own servers: tests/sandbox/egress"
RECORDS = "is about the harness's records: tests/harness and tests/security"
TEXT = "reads shell text, which is a convenience and never a wall: tests/policies"
PROMPT = "is about the prompt and its answers, not the container: tests/harness"

_GATE = (
    *(
        "N02",
        "N08",
        "N09",
        "N10",
        "N11",
        "N12",
        "N14",
        "N16",
        "N17",
        "N18",
        "N20",
        "N23",
        "N25",
        "N26",
        "N27",
    ),
    "N28",
)
_PROMPT = (
    "D01",
    "D03",
    "D04",
    "D05",
    "D06",
    "D08",
    "D09",
    "D10",
    "D12",
    "D14",
    "D15",
    "D17",
    "D18",
    "D19",
    "D21",
)
_TEXT = (
    *(
        "E01",
        "E02",
        "E03",
        "E04",
        "E06",
        "E07",
        "E08",
        "E10",
        "E11",
        "E12",
        "E13",
        "E16",
        "E17",
        "E19",
        "E20",
    ),
    *("E21", "E23", "E24"),
)

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(_GATE, ("through the gate", GATE)),
    "N30": ("covert channels by time", "out of scope: see docs/threat-model.md"),
    **dict.fromkeys(_PROMPT, ("approval and its prompt", PROMPT)),
    **dict.fromkeys(_TEXT, ("shell text", TEXT)),
    "A13": ("writing kernel files", "the same attempts as A10"),
    "A16": (
        "races on one writable tree",
        "a writable tree belongs to one container; `usermode doctor` names the hole",
    ),
    "A19": (
        "overwriting the engine's program",
        "takes root beside the engine: tests/security/test_shared_files.py",
    ),
    "A43": ("what an image configures", IMAGE),
    "A44": ("mount points that are links", IMAGE),
    "A45": ("a container whose harness was killed", "kills a harness: tests/security/test_orphans.py"),
    "B07": ("output that is no text", "is about the journal: tests/security/test_model_calls.py"),
    "B15": ("archive bombs", "nothing unpacks an archive on the host"),
    "B16": ("floods to the gate", GATE),
    "C05": ("tools planted for a transfer", IMAGE),
    "C06": ("archive members that leave their root", "nothing unpacks an archive on the host"),
    "C07": ("links that come back", HOST),
    "C09": ("repositories that run programs", HOST),
    "C10": ("what a fetch brings", "the host never fetches from a guest's repository"),
    "C11": ("files that run on the host later", HOST),
    "C12": ("the same, spelled otherwise", HOST),
    "C13": ("policy and journal in reach", HOST),
    "C16": ("a project's policy that loosens", "is about loading policies: tests/policies"),
    "C18": ("credentials copied in", HOST),
    "S02": ("secrets in image layers", "images are built without any: tests/sandbox/image/test_image.py"),
    "S04": ("a secret's way past its host", GATE),
    "S05": ("secrets in the journal and on screens", RECORDS),
    "S06": ("a journal that was altered", RECORDS),
    "S09": ("the model's key", RECORDS),
    "S11": ("the model's own channel", "what the host fetches is decided by the same rules: tests/harness"),
    "P04": ("forged replies", "the same attempts as C15 and P01"),
    "P05": ("options smuggled into names", "is about the engine: tests/sandbox/engine/test_engine.py"),
    "P06": (
        "options smuggled into image names",
        "is about the engine: tests/sandbox/engine/test_engine.py",
    ),
}
