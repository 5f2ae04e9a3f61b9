"""Who may log in to the web page, and for how long: attacked with time in our hands."""

import hashlib
import json
import logging
import secrets
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.errors import NotRecorded, Refused
from agent.gateway import page_logins
from agent.gateway.attempts import Lockouts, Rate, address_key
from agent.gateway.page_logins import PageLogins
from agent.gateway.page_persons import FILE, PagePersons, name_key

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
WALL = 1_790_000_000
HERE, THERE = "192.168.1.20", "192.168.1.66"
KEY, OTHER = bytes(32), bytes(31) + b"x"


class Page:
    """The logins of a page at a time that the test moves."""

    def __init__(self, folder):
        self.folder, self.now, self.records = folder, 1_000.0, []
        self.start()

    def start(self):
        """The daemon starts, again or for the first time."""
        self.logins = PageLogins(
            self.folder, lambda: self.now, lambda kind, body: self.records.append((kind, body))
        )

    def invite(self, name="Marie Dupont", roles=("manager",)):
        return self.logins.invite(name, roles, "Eva (root)", WALL)[0]

    def join(self, name="Marie Dupont", roles=("manager",), key=KEY):
        """A person has chosen a password; the token of their login."""
        return self.logins.choose(self.invite(name, roles), key, HERE, WALL)[0]

    def enter(self, name="Marie Dupont", key=KEY, address=HERE):
        return self.logins.enter(name, key, address)[0]

    def lives(self, token):
        return self.logins.use(token, counts=False) is not None

    def roles(self, token):
        return self.logins.use(token)[2]

    def refused(self, call, *args, **more):
        with pytest.raises(Refused) as refused:
            call(*args, **more)
        return str(refused.value)


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path)


def test_an_invited_person_chooses_a_password_and_logs_in_with_it(page):
    code = page.invite()
    assert len(code) == 14
    assert not page.logins.persons.fits("Marie Dupont", KEY)
    person = page.logins.invited(code.lower().replace("-", " "), HERE, WALL)
    token, chosen = page.logins.choose(code, KEY, HERE, WALL)
    assert chosen.salt == person.new_salt == page.logins.persons.salt("MARIE  dupont")
    assert page.roles(token) == ("manager",)
    assert page.roles(page.enter("marie dupont")) == ("manager",)
    assert "wrong" in page.refused(page.enter, key=OTHER)
    # a code is used up
    assert "the code is wrong" in page.refused(page.logins.choose, code, OTHER, HERE, WALL)
    assert page.lives(page.enter())


def test_nothing_on_the_disk_logs_anybody_in(page):
    """Rule W1."""
    code, login = page.invite(), page.join("Paul")
    scraper = page.logins.persons.add_scraper("prometheus", "Eva (root)", WALL)
    path = page.folder / FILE
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in (code, code.replace("-", ""), login, scraper, KEY.hex()):
        assert secret not in text
    stored = json.loads(text)["persons"]
    assert [one["verifier"] for one in stored if one["name"] == "Paul"] == [
        hashlib.sha256(KEY).hexdigest()
    ]
    # the verifier itself opens nothing
    assert "wrong" in page.refused(page.enter, "Paul", hashlib.sha256(KEY).digest())
    page.start()
    assert not page.lives(login)
    assert page.logins.use(scraper)[2] == ()
    assert page.lives(page.enter("Paul"))


def test_a_damaged_file_admits_nobody_and_is_logged(page, caplog):
    page.join()
    (page.folder / FILE).write_text('{"secret": "zz", "persons": [{"nix": 1}]}')
    page.start()
    assert page.logins.persons.all() == []
    assert "nobody can log in" in caplog.text
    assert "wrong" in page.refused(page.enter)


def test_a_login_ends_without_use_and_after_twelve_hours(page):
    """Rule W1."""
    idle, used = page.join(), page.enter()
    page.now += 29 * MINUTE
    assert page.lives(used)
    page.logins.use(used)
    page.now += 2 * MINUTE
    assert not page.lives(idle)
    assert page.lives(used)
    for _ in range(25):
        page.now += 29 * MINUTE
        page.logins.use(used)
    assert page.now > 1_000.0 + 12 * HOUR
    assert not page.lives(used)


def test_what_a_page_asks_by_itself_does_not_keep_a_login(page):
    token = page.join()
    for _ in range(31):
        page.now += MINUTE
        page.logins.use(token, counts=False)
    assert not page.lives(token)


