"""Files that stay out of a copy because they hold credentials, and credentials taken out of files that go in.

Names decide, not contents, but for two cases: a file that begins as a private key stays out whatever its
name, and a `.pem` that holds only certificates or public keys goes in.
"""

from __future__ import annotations

import re

_ENVIRONMENT = "environment file"
_KEY = "private key"
_CREDENTIALS = "credential file"

_NAMES = {
    ".env": _ENVIRONMENT,
    ".envrc": _ENVIRONMENT,
    **dict.fromkeys(("id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk"), _KEY),
    **dict.fromkeys(("id_ed25519", "id_ed25519_sk", "secring.gpg"), _KEY),
    **dict.fromkeys(
        (
            ".netrc", "_netrc", ".npmrc", ".yarnrc.yml", ".pypirc", ".git-credentials", ".dockercfg",
            ".pgpass", ".my.cnf", ".boto", ".s3cfg", ".vault-token", ".terraformrc",
            ".htpasswd", ".condarc", "credentials.json", "application_default_credentials.json",
            "terraform.tfstate", "terraform.tfstate.backup",
        ),
        _CREDENTIALS,
    ),
}  # fmt: skip
_DIRECTORIES = frozenset(
    (
        ".aws",
        ".azure",
        ".ssh",
        ".gnupg",
        ".kube",
        ".gcloud",
        ".password-store",
        ".oci",
        ".config/gcloud",
        ".config/gh",
    )
)
_PATHS = re.compile(
    r"""(?:^|/)(?:
        \.docker/config\.json
      | \.cargo/credentials(?:\.toml)?
      | \.gem/credentials
      | \.m2/settings(?:-security)?\.xml
      | \.gradle/gradle\.properties
      | \.config/(?:pip/pip\.conf|git/credentials|hub)
      | \.pip/pip\.conf
      | \.bundle/config
      | \.git/credentials
    )$""",
    re.VERBOSE,
)
_PATTERN = re.compile(
    r"""
        (?P<environment> \.env\.(?!(?:example|sample|template|dist)$).+ )
      | (?P<key> .+\.(?:key|p12|pfx|jks|keystore|ppk|kdbx|pkcs12) )
      | (?P<credentials> (?:service[-_]?account|client_secret|gcp-key|firebase-adminsdk).*\.json )
    """,
    re.VERBOSE,
)
_REASONS = {"environment": _ENVIRONMENT, "key": _KEY, "credentials": _CREDENTIALS}
_KEY_START = re.compile(rb"\s*(?:-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-)")


def reason_for_file(path: str) -> str | None:
    """Why a file of this relative path stays out, by its name; None when it may go in. Letter case is
    ignored.
    """
    lowered = path.lower()
    name = lowered.rpartition("/")[2]
    if reason := _NAMES.get(name):
        return reason
    if found := _PATTERN.fullmatch(name):
        return _REASONS[found.lastgroup or "key"]
    if "/." in lowered or lowered[0] == ".":
        return _CREDENTIALS if _PATHS.search(lowered) else None
    return None


def reason_for_directory(path: str) -> str | None:
    """Why a whole directory stays out; None when it may go in."""
    parts = path.lower().split("/")
    if parts[-1] in _DIRECTORIES or "/".join(parts[-2:]) in _DIRECTORIES:
        return "credential directory"
    return None


def reason_for_content(path: str, head: bytes) -> str | None:
    """Why a file stays out by the bytes it begins with; a `.pem` needs all of them."""
    if _KEY_START.match(head):
        return _KEY
    if path.lower().endswith(".pem") and (b"-----BEGIN " not in head or b"PRIVATE KEY" in head):
        return _KEY
    return None


def is_git_config(path: str) -> bool:
    """Whether a file is configuration of git, in which remotes and headers may carry credentials."""
    parts = path.split("/")
    return parts[-1] in (".gitconfig", ".gitmodules") or (
        parts[-1] in ("config", "config.worktree") and any(part.endswith(".git") for part in parts[:-1])
    )


# Whoever made the repository chose the text these run on: each takes one look at it, whatever it is.
_HTTP_USER = re.compile(rb"(?i)(https?://)[^/@\s\"]+@")
_OTHER_PASSWORD = re.compile(rb"(://[^/:@\s\"]+):[^/@\s\"]*@")
_SECRET_KEY = re.compile(
    rb"""(?imx) ^ ([ \t]*+ (?: \[ [^\]\n]*+ \] [ \t]*+)?)  # a section header may stand on the same line
    (?= [a-z0-9.-]*? (?: extraheader | password | passwd | smtppass | token | secret)) [a-z0-9.-]++ [ \t]*+
    = (?: \\\n | .)*+ $"""
)


def without_credentials(config: bytes) -> bytes:
    """Git configuration with the user part of URLs and the values of secret settings taken out."""
    config = _HTTP_USER.sub(rb"\1", config)
    config = _OTHER_PASSWORD.sub(rb"\1@", config)
    return _SECRET_KEY.sub(rb"\1# a credential was left out of this copy", config)
