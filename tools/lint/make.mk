# The version stands in the path, so that a change of it builds a new one.
LINT_VERSION := v2.15.0
LINT := out/tools/golangci-lint-$(LINT_VERSION)/golangci-lint

.PHONY: lint

lint: $(LINT) ## golangci-lint with .golangci.yml
	$(LINT) run ./...

$(LINT):
	@echo "building golangci-lint $(LINT_VERSION), once, about two minutes"
	GOBIN=$(abspath $(dir $(LINT))) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
