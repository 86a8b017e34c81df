.PHONY: soak-mtu

soak-mtu: setup-test ## the largest packet behind every silent black hole from 900 to 1500, IPv4 and IPv6
	go test -v -timeout 2h -run '^TestHostBlackHoles$$' ./drivers/pathprobe -every
