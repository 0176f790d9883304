"""The parsers of the environment, and the settings' own rules, each refusal with its one line."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway_project.environment import (
    InvalidEnvironment,
    envaddress,
    envbool,
    envchoice,
    envhosts,
    envint,
    envlist,
    envorigins,
    envstr,
    is_loopback,
    load_env_file,
    subdomains_pattern,
    take_quotes_off,
)

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {
    "HOST": "0.0.0.0",
    "DATABASE_URL": "postgresql://u:p@db/gateway",
    "ALLOWED_HOSTS": "gateway.example",
    "SECRET_KEY": "k" * 50,
}


@pytest.fixture
def set_variable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("X", raising=False)
    return monkeypatch


def test_an_unset_and_an_empty_variable_give_the_default(set_variable: pytest.MonkeyPatch) -> None:
    assert envstr("X", "d") == "d"
    assert envbool("X", True) is True
    assert envint("X", 7, least=1, most=9) == 7
    assert envlist("X", ["a"]) == ["a"]
    set_variable.setenv("X", " ")
    assert envstr("X", "d") == "d"
    assert envbool("X", False) is False
    assert envint("X", 7, least=1, most=9) == 7


@pytest.mark.parametrize(("text", "value"), [("True", True), ("true", True), ("False", False), ("FALSE", False)])
def test_a_switch_is_true_or_false(set_variable: pytest.MonkeyPatch, text: str, value: bool) -> None:
    set_variable.setenv("X", text)
    assert envbool("X", not value) is value


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_value_are_no_part_of_it(set_variable: pytest.MonkeyPatch, quote: str) -> None:
    """docker run --env-file keeps what every other reader of the same file takes off."""
    for given, value in (("a.example, b.example", "a.example, b.example"), ("", ""), (f"it{quote}s", f"it{quote}s")):
        set_variable.setenv("X", f"{quote}{given}{quote} ")
        take_quotes_off()
        assert os.environ["X"] == value
    for kept in (f"it{quote}s", f"{quote}a", quote):
        set_variable.setenv("X", kept)
        take_quotes_off()
        assert os.environ["X"] == kept


def test_lists_are_separated_by_commas(set_variable: pytest.MonkeyPatch) -> None:
    set_variable.setenv("X", "a.example, .b.example,,[::1],*")
    assert envhosts("X") == ["a.example", ".b.example", "[::1]", "*"]
    set_variable.setenv("X", "https://a.example,http://localhost:3000")
    assert envorigins("X") == ["https://a.example", "http://localhost:3000"]


def test_an_origin_is_kept_as_browsers_send_it(set_variable: pytest.MonkeyPatch) -> None:
    set_variable.setenv("X", "https://App.Example:443,http://a.example:80,https://a.example:80,http://[::1]:3000")
    assert envorigins("X") == ["https://app.example", "http://a.example", "https://a.example:80", "http://[::1]:3000"]


@pytest.mark.parametrize(
    ("origin", "matches"),
    [
        ("https://app.example.com", True),
        ("https://a.b.example.com", True),
        ("https://example.com", False),
        ("https://evilexample.com", False),
        ("https://app.example.com.evil.example", False),
        ("https://evil.example?app.example.com", False),
        ("https://app.exampleXcom", False),
        ("https://app.example.com:8443", False),
        ("http://app.example.com", False),
        ("https://app.example.com\n", False),
    ],
)
def test_a_wildcard_stands_for_all_subdomains_and_nothing_else(origin: str, matches: bool) -> None:
    assert (re.match(subdomains_pattern("https://*.example.com"), origin) is not None) is matches


def test_a_malformed_value_is_refused_in_one_line_that_names_the_variable(
    set_variable: pytest.MonkeyPatch,
) -> None:
    set_variable.setenv("X", "maybe")
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be True or False, not 'maybe'\Z"):
        envbool("X", False)
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be a whole number from 1 to 9, not 'maybe'\Z"):
        envint("X", 5, least=1, most=9)
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be red or blue, not 'maybe'\Z"):
        envchoice("X", "red", ("red", "blue"))
    set_variable.setenv("X", "https://a.example/")
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be host names separated by commas, without"):
        envhosts("X")
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be origins such as https://example.com, not"):
        envorigins("X")


@pytest.mark.parametrize("text", ["0", "10", "-1", "1.5", "1e3", "٣", "1" * 40])
def test_a_number_out_of_range_or_in_another_notation_is_refused(set_variable: pytest.MonkeyPatch, text: str) -> None:
    set_variable.setenv("X", text)
    with pytest.raises(InvalidEnvironment):
        envint("X", 5, least=1, most=9)


def test_a_file_sets_what_the_environment_does_not(set_variable: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("A", "B", "C", "D", "E", "F", "G"):
        set_variable.setenv(name, "")  # so that monkeypatch removes what the file sets
        set_variable.delenv(name)
    set_variable.setenv("A", "of the environment")
    (tmp_path / ".env").write_text(
        """\ufeffG=after a byte-order mark
        # a comment

        A=of the file
        export B = 'two words'  # said why
        C=x#y # cut here
        D="#"
        E=a=b$HOME${HOME}
        F=  # none
        """
    )
    load_env_file(tmp_path / ".env")
    assert [os.environ[name] for name in ("A", "B", "C", "D", "E", "F", "G")] == [
        "of the environment",
        "two words",
        "x#y",
        "#",
        "a=b$HOME${HOME}",
        "",
        "after a byte-order mark",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("X=1\nhunter2\n", 2),
        ("X=1\n\n# said why\n\n  hunter2", 5),
        ("X=1\r\nhunter2\r\n", 2),
        ("X=1\nhunter-2=3\n", 2),
        ("=hunter2", 1),
        ("X=1\nY='hunter2\n", 2),
        ("X='two\nlines'\nhunter2", 3),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_the_file_changes_nothing(
    set_variable: pytest.MonkeyPatch, tmp_path: Path, text: str, line: int
) -> None:
    (tmp_path / ".env").write_bytes(text.encode())
    with pytest.raises(InvalidEnvironment) as caught:
        load_env_file(tmp_path / ".env")
    assert str(caught.value) == f"{tmp_path / '.env'}, line {line}: should be KEY=VALUE"
    assert "X" not in os.environ


def test_a_missing_file_is_ignored_and_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    load_env_file(tmp_path / "missing")
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(InvalidEnvironment, match=r"\.env: is not UTF-8: save it as that\Z"):
        load_env_file(tmp_path / ".env")
    with pytest.raises(InvalidEnvironment, match=rf"\A{tmp_path}: cannot be read \(Is a directory\)\Z"):
        load_env_file(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_windows_is_read(set_variable: pytest.MonkeyPatch, tmp_path: Path, encoding: str) -> None:
    for name in ("A", "B"):
        set_variable.setenv(name, "")
        set_variable.delenv(name)
    (tmp_path / ".env").write_bytes("A=é\r\nB='two words'\r\n".encode(encoding))
    load_env_file(tmp_path / ".env")
    assert (os.environ["A"], os.environ["B"]) == ("é", "two words")


def test_a_file_in_utf_16_without_a_mark_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("A=1\n".encode("utf-16-le"))
    with pytest.raises(InvalidEnvironment, match="is not UTF-8"):
        load_env_file(tmp_path / ".env")


PROGRAM = """
import sys
from gateway_project.environment import InvalidEnvironment
try:
    from gateway_project import settings
