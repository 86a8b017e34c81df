.PHONY: boot

boot: setup-test ## the built image, booted, updated, broken, cut: what only whole machines show
	go test -v -p 2 -timeout 25m -run '$(BOOT_TESTS)' ./tools/boxes/... 2>&1 | go run ./tools/tally -to out/tally
