.PHONY: image

image: setup-image ## the box: out/komainu.efi, out/komainu.img, a signed bundle, sbom.json, digests
	go run ./images/build -o out