except InvalidEnvironment as error:
    sys.exit(str(error))
print(eval(sys.argv[1]))
"""


#: Root may read every file, unless it gives that right up.
AS_ANY_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def settings_value(
    expression: str, tmp_path: Path, under: tuple[str, ...] = (), /, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Loads the settings in a new process, with only these variables, and prints an expression."""
    return subprocess.run(
        [*under, sys.executable, "-c", PROGRAM, expression],
        cwd=ROOT,
        env={"GATEWAY_ENV_FILE": os.devnull, "GATEWAY_DATA_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_loopback_everything_has_a_default(tmp_path: Path) -> None:
    shown = settings_value("settings.HOST, settings.PORT, settings.GATEWAY_AUTH, settings.HTTPS", tmp_path)
    assert shown.stdout == "('127.0.0.1', 4000, 'open', False)\n"
    assert settings_value("settings.ALLOWED_HOSTS", tmp_path).stdout == "['localhost', '127.0.0.1', '[::1]']\n"


def test_a_start_reads_quoted_variables_as_their_values(tmp_path: Path) -> None:
    quoted = {name: f'"{value}"' for name, value in DEPLOYED.items()} | {"AWS_REGION": "'eu-west-1'"}
    shown = settings_value("settings.ALLOWED_HOSTS[0], settings.os.environ['AWS_REGION']", tmp_path, **quoted)
    assert shown.stdout == "('gateway.example', 'eu-west-1')\n"


def test_the_secret_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = settings_value("settings.SECRET_KEY", tmp_path).stdout
    assert len(first.strip()) == 64
    assert settings_value("settings.SECRET_KEY", tmp_path).stdout == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]


def test_a_data_directory_that_cannot_be_used_is_named_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "secret_key").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "secret_key").write_text("\n")
    cure = ": remove it, or set SECRET_KEY, or set GATEWAY_DATA_DIR to another directory\n"
    for place, line in [
        ("file", f"{tmp_path}/file: File exists: it is a file and should be a directory{cure}"),
        (
            "file/below",
            f"{tmp_path}/file/below: Not a directory: a file stands where a directory should{cure}",
        ),
        ("odd", f"{tmp_path}/odd/secret_key: Is a directory{cure.removeprefix(': remove it')}"),
        ("empty", f"{tmp_path}/empty/secret_key: is empty{cure}"),
    ]:
        refused = settings_value("1", tmp_path, GATEWAY_DATA_DIR=str(tmp_path / place))
        assert (refused.returncode, refused.stderr) == (1, line)


