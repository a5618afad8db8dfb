"""Secrets in addresses: none is told, and the rest stays readable."""

from __future__ import annotations

import time

import pytest

from local.cli.redaction import redact, redact_address, redact_values

ADDRESSES = [
    ("https://me:S3cret@host/x", "https://me:***@host/x"),
    ("https://me:S3cret@host:8080", "https://me:***@host:8080"),
    ("ftp://me:p%40ss%3Aword@host/x", "ftp://me:***@host/x"),
    ("https://me:p@ss@host/x", "https://me:***@host/x"),
    ("https://me:p:a:ss@host/x", "https://me:***@host/x"),
    ("postgresql+psycopg://me:pa/ss@host/db", "postgresql+psycopg://me:***@host/db"),
    ("postgresql://me:p#a?s@host/db", "postgresql://me:***@host/db"),
    ("mysql+pymysql://me:S3cret@/db?unix_socket=/x", "mysql+pymysql://me:***@/db?unix_socket=/x"),
    ("https://me:S3cret@[2001:db8::1]:443/x", "https://me:***@[2001:db8::1]:443/x"),
    ("https://:S3cret@host/x", "https://:***@host/x"),
    ("//me:S3cret@host/x", "//me:***@host/x"),
    ("https://me@host/x", "https://me@host/x"),
    ("https://me:@host/x", "https://me:@host/x"),
    ("https://ghp_0123456789abcdefghij@github.com/x", "https://***@github.com/x"),
    ("https://host/x?password=S3cret", "https://host/x?password=***"),
    ("https://host/x?a=1&PassWord=S3cret&b=2#c", "https://host/x?a=1&PassWord=***&b=2#c"),
    ("https://host/x?access_token=S3cret&page=2", "https://host/x?access_token=***&page=2"),
    ("https://host/x?X-Amz-Signature=S3cret", "https://host/x?X-Amz-Signature=***"),
    ("https://host/x?AWSAccessKeyId=S3cret&Expires=1", "https://host/x?AWSAccessKeyId=***&Expires=1"),
    ("https://host/x?api_key=S3cret", "https://host/x?api_key=***"),
    ("https://host/x?apiKey=S3cret", "https://host/x?apiKey=***"),
    ("https://host/x?key=S3cret", "https://host/x?key=***"),
    ("https://host/x?sig=S3%26cret%3D", "https://host/x?sig=***"),
    ("https://host/x?pass%77ord=S3cret", "https://host/x?pass%77ord=***"),
    ("https://host/x#access_token=S3cret", "https://host/x#access_token=***"),
    ("postgresql://host/db?user=me&password=S3cret", "postgresql://host/db?user=me&password=***"),
    ("https://a/?next=https://me:S3cret@host/x", "https://a/?next=https://me:***@host/x"),
    ("https://a/?next=https%3A%2F%2Fme%3AS3cret%40host&b=1", "https://a/?next=***&b=1"),
    ("https://a/?next=https%253A%252F%252Fme%253AS3cret%2540host", "https://a/?next=***"),
    ("https://a/?next=https%3A%2F%2Fb%2F%3Ftoken%3DS3cret&b=1", "https://a/?next=***&b=1"),
    ("https://a/?next=https%3A%2F%2Fb%2F%3Fpage%3D3", "https://a/?next=https%3A%2F%2Fb%2F%3Fpage%3D3"),
    ("https://a/?next=x?password=S3cret&b=1", "https://a/?next=x?password=***&b=1"),
    ("https://me%3AS3cret@host/x", "https://me%3A***@host/x"),
    ("https://me:S3cret%40host/x", "https://me:***%40host/x"),
    ("mysql+pymysql://me:12/S3cret@host/db", "mysql+pymysql://me:***@host/db"),
    ("postgresql://host:5432/db?options=a@b", "postgresql://host:5432/db?options=a@b"),
    ("https://host/x;jsessionid=S3cret", "https://host/x;jsessionid=***"),
    ("https://host/x?user[password]=S3cret&b=1", "https://host/x?user[password]=***&b=1"),
    ("https://host/x?jwt=ey.S3cret.x", "https://host/x?jwt=***"),
    ("http://a:S3cret@b,http://c:S3cret@d/e", "http://a:***@b,http://c:***@d/e"),
]  # fmt: skip
PLAIN = [
    "https://zenodo.org/records/123/files/a.zip?download=1",
    "https://host:8080/npm/pkg@1.2.3/x",
    "http://[::1]:8080/a@b",
    "https://host/x?monkey=1&author=me&design=a&n_tokens=3",
    "sqlite:///exp/a:b@c.db",
    "sqlite:////data/optuna-sed.db",
    "rec/a:b@c.wav: no such file",
    "net.n_tokens=496  key=3  data.fs=16000",
    "validation.tsv, line 12: unknown label 'Dgo'; known: Dog",
    "mail me@host.org",
    "net.n_tokens: '496', 'tokenizer': 'x', passwords: none",
    "--token_length 3, --secrets",
    "",
]