@pytest.mark.parametrize("forged", ["", "x", "é" * 40, "../../etc/passwd", "\0", "A" * 10_000])
def test_a_forged_login_is_nobody(page, forged):
    """Rule W1."""
    token = page.join()
    assert not page.lives(forged)
    assert not page.lives(hashlib.sha256(token.encode()).hexdigest())
    assert not page.lives(token[:-1])


def test_each_login_has_a_new_token_of_256_bits(page):
    """So that nobody can bring a person a token that he knows."""
    tokens = {page.join(), page.enter(), page.enter()}
    assert len(tokens) == 3
    assert {len(token) for token in tokens} == {43}


def test_a_removed_person_is_out_at_once(page):
    """Rule W1."""
    token, other = page.join(), page.join("Paul", key=OTHER)
    page.logins.remove("MARIE DUPONT")
    assert not page.lives(token)
    assert page.lives(other)
    assert "wrong" in page.refused(page.enter)
    assert 'no person "Marie"' in page.refused(page.logins.remove, "Marie")


def test_a_new_invitation_ends_the_password_and_the_logins_and_gives_new_roles(page):
    """Rules W1, W2."""
    token = page.join(roles=("manager", "dpo"))
    code = page.invite("marie dupont", ("reader",))
    assert not page.lives(token)
    assert "wrong" in page.refused(page.enter)
    again, person = page.logins.choose(code, OTHER, HERE, WALL)
    assert page.roles(again) == ("reader",)
    assert person.name == "Marie Dupont"
    assert [one.name for one in page.logins.persons.all()] == ["Marie Dupont"]


def test_an_invitation_ends_after_seven_days_also_by_a_clock_that_was_set_back(page):
    code = page.invite()
    for wall in (WALL + 7 * DAY, WALL - 2 * DAY, 0):
        assert "expired" in page.refused(page.logins.choose, code, KEY, HERE, wall)
    assert page.lives(page.logins.choose(code, KEY, HERE, WALL + 7 * DAY - 1)[0])


def test_what_the_disk_does_not_take_is_not_in_force(page):
    token, code = page.join(), page.invite("Paul")
    shutil.rmtree(page.folder)
    for change in (
        lambda: page.invite("Eva"),
        lambda: page.logins.choose(code, OTHER, HERE, WALL),
        lambda: page.logins.remove("Marie Dupont"),
    ):
        with pytest.raises(NotRecorded):
            change()
    assert [one.name for one in page.logins.persons.all()] == ["Marie Dupont", "Paul"]
    assert page.lives(token)
    assert not page.logins.persons.fits("Paul", OTHER)


# -- guesses


def wrong(page, times, name="Marie Dupont", address=HERE):
    return [page.refused(page.enter, name, secrets.token_bytes(32), address) for _ in range(times)]


def test_five_wrong_passwords_lock_a_name_for_longer_and_longer(page, caplog):
    """Rule W3."""
    page.join()
    with caplog.at_level(logging.WARNING):
        assert len(set(wrong(page, 5))) == 1
    waits = []
    for _ in range(9):
        begun = page.now
        assert "too many wrong passwords" in page.refused(page.enter), "the right one too"
        while "too many wrong passwords" in page.refused(page.enter, key=OTHER):
            page.now += 20
        waits.append(round((page.now - begun) / MINUTE))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "Marie" not in caplog.text
    page.now += HOUR
    assert page.lives(page.enter())
    wrong(page, 4)
    assert page.lives(page.enter()), "the right password forgets the wrong ones"


def test_a_lock_out_keeps_no_longer_than_root_wants(page):
    """Rule W3. A stranger who tries for ever cannot shut out whoever root admits."""
    token = page.join()
    wrong(page, 5, address=THERE)
    said = page.refused(page.enter)
    assert "gardien web person add" in said
    assert "gardien web open" in said
    assert page.lives(token), "who is inside stays inside"
    code, _ = page.logins.open_window(30 * MINUTE)
    assert page.lives(page.logins.enter_setup(code, "Installateur", HERE))
    assert page.lives(page.join(key=OTHER))
    assert page.lives(page.enter(key=OTHER))


