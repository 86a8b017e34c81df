.PHONY: imports

imports:
	go test ./tools/imports
