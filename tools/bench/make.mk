.PHONY: bench soak-flaps

bench: setup-bench build ## figures against peers in the same run, out/bench/
	go run ./tools/bench

soak-flaps: setup-bench build ## ten minutes of lossy bursts and short gaps: no switch
	go run ./tools/bench -only flaps -flaps 10m -o out/bench/flaps.json
