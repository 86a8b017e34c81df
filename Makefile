# The commands of the project; `make help` lists them. Every part brings its
# own make.mk: a target, or its line in a list such as VM_PACKAGES. Everything
# generated goes under out/.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
SHELL := /bin/sh

export CGO_ENABLED := 0

# Host tests need root, namespaces or real daemons; `make check` leaves them out.
HOST_TESTS := ^TestHost
# These boot the built image, tens of seconds each; `make boot` runs them.
BOOT_TESTS := ^TestBooted

include $(sort $(wildcard */make.mk */*/make.mk))

.PHONY: help check static fmt vet generated unit test test-host soak clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

check: static imports unit sim ## quick gate: format, vet, lint, import rule, generated files, unit, golden, simulation

static: fmt vet lint generated

fmt:
	@bad=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 -r gofmt -l); \
	if [ -n "$$bad" ]; then echo "not formatted, run gofmt -w on:" $$bad; exit 1; fi

vet:
	go vet ./...

# What `go generate` writes must be what is committed.
generated:
	@files=$$(git grep -lE '^(//|#) Code generated .* DO NOT EDIT\.$$' || true); \
	before=$$(cat $$files /dev/null | sha256sum); go generate ./... || exit 1; \
	if [ "$$before" != "$$(cat $$files /dev/null | sha256sum)" ]; then \
	echo "generated files were out of date and have been rewritten: commit them"; exit 1; fi

unit:
	go test -short -p 2 -skip '$(HOST_TESTS)|$(BOOT_TESTS)' ./...

# The image first: its tests use its parts.
TEST_STAGES := static image test-host fuzz-short sim vm boot accept

test: setup-test build ## everything: static checks, all tests as root, simulation, stock kernel, booted image, acceptance
	@rm -f out/tally; failed=; \
	for stage in $(TEST_STAGES); do \
		echo "== make $$stage"; begin=$$(date +%s); $(MAKE) --no-print-directory $$stage || failed="$$failed $$stage"; \
		echo "== make $$stage took $$(($$(date +%s) - begin)) s"; \
	done; \
	awk '{ p += $$1; f += $$2; s += $$3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' out/tally /dev/null; \
	if [ -n "$$failed" ]; then echo "FAIL: make$$failed"; exit 1; fi

test-host: setup-test build
	go test -v -p 2 -timeout 15m -skip '$(BOOT_TESTS)' ./... 2>&1 | go run ./tools/tally -to out/tally

# Each soak part is a target soak-NAME in a make.mk; results add up in one file.
soak: ## what needs hours: make soak PART=name
	@if [ -z "$(PART)" ]; then echo "PART is missing, one of:"; \
	sed -n 's/^soak-\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{ printf "  make soak PART=%-10s %s\n", $$1, $$2 }'; exit 2; fi
	@mkdir -p out; begin=$$(date +%s); rc=0; $(MAKE) --no-print-directory soak-$(PART) || rc=$$?; \
	printf '{"part":"%s","commit":"%s","begin":%d,"seconds":%d,"exit":%d}\n' \
		'$(PART)' "$$(git rev-parse --short HEAD)" $$begin $$(($$(date +%s) - begin)) $$rc >> out/soak.jsonl; exit $$rc

clean: ## remove everything generated, and the filled clusters that labs are copied from
	rm -rf out "$${TMPDIR:-/tmp}"/komainu-lab/template-*