def test_a_secret_key_of_somebody_else_is_named_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("k" * 50)
    (tmp_path / "secret_key").chmod(0)
    refused = settings_value("1", tmp_path, AS_ANY_USER)
    assert refused.stderr == (
        f"{tmp_path}/secret_key: Permission denied: let the user that runs the gateway read and write it, "
        "or set SECRET_KEY, or set GATEWAY_DATA_DIR to another directory\n"
    )


def test_a_deployment_requires_keys_and_https_by_default(tmp_path: Path) -> None:
    shown = settings_value(
        "settings.GATEWAY_AUTH, settings.HTTPS, settings.CSRF_COOKIE_SECURE, settings.EMBEDDED_POSTGRES_DIR",
        tmp_path,
        **DEPLOYED,
    )
    assert shown.stdout == "('required', True, True, None)\n"


@pytest.mark.parametrize(
    ("given", "public", "private"),
    [
        (
            {"RAILWAY_PUBLIC_DOMAIN": "gw.up.railway.app", "RAILWAY_PRIVATE_DOMAIN": "gw.railway.internal"},
            ["gw.up.railway.app"],
            ["gw.railway.internal"],
        ),
        ({"RENDER_EXTERNAL_HOSTNAME": "gw.onrender.com"}, ["gw.onrender.com"], []),
        ({"FLY_APP_NAME": "gw"}, ["gw.fly.dev"], ["gw.internal", "gw.flycast"]),
        ({"HEROKU_APP_DEFAULT_DOMAIN_NAME": "gw-1.herokuapp.com"}, ["gw-1.herokuapp.com"], []),
    ],
)
def test_the_platforms_host_names_are_added_to_those_that_are_given(
    tmp_path: Path, given: dict[str, str], public: list[str], private: list[str]
) -> None:
    expression = "(settings.ALLOWED_HOSTS, settings.CSRF_TRUSTED_ORIGINS)"
    origins = [f"https://{host}" for host in public]
    alone = {name: value for name, value in DEPLOYED.items() if name != "ALLOWED_HOSTS"}
    shown = settings_value(expression, tmp_path, **alone, **given)
    assert ast.literal_eval(shown.stdout) == ([*public, *private], origins)
    shown = settings_value(
        expression, tmp_path, **DEPLOYED, **given, CSRF_TRUSTED_ORIGINS=f"https://a.example,https://{public[0]}"
    )
    assert ast.literal_eval(shown.stdout) == (
        ["gateway.example", *public, *private],
        ["https://a.example", *origins],
    )


@pytest.mark.parametrize(
    ("given", "host", "on_loopback"),
    [
        ("::", "::", False),
        ("[::]", "::", False),
        ("[::1]", "::1", True),
        ("0:0:0:0:0:0:0:1", "0:0:0:0:0:0:0:1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.2", "127.0.0.2", True),
        ("fd12::3", "fd12::3", False),
        ("10.1.2.3", "10.1.2.3", False),
        ("localhost", "localhost", True),
    ],
)
def test_an_ipv6_address_may_be_in_brackets_and_any_loopback_address_is_loopback(
    set_variable: pytest.MonkeyPatch, given: str, host: str, on_loopback: bool
) -> None:
    set_variable.setenv("X", given)
    assert envaddress("X", "127.0.0.1") == host
    assert is_loopback(host) is on_loopback


@pytest.mark.parametrize("given", ["127.0.0.1:4000", "[::]:4000", "::1::", "[127.0.0.1]", "[gateway]"])
def test_an_address_with_a_port_is_refused(set_variable: pytest.MonkeyPatch, given: str) -> None:
    set_variable.setenv("X", given)
    with pytest.raises(InvalidEnvironment, match=r"\AX: should be an address to serve on, such as 127.0.0.1, "):
        envaddress("X", "127.0.0.1")


@pytest.mark.parametrize("name", ["DATABASE_URL", "ALLOWED_HOSTS", "SECRET_KEY"])
def test_a_deployment_without_a_required_variable_is_refused(tmp_path: Path, name: str) -> None:
    refused = settings_value("1", tmp_path, **{key: value for key, value in DEPLOYED.items() if key != name})
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{name}: is required when HOST is 0.0.0.0")
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOST", "[::]:4000"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("GATEWAY_AUTH", "none"),
        ("WEB_CONCURRENCY", "0"),
        ("DATABASE_URL", "sqlite:///x"),
        ("ALLOWED_HOSTS", "https://x"),
        ("CSRF_TRUSTED_ORIGINS", "x.example"),
        ("CORS_ALLOWED_ORIGINS", "*"),
        ("GATEWAY_WORKER_CLASS", "sync"),
        ("GATEWAY_PARSER", "fast"),
        ("GATEWAY_EXCHANGE", "requests"),
        ("GATEWAY_TRANSLATION", "long"),
        ("GATEWAY_HTTPS", "1"),
        ("GATEWAY_MAX_BODY_BYTES", "20MB"),
        ("GATEWAY_LOG_LEVEL", "info"),
    ],
)
def test_a_malformed_setting_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    refused = settings_value("1", tmp_path, **{name: value})
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{name}: ")
    assert refused.stderr.count("\n") == 1
