"""The guard against requests into our own network."""

import pytest

from service.notifications.address import check_target, is_global
from service.notifications.errors import UnsafeAddressError

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2001:0:7f00:1:0:0:80ff:fffe",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::5db8:d70e",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "0:0:0:0:0:ffff:7f00:1",
        "192.0.0.9",
        "192.0.0.170",
        "192.88.99.1",
        "198.18.0.1",
        "5f00::1",
        "3fff::1",
        "fec0::1",
        "2001:db8::1",
        "100::1",
        "4000::1",
    ],
)
def test_address_inside_is_not_global(address: str) -> None:
    assert not is_global(address)


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        "8.8.8.8",
        "223.255.255.254",
        "2a00:1450:4001::1",
        "64:ff9b::808:808",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
        "::ffff:93.184.215.14",
    ],
)
def test_address_on_the_internet_is_global(address: str) -> None:
    assert is_global(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://example.org:8443/",
        "https://user@example.org/",
        "https://user:pass@example.org/",
        "https:///nothing",
        "https://[bad/",
        "https://example.org:99999/",
        "https://example.org:0/",
        "https://example.org/a\x00b",
        "https://example.org/a\u0085b",
        "https://example.org/a b",
        "https://exa\nmple.org/",
        "https://m\u00fcller.example/",
        "",
    ],
)
def test_url_that_is_not_plain_https_is_refused(url: str) -> None:
    with pytest.raises(UnsafeAddressError):
        check_target(url, resolve=lambda host, port: [PUBLIC])


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f000001", "2130706433", "127.1", "localhost"])
def test_own_machine_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(UnsafeAddressError):
        check_target(f"https://{host}/")


def test_one_private_address_among_public_ones_is_refused() -> None:
    with pytest.raises(UnsafeAddressError, match=r"10\.0\.0\.1"):
        check_target("https://example.org/", resolve=lambda host, port: [PUBLIC, "10.0.0.1"])


def test_name_is_looked_up_once_and_the_address_kept() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    target = check_target("https://example.org/hook?x=1", resolve=lambda host, port: next(answers))

    assert target.url == f"https://{PUBLIC}:443/hook?x=1"
    assert (target.host, target.host_header) == ("example.org", "example.org")


def test_installation_with_receivers_inside_may_say_so() -> None:
    target = check_target("http://127.0.0.1:9000/x", allow_private=True)

    assert target.url == "http://127.0.0.1:9000/x"
    assert target.host_header == "127.0.0.1:9000"