def test_a_name_that_nobody_has_is_treated_like_a_wrong_password(page):
    """Rule W3."""
    page.join()
    known, unknown = wrong(page, 7), wrong(page, 7, "Nobody")
    assert known == unknown
    assert page.logins.persons.salt("Nobody") == page.logins.persons.salt("nobody ")
    assert len(page.logins.persons.salt("Nobody")) == len(page.logins.persons.salt("Marie Dupont"))
    salt = page.logins.persons.salt("Nobody")
    page.start()
    assert page.logins.persons.salt("Nobody") == salt, "also after a restart"
    assert [kind for kind, _ in page.records] == ["page.locked"]
    assert page.records[0][1]["person"] == "marie dupont"


def test_a_person_who_is_invited_looks_like_nobody_from_outside(page):
    code = page.invite()
    assert (
        page.logins.persons.salt("Marie Dupont") != page.logins.invited(code, HERE, WALL).new_salt
    )
    assert wrong(page, 1) == wrong(page, 1, "Nobody")


def test_many_names_do_not_make_a_persons_lock_out_forgotten(page):
    """Rule W3."""
    page.join()
    wrong(page, 5)
    for n in range(2_000):
        page.now += 0.01
        with pytest.raises(Refused):
            page.logins.enter(f"name {n}", OTHER, f"10.{n % 250}.{n // 250}.1")
    assert "too many wrong passwords" in page.refused(page.enter)
    assert len(page.logins._lockouts._strangers) <= 200
    assert len(page.logins._from_one._left) <= 500


def test_attempts_of_an_address_and_of_all_together_are_bounded_but_not_those_of_people_inside(
    page,
):
    """Rule W3."""
    page.join()
    tried = 0
    for n in range(20 * 600):
        page.now += 0.05  # ten minutes, twenty attempts a second, each from an address of its own
        with pytest.raises(Refused) as refused:
            page.logins.enter(f"n{n}", OTHER, f"2001:db8:{n % 4_000:x}::1")
        tried += "too many attempts" not in str(refused.value)
    assert tried <= 100 + 10 * MINUTE / 2 + 1
    assert page.lives(page.enter()), "from an address that has logged in before"
    tried = sum("too many attempts" not in said for said in wrong(page, 60, "x", THERE))
    assert tried <= 20


def test_an_attempt_that_was_right_is_not_counted_and_gives_strangers_no_more(page):
    """Rule W3."""
    page.join()
    for _ in range(500):
        assert page.enter()
    tried = 0
    for n in range(500):
        assert page.enter()
        said = page.refused(page.logins.enter, f"n{n}", OTHER, f"10.0.{n // 250}.{n % 250}")
        tried += "too many attempts" not in said
    assert tried == 100


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 20)), max_size=80))
def test_a_rate_never_allows_more_than_it_says(steps):
    rate, now, taken = Rate(3, 5.0, 2), 0.0, []
    for key, passed in steps:
        now += passed
        if key < 2 and not rate.wait(str(key), now):
            taken.append((key, now))
    for key in (0, 1):
        times = [at for of, at in taken if of == key]
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 3 + (times[last] - times[first]) / 5.0 + 1e-6


def test_the_counts_of_a_name_are_forgotten_after_a_day():
    """Rule W3."""
    lockouts = Lockouts()
    for _ in range(4):
        lockouts.wrong("x", 0.0, known=True)
    assert lockouts.wrong("x", DAY + 1, known=True) == 0
    assert lockouts.wait("x", DAY + 1) == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.168.1.20", "192.168.1.20"), ("::ffff:192.168.1.20", "192.168.1.20"),
        ("2001:db8::1", "2001:db8::/64"), ("2001:db8::ffff", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("", "?"), ("x" * 10_000, "?"),
    ],
)  # fmt: skip
def test_an_address_counts_with_its_neighbours(address, key):
    assert address_key(address) == key


def test_names_that_look_alike_are_one():
    assert name_key("  ÉVA  martin") == name_key("Éva Martin".replace("É", "E\u0301"))


# -- the set-up window


def test_the_window_admits_an_installer_by_its_code_and_use_extends_it(page):
    code, seconds = page.logins.open_window(15 * MINUTE)
    assert (len(code), code[4], seconds) == (9, "-", 15 * MINUTE)
    token = page.logins.enter_setup(code, "Jean", HERE)
    assert page.roles(token) == ("installer",)
    began = page.now
    while page.lives(token):
        page.logins.use(token)
        page.now += 5 * MINUTE
    assert page.now - began == 4 * HOUR, "used all the time, it closes after four hours"
    code, _ = page.logins.open_window(15 * MINUTE)
    assert not page.lives(token), "another window does not bring it back"
    token = page.logins.enter_setup(code, "Jean", HERE)
    page.now += 15 * MINUTE
    assert not page.lives(token)
    assert page.logins.window_left() == 0


