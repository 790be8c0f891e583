"""Which addresses are called, and what a call of a hostile one can cost."""

import socket
from collections.abc import Iterator

import pytest

from jobs.addresses import CallFailed, Hosts, Target, call, is_public
from jobs.errors import AddressRefused
from tests.receiver import Receiver, receiver


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


NOT_PUBLIC = (
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0", "fd00::1"),
    *("fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "fd00:ec2::254"),
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_the_public_internet_is_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("*", "https://example.com/a?b=c"),
        ("*.example.com", "https://a.b.example.com:8443/x"),
        ("example.com, other.org", "https://OTHER.org./x"),
        ("10.1.2.3", "http://10.1.2.3:9000/x"),
        ("[fd00::1]", "http://[fd00::1]/x"),
    ],
)
def test_hosts_that_the_setting_names_are_allowed(setting: str, url: str) -> None:
    assert Hosts(setting).target(url, "image_url").url == url


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("", "https://example.com/"),
        ("*.example.com", "https://example.com/"),
        ("*.example.com", "https://evilexample.com/"),
        ("*.example.com", "https://example.com.evil.org/"),
        ("example.com", "https://example.com@evil.org/"),
        ("example.com", "https://example.com:pass@example.com/"),
        ("example.com", "https://evil.org\\@example.com/"),
        ("example.com", "https://evil.org#@example.com/"),
        ("*", "http://example.com/"),
        ("*", "ftp://example.com/"),
        ("*", "file:///etc/passwd"),
        ("*", "//example.com/"),
        ("*", "https://a..example.com/"),
        ("*", "https://example.com../"),
        ("*", f"https://{'a' * 64}.example.com/"),
        ("*", "example.com"),
        ("*", ""),
        ("*", "https://"),
        ("*", "https://exa mple.com/"),
        ("*", "https://example.com/\r\nHost: x"),
        ("*", "https://[fe80::1%25eth0]/"),
        ("*", "https://example.com:99999/"),
        ("*", "https://exämple.com/"),
        ("*", "https://example.com/" + "a" * 2048),
    ],
)
def test_all_others_are_refused_in_a_sentence_about_the_field(setting: str, url: str) -> None:
    with pytest.raises(AddressRefused, match=r"^image_url: "):
        Hosts(setting).target(url, "image_url")


@pytest.mark.parametrize("setting", ["https://a.example", "a b", "*.*", "a/b", "example.com:80"])
def test_a_setting_that_names_no_host_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Hosts(setting)


SPELLINGS = ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:7f00:1]"]


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_spelling_of_loopback_is_no_public_host(host: str, there: Receiver) -> None:
    port = there.url.rpartition(":")[2]
    target = Hosts("*").target(f"https://{host}:{port}/", "image_url")
    with pytest.raises((AddressRefused, CallFailed)) as caught:
        call(target, "GET", most_bytes=10, within_s=5)
    assert not there.received
    if socket.has_ipv6 or ":" not in host:
        assert "no public address" in str(caught.value) or "could not be reached" in str(caught.value)


def test_a_name_of_which_one_address_is_private_is_refused() -> None:
    target = Hosts("*").target("https://example.com/", "image_url")
    with pytest.raises(AddressRefused, match=r"'example\.com' is no public address"):
        call(target, "GET", most_bytes=10, within_s=5, resolver=lambda *_: ["8.8.8.8", "10.0.0.1"])


def test_the_name_is_looked_up_once_so_that_a_second_answer_changes_nothing(there: Receiver) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    port = there.url.rpartition(":")[2]
    target = Target(f"http://rebinding.example:{port}/x", "rebinding.example", private_too=True)
    answer = call(target, "GET", most_bytes=10, within_s=5, resolver=lambda *_: answers.pop(0))
    assert answer.status == 200 and len(answers) == 1
    assert there.received[0].headers["Host"] == f"rebinding.example:{port}"


def allowed(there: Receiver) -> Target:
    return Hosts("127.0.0.1").target(f"{there.url}/path?signature=x", "output_url")


def test_a_body_is_sent_and_the_answer_read(there: Receiver) -> None:
    there.content = b"thanks"
    answer = call(allowed(there), "PUT", content=b"x" * 300_000, headers={"Content-Type": "image/png"},
                  most_bytes=100, within_s=5)  # fmt: skip
    (sent,) = there.received
    assert (answer.status, answer.body) == (200, b"thanks")
    assert (sent.method, sent.path, len(sent.body)) == ("PUT", "/path?signature=x", 300_000)
    assert sent.headers["Content-Type"] == "image/png"


def test_a_redirect_is_not_followed(there: Receiver) -> None:
    there.statuses, there.location = [302], f"{there.url}/other"
    assert call(allowed(there), "GET", most_bytes=100, within_s=5).status == 302
    assert len(there.received) == 1


def test_a_long_answer_is_cut_off(there: Receiver) -> None:
    there.content = b"x" * 3_000_000
    with pytest.raises(CallFailed, match="sent more than 1000 bytes"):
        call(allowed(there), "GET", most_bytes=1000, within_s=5)


def test_an_answer_that_drips_ends_at_the_deadline(there: Receiver) -> None:
    there.content, there.drip_s = b"x" * 100, 0.05
    with pytest.raises(CallFailed, match="did not answer in time"):
        call(allowed(there), "GET", most_bytes=1000, within_s=0.5)


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(CallFailed, match="could not be reached"):
        call(Hosts("127.0.0.1").target("http://127.0.0.1:9/", "x"), "GET", most_bytes=1, within_s=2)


def test_the_proxies_of_the_environment_are_passed_by(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert call(allowed(there), "GET", most_bytes=100, within_s=5).status == 200
