"""Files become policies, and every mistake in one is named with its line before anything starts."""

import os
from pathlib import Path

import pytest

from policies import Policy, PolicyError, load
from policies.load import digest, load_project, profiles

RULE = '[[rules]]\nsyscall = "bash"\naction = "deny"\nreason = "No."\n'


def test_a_file_overrides_single_keys_of_the_profile_it_extends(policy_file):
    policy = load(policy_file('extends = "dev"\n[limits]\nmemory_mb = 64\n'))
    dev = load("dev")
    assert policy.limits == dev.limits.model_copy(update={"memory_mb": 64})
    assert policy.container == dev.container


def test_a_file_that_names_no_profile_extends_strict_and_is_named_after_itself(policy_file):
    policy = load(policy_file("[limits]\nturns = 3\n", "My Work.toml"))
    assert policy.name == "my-work"
    assert policy.container == load("strict").container


def test_rules_of_a_file_are_added_to_those_of_the_profile(policy_file):
    policy = load(policy_file(RULE))
    assert [rule.action for rule in policy.rules] == ["allow", "deny"]


def test_without_a_profile_nothing_is_allowed(policy_file):
    policy = load(policy_file('extends = "none"\n'))
    assert policy.rules == ()
    assert policy.unmatched == "deny"


def test_later_files_go_over_earlier_ones(policy_file):
    first = policy_file('name = "first"\n[limits]\nturns = 3\npids = 100\n', "a.toml")
    second = policy_file("[limits]\nturns = 5\n" + RULE, "b.toml")
    policy = load("strict", first, second)
    assert (policy.limits.turns, policy.limits.pids, policy.name) == (5, 100, "first")
    assert len(policy.rules) == 2


def test_a_string_with_a_slash_or_suffix_is_a_file(policy_file, monkeypatch):
    path = policy_file("[limits]\nturns = 3\n", "strict.toml")
    monkeypatch.chdir(path.parent)
    assert load("strict.toml").limits.turns == 3
    assert load("./strict.toml").limits.turns == 3
    assert load(str(path)).limits.turns == 3


def test_an_unknown_profile_lists_those_there_are():
    with pytest.raises(PolicyError, match="dev, eval, offline, strict"):
        load("stirct")
    assert profiles() == ("dev", "eval", "offline", "strict")


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        ("[limits]\n\nmemroy_mb = 5\n", 3, "limits.memroy_mb", "did you mean `memory_mb`?"),
        ("[limits]\nmemory_mb = '5'\n", 2, "limits.memory_mb", 'not "5"'),
        ("[limits]\nmemory_mb = 5.5\n", 2, "limits.memory_mb", "integer"),
        ("[limits]\nmemory_mb = true\n", 2, "limits.memory_mb", "not true"),
        ("[limits]\nmemory_mb = 1\n", 2, "limits.memory_mb", "greater than or equal to 16, not 1"),
        ("[limits]\nturns = -1\n", 2, "limits.turns", "greater than 0"),
        (f"[limits]\npids = {10**30}\n", 2, "limits.pids", "less than or equal to"),
        ("[limits]\ncommand_s = nan\n", 2, "limits.command_s", ""),
        ("[limits]\ncommand_s = inf\n", 2, "limits.command_s", ""),
        ("[limits]\nturns = 2020-01-01\n", 2, "limits.turns", "integer"),
        ("limits = 5\n", 1, "limits", ""),
        ("limits = []\n", 1, "limits", ""),
        ("[network]\nallow = 'no'\n", 2, "network.allow", "not \"no\""),
        ("[network]\nallow = [\n'a.test',\n'b.test:0',\n]\n", 2, "network.allow[2]", "1 to 65535"),
        ("[network]\nallow = ['*']\n", 2, "network.allow[1]", "a host is a name"),
        ("[network]\nask = 'no'\n", 2, "network.ask", "boolean"),
        ("[container]\nprivileged = true\n", 2, "container.privileged", "unknown key `privileged`"),
        ("[container]\nseccomp = 'unconfined'\n", 2, "container.seccomp", "'strict', 'default' or 'debug'"),
        ("[container]\ncapabilities = ['SYS_ADMIN']\n", 2, "container.capabilities[1]", "CHOWN"),
        ("[container]\nimage = '--privileged'\n", 2, "container.image", "pattern"),
        ("[containers]\n", 1, "containers", "did you mean `container`?"),
        ("extend = 'dev'\n", 1, "extend", "did you mean `extends`?"),
        ("\nextends = 'nobody'\n", 2, "extends", "dev, eval, offline, strict, none"),
        ("extends = 5\n", 1, "extends", "built-in profile"),
        ("__class__ = 1\n", 1, "__class__", "unknown key"),
        (RULE + "\n" + RULE.replace('"deny"', '"refuse"'), 8, "rules[2].action", "'allow', 'ask' or 'deny'"),
        (RULE + "\n[[rules]]\nsyscall = 'bash'\naction = 'deny'\n", 6, "rules[2].reason", "is missing"),
        (RULE + "when.comand = 'ls'\n", 5, "rules[1].when.comand", "did you mean `command`?"),
        (RULE + "[rules.when]\npath = 'relative'\n", 6, "rules[1].when.path", "absolute"),
        (RULE + "when.path = '/a/../b'\n", 5, "rules[1].when.path", "no `.`, `..`"),
        (RULE + "when.path = '/a/*.{js,ts}'\n", 5, "rules[1].when.path", "no meaning"),
        (RULE + "when.path = '/a/x**'\n", 5, "rules[1].when.path", "alone between slashes"),
        (RULE + "when.command = 'git  push'\n", 5, "rules[1].when.command", "one space"),
        (RULE + "when.command = 'a; b'\n", 5, "rules[1].when.command", "plain words"),
        (RULE.replace('"No."', '""'), 4, "rules[1].reason", "at least 1"),
        (RULE.replace('"No."', '"\\u001b[2K"'), 4, "rules[1].reason", "printable"),
        ("rules = 5\n", 1, "rules", ""),
        ("name = 'Bad Name'\n", 1, "name", "pattern"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_key(refusal, text, line, key, reason):
    error = refusal(text)
    assert (error.line, error.key) == (line, key)
    assert reason in error.reason
    assert str(error).startswith(f"{error.file}:{line}: {key}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[limits\n", 1, "not TOML"),
        ("[limits]\nturns = \n", 2, "not TOML"),
        ("[limits]\nturns = 1\nturns = 2\n", 3, "for the second time"),
        ("[limits]\nturns = 1\n[network]\n[limits]\n", 4, "for the second time"),
        ("a = 1\nb = 'x", 2, "not TOML"),
        ("a = 1\nb = [1,\n2,\n\n\n", 3, "not TOML"),
        ("a = 1979-13-45\n", 1, "not TOML"),
        ("a = " + "9" * 5000 + "\n", None, "not TOML"),
        ("a = " + "[" * 5000 + "\n", None, "nested too deeply"),
        ("x = 1\n" + ".".join("a" * 1000) + " = 1\n", 2, "dots in one line"),
    ],
)
def test_what_is_not_toml_is_named_with_its_line(refusal, text, line, reason):
    error = refusal(text)
    assert error.line == line
    assert reason in error.reason


