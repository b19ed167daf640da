"""The policy: one frozen value that says what a session may do and how much of everything it may use.

Dangerous settings cannot be spelled here: there is no field for privileged mode, host namespaces, devices or
the Docker socket, and unknown keys are errors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from policies.patterns import (
    check_address_range,
    check_host_entry,
    check_host_pattern,
    check_path_pattern,
)

Action = Literal["allow", "ask", "deny"]
SeccompProfile = Literal["strict", "default", "debug"]
Capability = Literal["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "NET_BIND_SERVICE"]
SudoKind = Literal["network", "root", "secret", "host_path", "limits"]
Positive = Annotated[int, Field(gt=0, le=10**12)]
Megabytes = Annotated[int, Field(gt=0, le=16 << 20)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]


def _printable(text: str) -> str:
    # These texts are shown on a terminal and to the model; nothing in them may act on either.
    if not text.isprintable():
        raise ValueError("only printable characters on one line")
    return text


def _command_words(text: str) -> str:
    words = text.split(" ")
    if not all(word and word.isascii() and set(word).isdisjoint("\"'\\`$;|&<>(){}*?[]~#!") for word in words):
        raise ValueError("plain words with one space between them, such as `git push`")
    return text


Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Reason = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable)]
Host = Annotated[str, AfterValidator(check_host_pattern)]
HostEntry = Annotated[str, AfterValidator(check_host_entry)]
AddressRange = Annotated[str, AfterValidator(check_address_range)]
Port = Annotated[int, Field(ge=1, le=65_535)]
PathGlob = Annotated[str, AfterValidator(check_path_pattern)]
CommandWords = Annotated[
    str, Field(min_length=1, max_length=1000), AfterValidator(_printable), AfterValidator(_command_words)
]
Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_printable)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Frozen(BaseModel):
    """Base of every policy table: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Frozen):
    """Every bound of a session on one page; units are in the names."""

    command_s: Seconds = 120
    """Wall clock for one command; then its whole descent is ended."""
    grace_s: Seconds = 2
    """Between TERM and KILL."""
    yield_s: Seconds = 30
    """A `bash` call not finished by then comes back to the model as a job."""
    session_s: Seconds = 4 * 3600
    """Wall clock for a session."""
    orphan_s: Seconds = 900
    """A container whose harness has gone silent ends itself after this long."""
    cpus: Annotated[float, Field(gt=0, le=1024)] = 2
    memory_mb: Annotated[int, Field(ge=16, le=16 << 20)] = 2048
    """Memory of the whole container, tmpfs included; there is no swap."""
    pids: Annotated[int, Field(ge=16, le=65_536)] = 512
    open_files: Annotated[int, Field(ge=64, le=1 << 20)] = 4096
    tmp_mb: Megabytes = 512
    """Size of /tmp and of the home directory, each."""
    tmp_inodes: Positive = 100_000
    shm_mb: Megabytes = 64
    workspace_mb: Megabytes = 4096
    """Size of the session's copy of the workspace, what was copied in included."""
    workspace_inodes: Positive = 500_000
    checkpoints: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Kept of the workspace, one after each turn that changed it; with 0 none is taken."""
    checkpoint_mb: Megabytes = 2048
    """All of them together, on the host's disk; the oldest go first."""
    output_bytes: Annotated[int, Field(gt=0, le=16 << 20)] = 50_000
    """Shown to the model from each stream of a command, half head and half tail."""
    spill_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 16 << 20
    """Kept of each stream in a file inside the container."""
    file_bytes: Annotated[int, Field(gt=0, le=1 << 30)] = 64 << 20
    """Largest file that `read` and `write` carry."""
    turns: Positive = 200
    tokens: Positive = 5_000_000
    """Input and output tokens of all requests of a session, cache reads included."""
    context_tokens: Annotated[int, Field(ge=500, le=10**9)] = 150_000
    """Of one request, system prompt and tools included; old results make room before it is reached."""
    cost_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Needs a model with a known price."""
    calls_at_once: Annotated[int, Field(ge=1, le=64)] = 8
    children: Annotated[int, Field(ge=0, le=1000)] = 4
    """Sessions that a session may start by `spawn`, theirs included; each has a container with the limits of
    this page."""
    spawn_depth: Annotated[int, Field(ge=0, le=8)] = 1
    """How deep sessions may start sessions; with 0 none does."""
    connections: Annotated[int, Field(ge=1, le=4096)] = 64
    """Open at once through the gate; one more waits."""
    connect_s: Seconds = 10
    """For resolving a name and reaching one of its addresses."""
    idle_s: Seconds = 300
    """A connection on which nothing moves for this long is closed."""
    egress_mb: Megabytes = 256
    """Sent out through the gate, by the whole session."""
    ingress_mb: Megabytes = 4096
    """Received through the gate, by the whole session."""


class RequestRule(Frozen):
    """What may be asked of a host. One that is named here takes only requests that a rule of it allows."""

    host: Host
    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")], ...] = ("GET", "HEAD")
    paths: tuple[PathGlob, ...] = ("/**",)
    """Globs over the normalised path, without the query."""
    reason: Reason


class Network(Frozen):
    """Hosts the session may reach. An empty list allows none."""

    allow: tuple[HostEntry, ...] = ()
    """`example.org`, `*.example.org`, an address, each with `:port` if it is meant.
    `@pip`, `@npm` and `@apt` are the hosts that those tools are configured for on this machine."""
    ask: bool = False
    """Ask about a host that is not listed, instead of refusing it."""
    ports: tuple[Port, ...] = (80, 443)
    """Meant by an entry that names none."""
    addresses: tuple[AddressRange, ...] = ()
    """Private addresses or networks that an allowed name may resolve to; without it, none."""
    intercept: bool = False
    """Look into TLS with an authority of the session's own: for rules on requests and bound secrets."""
    requests: tuple[RequestRule, ...] = ()
    ca_file: Annotated[Text, Field(pattern="^/")] | None = None
    """Certificates (PEM, on the host) trusted beside the system's, inside and by the gate."""


