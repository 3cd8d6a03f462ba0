# make build   target/release/inspectd and ONNX Runtime beside it
# make demo    camera, model, broker and alarms, live; DATA=folder for real pictures, FOR=seconds to end by itself
# make test    formatting, lints, licences (where the tool is there), all tests
# make soak    the long tests
# make model   trains the base model and makes models/base and models/default; SMOKE=1 proves in a minute that it would
# make deb     target/debian/inspectd_*.deb, for this release of Debian or Ubuntu; ARCH=arm64 for that architecture, on x86-64
# make package-test   installs, starts, upgrades, removes and purges it on a fresh Debian under systemd
# make fuzz    what comes from outside, under libFuzzer; SECONDS_EACH=n for each of the targets
# Each does its own set-up; see scripts/setup.
.PHONY: build demo test soak model deb package-test fuzz
SHELL := /bin/bash
CARGO ?= cargo

build:
	@scripts/setup build
	@$(CARGO) build --release --locked --quiet

demo: 
	@scripts/setup demo
	@$(CARGO) build --release --locked --quiet
	@scripts/demo

test:
	@scripts/setup test
	@$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets --quiet -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) fetch --locked --quiet && $(CARGO) deny --offline --log-level error check bans licenses sources; \
	  else echo "cargo-deny is not installed: bans, licences and sources are not checked"; fi
	$(CARGO) test --release --locked

soak:
	@scripts/setup test
	INSPECTD_SOAK=1 $(CARGO) test --release --locked -- --nocapture

model:
	@scripts/setup model
	@$(CARGO) build --release --locked --quiet
	@scripts/model

# ARCH is of these two alone; where it is this machine's own, it says nothing.
ifneq ($(filter deb package-test,$(MAKECMDGOALS)),)
ifneq ($(filter-out arm64 $(shell dpkg --print-architecture),$(ARCH)),)
$(error ARCH=$(ARCH) is not known: arm64, or leave it out for the architecture of this machine)
endif
CROSS := $(filter-out $(shell dpkg --print-architecture),$(ARCH))
endif
unexport ARCH

ifeq ($(CROSS),)
deb: build
	@scripts/setup deb
	@scripts/deb
else
deb package-test: export ARCH := $(CROSS)
deb:
	@scripts/setup deb
	@scripts/cross
	@scripts/deb
endif

# The package on a fresh Debian in namespaces; needs root, debootstrap and Debian's archive.
package-test: deb
	@scripts/setup package
	@tests/package$(if $(CROSS),-arm64).sh

fuzz:
	@scripts/setup build
	@scripts/setup fuzz
	@scripts/fuzz