def test_the_first_mistake_of_a_file_is_the_one_reported(refusal):
    assert refusal("[network]\nask = 1\n[limits]\nturns = 'x'\n").line == 2


def test_lines_are_right_after_values_that_span_several(refusal):
    text = '[network]\nallow = [ # ]\n  "a.test", # "[\n  "b.test",\n]\n[limits]\nturns = "x"\n'
    assert refusal(text).line == 7
    text = "[limits]\n\n'turns' = 'x'\n"
    assert refusal(text).line == 3


def test_lines_are_right_after_strings_that_span_several(refusal):
    quotes = '"' * 3
    text = f"[secrets]\nenv = [{quotes}\\\n  A{quotes}, 'B']\n[limits]\nturns = 'x'\n"
    assert refusal(text).line == 5
    text = f"[secrets]\nenv = [{quotes}\\\n  A\\\n{quotes}, 'B', \"C\", # [[\n]\n[limits]\nturns = 'x'\n"
    assert refusal(text).line == 7


def test_a_hostile_key_cannot_act_on_the_terminal(refusal):
    error = refusal('"\\u001b[2Kx\\u202e" = 1\n')
    assert str(error).isprintable()
    assert "\\x1b[2K" in str(error)


def test_examples_are_run_when_the_policy_loads(policy_file, refusal):
    rule = RULE + "when.command = 'git push'\n"
    assert load(policy_file(rule + "match = ['git push -f', 'true; git push']\nnot_match = ['git status']\n"))
    error = refusal(rule + "match = [\n  'git push',\n  'git pull',\n]\n")
    assert (error.line, error.key) == (6, "rules[1].match")
    assert "does not apply to its example `git pull`" in error.reason
    error = refusal(rule + "not_match = ['git push']\n")
    assert "applies to its counter-example `git push`" in error.reason


def test_an_example_needs_a_condition_to_be_tried_on(refusal):
    assert "exactly one of when.command" in refusal(RULE + "match = ['ls']\n").reason


def test_unreadable_sources_are_errors_of_the_policy(tmp_path: Path):
    for content, reason in ((b"", "empty"), (b"# nothing\n", "empty"), (b"a = 1\nb = '\xff'", "not UTF-8")):
        path = tmp_path / "p.toml"
        path.write_bytes(content)
        with pytest.raises(PolicyError, match=reason):
            load(path)
    path.write_bytes(b"# x\n" * (1 << 19))
    with pytest.raises(PolicyError, match="larger than 1024 KiB"):
        load(path)
    with pytest.raises(PolicyError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(PolicyError, match="no such file"):
        load(tmp_path / "missing.toml")
    with pytest.raises(PolicyError, match="not the name of a file"):
        load("a\0.toml")


def test_a_fifo_in_place_of_a_policy_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "p.toml")
    with pytest.raises(PolicyError, match="not a regular file"):
        load(tmp_path / "p.toml")


def test_a_project_file_extends_nothing(policy_file):
    with pytest.raises(PolicyError, match="only tighten"):
        load_project(policy_file('extends = "dev"\n', ".usermode.toml"))


def test_a_project_file_is_not_read_through_a_link(policy_file, tmp_path):
    (tmp_path / ".usermode.toml").symlink_to(policy_file("[limits]\nturns = 1\n"))
    with pytest.raises(PolicyError, match="is a symbolic link"):
        load_project(tmp_path / ".usermode.toml")


def test_equal_policies_have_equal_digests(policy_file):
    assert digest(load("strict")) == digest(load("strict"))
    assert len({digest(load(name)) for name in profiles()}) == len(profiles())
    restored = Policy.model_validate_json(load("eval").model_dump_json())
    assert digest(restored) == digest(load("eval"))
