# Cofferdam: `make help` lists the targets.

PREFIX     ?= /usr/local
DESTDIR    ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60

# rustup puts cargo there, and a shell without a login does not look.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Static programs are built for a named target: see .cargo/config.toml. Root, who
# installs, often has no Rust; then it is the target that was built.
TARGET   = $(or $(CARGO_TARGET_DIR),target)
BUILT    = $(patsubst $(TARGET)/%/release/cofferdam,%,$(wildcard $(TARGET)/*/release/cofferdam))
HOST     = $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(firstword $(BUILT)))
PROGRAMS = $(TARGET)/$(HOST)/release

BIN     = $(DESTDIR)$(PREFIX)/bin
LIBEXEC = $(DESTDIR)$(PREFIX)/libexec/cofferdam
SHARE   = $(DESTDIR)$(PREFIX)/share
PROFILE = $(DESTDIR)/etc/apparmor.d/cofferdam

.PHONY: help build demo test test-vm fuzz bench bench-vm lint install uninstall clean

help:
	@echo 'make demo       build, run a hostile job in a sandbox, show what was refused and why'
	@echo 'make build      the two programs, optimised, below target/'
	@echo 'make test       formatting, lints and all tests; as root and as an ordinary user'
	@echo 'make test-vm    tests in a Debian 12 guest: kernel 6.1, systemd, AppArmor (root only)'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS), with cargo-fuzz on a nightly Rust'
	@echo 'make bench      what a sandbox costs, as ratios measured in one run'
	@echo 'make bench-vm   what a start costs with a delegated cgroup v2, in that guest (root only)'
	@echo 'make lint       formatting and lints only'
	@echo 'make install    programs, manual pages, completions, AppArmor profile;'
	@echo '                after make build; PREFIX=$(PREFIX), DESTDIR=$(DESTDIR)'
	@echo 'make uninstall  removes what make install put there'
	@echo 'make clean      removes target/'

build:
	@.ci/tools build
	cargo build --release --locked

demo:
	@.ci/tools demo
	@cargo build --release --locked --quiet
	@examples/demo.sh "$(PROGRAMS)/cofferdam"

test:
	@.ci/tools test
	@.ci/test

test-vm:
	@.ci/tools vm
	cargo build --locked --all-targets
	tests/vm/run

fuzz:
	@.ci/tools fuzz
	@.ci/fuzz "$(FUZZ_SECONDS)"

bench:
	@.ci/tools bench
	@cargo build --release --locked --quiet --bins --example run_plan
	@cargo bench --locked --quiet --bench cost -- --programs "$(PROGRAMS)" $(BENCH_ARGS)

bench-vm:
	@.ci/tools vm
	cargo build --release --locked --bins --example run_plan
	cargo bench --locked --no-run --bench cost
	tests/vm/run --release tests/vm/bench/start.sh

lint:
	@.ci/tools test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; \
	else echo 'cargo deny is not installed: licences and advisories were not checked'; fi

install:
	@test -x "$(PROGRAMS)/cofferdam" || { echo 'make build first'; exit 1; }
	install -d "$(BIN)" "$(LIBEXEC)" "$(SHARE)/man/man1" \
		"$(SHARE)/bash-completion/completions" "$(SHARE)/zsh/site-functions" \
		"$(SHARE)/fish/vendor_completions.d"
	install -m 755 "$(PROGRAMS)/cofferdam" "$(BIN)/cofferdam"
	install -m 755 "$(PROGRAMS)/cofferdam-init" "$(LIBEXEC)/cofferdam-init"
	"$(PROGRAMS)/cofferdam" man "$(SHARE)/man/man1"
	"$(PROGRAMS)/cofferdam" completion bash >"$(SHARE)/bash-completion/completions/cofferdam"
	"$(PROGRAMS)/cofferdam" completion zsh >"$(SHARE)/zsh/site-functions/_cofferdam"
	"$(PROGRAMS)/cofferdam" completion fish >"$(SHARE)/fish/vendor_completions.d/cofferdam.fish"
	@# An AppArmor older than 4 cannot read the profile, and no host with one needs it.
	@if [ -n "$(DESTDIR)" ] || [ -e /etc/apparmor.d/abi/4.0 ]; then \
		install -v -D -m 644 packaging/apparmor/cofferdam "$(PROFILE)"; \
		[ -n "$(DESTDIR)" ] || echo 'to load it now: apparmor_parser -r $(PROFILE)'; \
	fi

uninstall:
	rm -f "$(BIN)/cofferdam" "$(PROFILE)" "$(SHARE)"/man/man1/cofferdam.1 "$(SHARE)"/man/man1/cofferdam-*.1 \
		"$(SHARE)/bash-completion/completions/cofferdam" "$(SHARE)/zsh/site-functions/_cofferdam" \
		"$(SHARE)/fish/vendor_completions.d/cofferdam.fish"
	rm -rf "$(LIBEXEC)"

clean:
	cargo clean
