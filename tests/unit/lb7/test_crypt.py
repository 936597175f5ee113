"""lb7.crypt: known hashes, and those that are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lb7.crypt import crypt, hash_fault

# Of the password "secret", each with the method's usual cost or less.
HASHES = {
    "md5": "$1$uVoNRpkV$nxIHYSWEOvS4znNtyR30j/",
    "sha256": "$5$JObJgs64m4iFdwhE$sauRGUOghqBd7yPfy0txbeJdmw4WzDx0FRSg86n5iU3",
    "des": "RuPDBnCzjAG6Y",
}
MAKES = {"sha512": "$6$rounds=1000$saltsalt$", "bcrypt": "$2b$04$kcx.QEslcMisPDCYiLJybu"}


@pytest.mark.parametrize("name", HASHES)
def test_known_hashes(name: str) -> None:
    text = HASHES[name]
    assert hash_fault(text) == ""
    assert crypt(b"secret", text.encode()) == text.encode()
    assert crypt(b"Secret", text.encode()) != text.encode()


def test_published_vector() -> None:
    """From the description of the method (U. Drepper, Unix crypt using SHA-256 and SHA-512)."""
    text = b"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    assert crypt(b"Hello world!", text) == text


@pytest.mark.parametrize("name", MAKES)
def test_other_methods(name: str) -> None:
    made = crypt(b"secret", MAKES[name].encode())
    assert made is not None
    assert hash_fault(made.decode()) == ""
    assert crypt(b"secret", made) == made
    assert crypt(b"other", made) != made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("secret", "none of crypt"),
        ("$apr1$saltsalt$qPzWDCUVm3KpHWlSP8qE1/", "none of crypt"),
        ("$5$salt$short", "none of crypt"),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "none of crypt"),
        (HASHES["sha256"].replace("$5$", "$5$rounds=999999999$"), "rounds"),
        ("$2b$13$" + "a" * 53, "cost"),
        ("$y$jFT$abc$" + "a" * 43, "MB"),
        (HASHES["md5"] + "\n", "none of crypt"),
        ("pässword", "characters"),
    ],
)
def test_faults(text: str, told: str) -> None:
    fault = hash_fault(text)
    assert told in fault
    assert not text or text not in fault


def test_what_can_not_be_computed() -> None:
    assert crypt(b"secret\0x", HASHES["md5"].encode()) is None
    assert crypt(b"x" * 512, HASHES["md5"].encode()) is None
    assert crypt(b"secret", b"$nonsense$") is None


def test_threads_do_not_disturb_each_other() -> None:
    text = HASHES["md5"].encode()
    passwords = [b"secret", b"other"] * 100
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda password: crypt(password, text) == text, passwords))
    assert made == [True, False] * 100
