.PHONY: soak-tunnels

soak-tunnels: setup-test build ## every scenario of the failover through real tunnels, listened to, on the stock kernel
	go run ./tools/vmtest -v -timeout 90m -run '^TestHostTunnelScenarios$$' ./tools/town