class Workspace(Frozen):
    mode: Literal["copy", "overlay", "bind"] = "copy"
    """`copy` is private; `overlay` is as private and instant, on a local engine; `bind` is the
    user's own directory, for work that is trusted."""
    exclude: tuple[Pattern, ...] = ()
    """Patterns left out of the copy, beside the built-in list of credential files (gitignore syntax)."""
    include: tuple[Pattern, ...] = ()
    """Patterns taken in although the built-in list would leave them out."""


class Container(Frozen):
    image: Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$")] = "usermode/base"
    runtime: Literal["runc", "runsc"] = "runc"
    require_runtime: Literal["runc", "runsc"] | None = None
    """Refuse to start under any other."""
    seccomp: SeccompProfile = "strict"
    user: Literal["sandbox", "root"] = "sandbox"
    """`root` is uid 0 inside the container, still with only the capabilities listed here."""
    writable_root: bool = False
    capabilities: tuple[Capability, ...] = ()
    """What root inside may do, whether the session's user is root or a root command was approved."""


class Secret(Frozen):
    """A secret that stays on the host: inside stands a sentinel, and the gate puts the value in its place."""

    name: EnvName
    """The variable inside that holds the sentinel."""
    host: Host
    """The only host that gets the value."""
    from_env: EnvName | None = None
    """The variable of the host that holds the value; without one, of the same name."""
    header: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")] = "Authorization"
    """The one request header in which the sentinel is replaced, also inside Basic credentials."""
    ask: bool = False
    """Only after the user approved its use (`sudo`)."""


class Secrets(Frozen):
    env: tuple[EnvName, ...] = ()
    """Names of host environment variables that are copied into the container as they are."""
    bound: tuple[Secret, ...] = ()


class Ceilings(Frozen):
    """The limits that may be asked for, each up to a value; without one the user alone decides how far."""

    command_s: Seconds | None = None
    yield_s: Seconds | None = None
    session_s: Seconds | None = None
    turns: Positive | None = None
    tokens: Positive | None = None
    cost_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    egress_mb: Megabytes | None = None
    cpus: Annotated[float, Field(gt=0, le=1024)] | None = None
    memory_mb: Annotated[int, Field(ge=16, le=16 << 20)] | None = None
    pids: Annotated[int, Field(ge=16, le=65_536)] | None = None


class Sudo(Frozen):
    """What the model may ask the user for. Whatever is not named cannot be asked for."""

    may_ask: tuple[SudoKind, ...] = ("network", "root", "secret", "host_path", "limits")
    timeout_s: Seconds = 300
    """A question that nobody answers for this long is answered no."""
    host_paths: tuple[PathGlob, ...] = ()
    """Host files and directories the model may ask to be given a copy of."""
    limits: Ceilings = Ceilings()


class When(Frozen):
    """Conditions of a rule; all that are given must hold."""

    command: CommandWords | None = None
    """First words of a `bash` command, e.g. `git push`; every command of the line counts."""
    path: PathGlob | None = None
    """Glob over the normalised absolute path, `**` crosses directories."""
    host: Host | None = None
    """Exact host, or `*.example.org`."""


class Rule(Frozen):
    syscall: Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_]{0,63})$")]
    """Name of a syscall, or `*`."""
    when: When = When()
    action: Action
    reason: Reason
    tightens: bool = False
    """Of an `ask`: it stands only where the call would be allowed otherwise, as a project's rules do."""
    match: tuple[str, ...] = ()
    """Examples (of what `when` looks at) that this rule must apply to; checked when the policy loads."""
    not_match: tuple[str, ...] = ()
    """Examples this rule must not apply to; checked when the policy loads."""


class Policy(Frozen):
    """One TOML file, or a built-in profile (`strict`, `dev`, `eval`, `offline`)."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
    description: Text = ""
    limits: Limits = Limits()
    network: Network = Network()
    workspace: Workspace = Workspace()
    container: Container = Container()
    secrets: Secrets = Secrets()
    sudo: Sudo = Sudo()
    rules: tuple[Rule, ...] = ()
    """Deny beats ask beats allow, whatever the order."""
    unmatched: Literal["deny", "ask"] = "deny"
    """For a call that no rule speaks about."""
