.PHONY: soak-full soak-mtu-tunnel soak-transfers

soak-full: setup-test build ## a line that is full for ten minutes and carries heartbeats: no false alarm
	go run ./tools/vmtest -v -timeout 20m -run '^TestHostFiguresDead$$' -env LINELAB_ROUNDS=1 -env LINELAB_FULL_FOR=10m ./tools/linelab

soak-mtu-tunnel: setup-test build ## every width of a line from 900 to 1500, both ways, through real tunnels: found exactly
	go run ./tools/vmtest -v -timeout 90m -run '^TestHostFiguresMTU$$' -env LINELAB_ROUNDS=1 -env LINELAB_EVERY_HOLE=1 ./tools/linelab

soak-transfers: setup-test build ## the trial's transfers at full size, some eight hours
	go run ./tools/vmtest -v -timeout 20h -run '^TestHostLine(Transfers|Resumes)$$' -env LINELAB_SCALE=1 ./tools/linelab
