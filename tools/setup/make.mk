# What a machine lacks is installed here; silent and quick when nothing is missing.
.PHONY: setup-bench setup-demo setup-image setup-test

setup-bench setup-demo setup-image setup-test: setup-%:
	@tools/setup/apt $*
