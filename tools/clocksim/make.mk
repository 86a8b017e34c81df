.PHONY: soak-clock

# CLOCK_SEEDS is how many, SEED the first.
CLOCK_SEEDS ?= 300

soak-clock: ## every scenario of the time discipline with many seeds: CLOCK_SEEDS=n SEED=s
	go run ./tools/clocksim -seeds $(CLOCK_SEEDS) -seed $(SEED) all
