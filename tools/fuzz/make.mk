# FUZZTIME is for each target, PACKAGE which ones.
FUZZTIME ?= 10m
PACKAGE ?= ./...

.PHONY: fuzz fuzz-short

fuzz: ## fuzz every target, one after the other: FUZZTIME=10m PACKAGE=./ntp/...
	go run ./tools/fuzz -time $(FUZZTIME) $(PACKAGE)

fuzz-short:
	go run ./tools/fuzz -inputs 10000 -to out/tally ./...
