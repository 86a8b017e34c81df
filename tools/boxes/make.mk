.PHONY: boot

# Two packages run at a time, in this order: the longest first.
BOOT_PACKAGES := $(addprefix ./tools/boxes/,update cuts life pair configure scene ...)

boot: setup-test build ## the built image, booted, updated, broken, cut: what only whole machines show
	go test -v -p 2 -timeout 40m -run '$(BOOT_TESTS)' $(BOOT_PACKAGES) 2>&1 | go run ./tools/tally -to out/tally

# Each run begins behind the last seed that is on record, so that runs add up.
.PHONY: soak-cuts

soak-cuts: setup-test ## the power is cut 100 times, in updates, writes and starts: out/bench/cuts.jsonl (CUTS=n)
	@mkdir -p out/bench; touch out/bench/cuts.jsonl; \
	go test -v -timeout 8h -run '^TestBootedCuts$$' ./tools/boxes/cuts -cuts $(or $(CUTS),100) \
		-seed $$(($$(wc -l < out/bench/cuts.jsonl) + 1)) -record $(CURDIR)/out/bench/cuts.jsonl