def test_what_a_page_asks_by_itself_does_not_extend_the_window(page):
    code, _ = page.logins.open_window(15 * MINUTE)
    token = page.logins.enter_setup(code, "Jean", HERE)
    for _ in range(15):
        page.now += MINUTE
        page.logins.use(token, counts=False)
    assert not page.lives(token)


def test_closing_the_window_ends_all_logins(page):
    code, _ = page.logins.open_window(HOUR)
    token, person = page.logins.enter_setup(code, "Jean", HERE), page.join()
    page.logins.close()
    assert not page.lives(token)
    assert not page.lives(person)
    assert "code is wrong" in page.refused(page.logins.enter_setup, code, "Jean", HERE)


def test_ten_wrong_codes_end_the_code_and_the_log_says_so(page, caplog):
    """Rule W3."""
    code, _ = page.logins.open_window(HOUR)
    inside = page.logins.enter_setup(code, "Jean", HERE)
    for n in range(4):
        for guess in ("AAAA-AAAA", "BBBBBBBB", "CCCC CCCC", "DDDDDDDD"):
            where = f"192.168.1.{100 + n}"
            page.refused(page.logins.enter_setup, guess, "Jean", where)
        assert page.logins.admits() == (n < 3), "three wrong codes of one address count"
    assert "code is wrong" in page.refused(page.logins.enter_setup, code, "Jean", HERE)
    assert "admits nobody more: 10 wrong codes" in caplog.text
    assert "192.168.1.103" in caplog.text
    assert ("page.code_void", {"wrong": 10}) in page.records
    assert page.lives(inside), "who was admitted may finish"
    again, _ = page.logins.open_window(HOUR)
    assert page.lives(page.logins.enter_setup(again, "Jean", HERE))


def test_an_address_that_guesses_does_not_get_in_with_the_right_code(page):
    code, _ = page.logins.open_window(HOUR)
    for _ in range(3):
        page.refused(page.logins.enter_setup, "ZZZZ-ZZZZ", "Jean", THERE)
    page.refused(page.logins.enter_setup, code, "Jean", THERE)
    assert page.lives(page.logins.enter_setup(code, "Jean", HERE))


def test_nobody_enters_the_window_under_the_name_of_a_person(page):
    """Rule W6."""
    page.join()
    code, _ = page.logins.open_window(HOUR)
    said = page.refused(page.logins.enter_setup, code, "MARIE dupont", HERE)
    assert "has a password of their own" in said


# -- bounds


def test_logins_are_bounded_and_the_least_used_ends(page):
    first = page.join()
    tokens = [page.enter() for _ in range(9)]
    page.logins.use(first)
    page.enter()
    assert page.lives(first)
    assert not page.lives(tokens[0])
    assert page.logins.count("Marie Dupont") == 10
    code, _ = page.logins.open_window(HOUR)
    for n in range(300):
        page.now += 1
        page.logins.enter_setup(code, f"Jean {n}", HERE)
    assert len(page.logins._logins) == page_logins.MOST_LOGINS


def test_a_hundred_persons_are_enough(tmp_path):
    persons = PagePersons(tmp_path)
    for n in range(100):
        persons.invite(f"P {n}", ("reader",), "Eva (root)", WALL)
    with pytest.raises(Refused, match="100 persons already"):
        persons.invite("P 100", ("reader",), "Eva (root)", WALL)
    persons.invite("P 7", ("manager",), "Eva (root)", WALL)


def test_a_scraper_is_no_person_and_no_person_a_scraper(page):
    page.join()
    assert "is a person" in page.refused(
        page.logins.persons.add_scraper, "marie dupont", "Eva (root)", WALL
    )
    token = page.logins.persons.add_scraper("prometheus", "Eva (root)", WALL)
    assert "wrong" in page.refused(page.enter, "prometheus", KEY)
    assert "wrong" in page.refused(
        page.enter, "prometheus", hashlib.sha256(token.encode()).digest()
    )
    renewed = page.logins.persons.add_scraper("prometheus", "Eva (root)", WALL)
    assert not page.lives(token)
    page.now += 400 * DAY
    assert page.lives(renewed)
    page.logins.remove("prometheus")
    assert not page.lives(renewed)
