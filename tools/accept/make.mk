.PHONY: accept

accept: setup-test build ## the catalogue's acceptance tests, out/accept.md
	go run ./tools/accept
