.PHONY: demo

demo: setup-demo build ## watch a town hall lose its data centre and get it back
	go run ./tools/demo
