# make demo   the main job on screen          make test     everything a change must pass
# make check  format, types, layers: seconds  make bench    what it costs, as tables
# make house  what of the house style can be counted
# make torture  the long forms of the tests
# make sim SEED=17   one simulated run of the whole agent (tests/sim/README.md)
# make night HOURS=8  new seeds for hours, and the page of results
# make mutants  each rule's deciding line is broken in turn, and the simulation must find it
# make package-test  the Debian package: built, installed, upgraded and removed in a machine of its own
# make archive-tests  what piuparts and autopkgtest say of it
# Each does its own set-up: Debian packages when run as root, and a virtual environment in .venv.

PYTHON ?= /usr/bin/python3
BIN := .venv/bin
DEBIAN := python3-venv mosquitto mosquitto-clients nats-server openssh-server mbpoll strace gcc libc6-dev libmodbus-dev postgresql-17 python3-systemd
DEBIAN += node-ajv promtool weasyprint
# a real browser for the web page
DEBIAN += chromium
# with these the Debian package is built, and tried in a machine of its own
DEBIAN += apt-utils gpg dpkg-dev debhelper python3-typer python3-zstandard lintian mmdebstrap systemd-container
# Debian's build of systemd-python: pip would need a compiler and libsystemd-dev
SYSTEMD := /usr/lib/python3/dist-packages/systemd
COMMANDS := /usr/sbin/mosquitto /usr/sbin/nats-server /usr/sbin/sshd /usr/bin/mosquitto_sub /usr/bin/mbpoll /usr/bin/strace /usr/bin/gcc /usr/include/modbus/modbus.h
COMMANDS += /usr/lib/postgresql/17/bin/postgres $(SYSTEMD)/journal.py /usr/share/nodejs/ajv/dist/2020.js
COMMANDS += /usr/lib/python3/dist-packages/zstandard /usr/bin/promtool /usr/bin/weasyprint /usr/bin/chromium
COMMANDS += /usr/bin/apt-ftparchive /usr/bin/gpg /usr/bin/dh /usr/bin/lintian /usr/bin/mmdebstrap /usr/bin/systemd-nspawn
OTHER := $(firstword $(wildcard $(filter-out $(realpath $(PYTHON)),/usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13)))
NEWEST := .venv-newest/bin/python -m pytest -o cache_dir=.venv-newest/pytest_cache --ignore tests/unit/packaging
NEWEST_TESTS := tests/unit tests/contract/acquisition tests/contract/registry tests/contract/test_entry.py tests/contract/drivers/modbus/test_pymodbus.py
# tests wait more than they compute; those of one file share what is costly to build
BY_FILE := --dist loadfile
# what failed is asked once more by itself, on a machine that is then as quiet as it gets, and is named:
# on cores that others use too, a test of waits, kills and clocks can lose its race without a fault of
# the code. What fails twice fails
AGAIN := -v --last-failed --last-failed-no-failures none
NEWEST_ENDS = cat .venv-newest/log; [ ! -e .venv-newest/failed ] || $(NEWEST) $(AGAIN) $(NEWEST_TESTS)
CONSTRAINTS := packaging/constraints-debian13.txt packaging/constraints-tools.txt
# which CAs a connection trusts must not depend on the version of requests
NEWEST_TESTS += tests/contract/test_enrolment.py
# an archive or an index that does not answer is asked again
APT := apt-get -qq -o Acquire::Retries=5
# an independent Modbus server, and the rules of WCAG for the web page
NPM := modbus-serial@8.0.25 axe-core@4.14.1
PIP_INSTALL := pip install --quiet --disable-pip-version-check --retries 10

.PHONY: setup demo test first newest newest-once package-test archive-tests check house bench torture clean
.PHONY: sim night mutants

setup: .venv/ready

.venv/ready: pyproject.toml $(CONSTRAINTS) Makefile
	@missing=; for command in $(COMMANDS); do [ -e $$command ] || missing=1; done; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing=1; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ]; then \
	  $(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install -y --no-install-recommends $(DEBIAN) >/dev/null; \
	else echo "Debian packages are missing. As root: apt-get install $(DEBIAN)" >&2; exit 1; fi
	$(PYTHON) -m venv .venv
	$(BIN)/$(PIP_INSTALL) $(addprefix --constraint ,$(CONSTRAINTS)) --editable '.[dev,hil,receiver,export,sftp,web]'
	@if command -v npm >/dev/null; then \
	  npm install --prefix .venv/npm --omit=optional --no-audit --no-fund --silent --fetch-retries 10 $(NPM); \
	else echo "there is no npm: the tests with $(NPM) are skipped" >&2; fi
	@ln -sfn $(SYSTEMD) "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/systemd"
	@touch $@

demo: setup
	$(BIN)/python -m hil.demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/house.py --check
	$(BIN)/python tools/structure.py --check
	$(BIN)/gardien config diff config.example.yaml -c config.example.yaml >/dev/null # check refuses the sample
	$(BIN)/python packaging/catalogue.py fr | diff /dev/null - # else: translate these
	$(BIN)/gardien config schema | diff docs/config.schema.json - # else: … > docs/config.schema.json
	$(BIN)/python -m tools.published --check

house: setup
	$(BIN)/python tools/house.py
	$(BIN)/python tools/structure.py
	$(BIN)/python tools/paths.py

# the second leg runs beside the first; what failed in it is asked once more when both have ended
test: check
	@$(MAKE) --no-print-directory --jobs 2 --keep-going first newest-once && ended=0 || ended=$$?; \
	$(NEWEST_ENDS) && exit $$ended
	$(BIN)/python -m pytest -m alone || $(BIN)/python -m pytest $(AGAIN) -m alone

first: setup
	$(BIN)/python -m pytest -n 4 $(BY_FILE) -m "not alone" || $(BIN)/python -m pytest $(AGAIN) -m "not alone"

newest: newest-once
	@$(NEWEST_ENDS)

# another Python where there is one, with the newest of what the index has. The .deb is built of
# Debian's versions, so its own tests are not among these. The log is kept apart from the first leg's
ifeq ($(OTHER),)
newest-once:
	@mkdir -p .venv-newest && echo "no other Python from 3.11 to 3.13 here: one leg only" >.venv-newest/log
else
newest-once: .venv-newest/ready
	@rm -f .venv-newest/failed
	@$(NEWEST) -n 2 $(BY_FILE) $(NEWEST_TESTS) >.venv-newest/log 2>&1 || touch .venv-newest/failed
endif

.venv-newest/ready: pyproject.toml
	$(OTHER) -m venv .venv-newest
	.venv-newest/bin/$(PIP_INSTALL) --upgrade --editable '.[dev,hil,receiver,export,sftp,web]'
	@touch $@

package-test: setup
	$(BIN)/python -m pytest tests/unit/packaging tests/system/packaging

archive-tests: setup
	packaging/archive-tests.sh

torture: setup
	GARDIEN_TORTURE=1 $(BIN)/python -m pytest --timeout=7200

SEED ?= 1
HOURS ?= 8

sim: setup
	$(BIN)/python -m tests.sim seed $(SEED)

night: setup
	$(BIN)/python -m tests.sim night --hours $(HOURS)

mutants: setup
	$(BIN)/python -m tests.sim mutants

bench: setup
	@for program in bench/*.py; do \
	  name=$$(basename $$program .py); [ $$name = __init__ ] || $(BIN)/python -m bench.$$name || exit 1; done

clean:
	rm -rf .venv .venv-newest build *.egg-info
