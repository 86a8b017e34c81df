VM_PACKAGES += \
	./appliance \
	./drivers/privilege \

.PHONY: build

build: ## the one static binary, out/komainu
	go build -trimpath -o out/komainu ./appliance
