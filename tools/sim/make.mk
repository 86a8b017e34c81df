# SEEDS is how many, SEED the first; a failure prints how to replay its seed.
SEEDS ?= 300
SEED ?= 1

.PHONY: sim soak-sim

sim: ## deterministic simulation: make sim SEEDS=n SEED=s
	go run ./tools/sim -seeds $(SEEDS) -seed $(SEED)

soak-sim: ## a hundred thousand seeds, from SEED on
	go run ./tools/sim -seeds 100000 -seed $(SEED)