@pytest.mark.parametrize(("address", "expected"), ADDRESSES)
def test_secrets_of_addresses_are_hidden_wherever_they_stand(address, expected):
    for text in ("{}", "{}: not found (HTTP 404)", "error: '{}'; try again", "a {}\nb <{}> c"):
        found = redact(text.replace("{}", address))
        assert found == text.replace("{}", expected)
        assert redact(found) == found
    assert redact_address(address) == expected


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_stays_as_it_is(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Max retries exceeded with url: /x?token=S3cret (Caused by", "/x?token=*** (Caused by"),
        ("(https://h/x?token=S3cret); try again", "(https://h/x?token=***); try again"),
        ('connection to "host=h user=me password=S3cret dbname=d" failed', "password=*** dbname=d"),
        ("PGPASSWORD=S3cret psql", "PGPASSWORD=*** psql"),
        ("HF_TOKEN=S3cret python", "HF_TOKEN=*** python"),
        ("--api_key=S3cret", "--api_key=***"),
        ("{'Authorization': 'Basic UzNjcmV0'}", "{'Authorization': ***"),
        ("Proxy-Authorization: Bearer S3cret", "Proxy-Authorization: ***"),
        ("sent Bearer S3cret.x-y", "sent Bearer ***"),
        ("connect(user='me', password='S3cret, x')", "(user='me', password=***)"),
        ("{'user': 'me', 'passwd': 'S3cret x'}", "{'user': 'me', 'passwd': '***'}"),
        ('{"api_key": "S3cret", "n": 3}', '"n": 3}'),
        ("user: me\npassword: S3cret\nn: 3", "user: me\npassword: ***\nn: 3"),
        ("[('password', 'S3cret')]", "[('password', '***')]"),
        ("tool --api-key S3cret --fast", "tool --api-key *** --fast"),
    ],
)
def test_secrets_outside_addresses(text, expected):
    assert expected in redact(text) and "S3cret" not in redact(text)


def test_texts_of_a_report_are_redacted_whatever_their_keys():
    report = {"token.wav": ["silent", {"a?password=b": "//me:S3cret@h"}], "n": (1, None)}
    assert redact_values(report) == {
        "token.wav": ["silent", {"a?password=b": "//me:***@h"}],
        "n": [1, None],
    }


def test_an_address_alone_may_have_spaces_or_no_scheme():
    assert redact_address("me:S3 cret@host/x") == "me:***@host/x"
    assert redact_address("postgresql://me:S3 cret@host/db") == "postgresql://me:***@host/db"
    assert redact_address("/data/study.log") == "/data/study.log"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://", "socks5h://"])
def test_the_passwords_of_proxies_are_known(monkeypatch, name, scheme):
    monkeypatch.setenv(name, f"{scheme}me:S3%40cret@proxy:3128")
    assert redact("cannot connect as me with S3%40cret to S3@cret") == (
        "cannot connect as me with *** to ***"
    )


@pytest.mark.parametrize(
    "part", ["a", "a.", "password", "a=", "?a", "//a:", "%40", "'password': '"]
)
def test_long_texts_take_no_time(part):
    start = time.perf_counter()
    redact(part * (100_000 // len(part)) + " https://me:S3cret@host")
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("sign", [": ", ":", "=", " = "])
@pytest.mark.parametrize("name", ["api_key", "WANDB_API_KEY", "secret_key", "access_token"])
def test_keys_without_quotes_are_hidden(name, sign):
    """As in a command line: --set "logging.wandb={api_key: ...}"."""
    told = redact(f"train --set 'logging.wandb={{{name}{sign}S3cret, project: birds}}'")
    assert "S3cret" not in told and "project: birds" in told
    assert redact("no key: an api_key is asked for") == "no key: an api_key is asked for"
