.PHONY: bench

bench: setup-bench build ## figures against peers in the same run, out/bench/
	go run ./tools/bench
