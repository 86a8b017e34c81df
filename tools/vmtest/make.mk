# Packages whose tests count only when they pass on a stock kernel; one sorted
# line each. Each part may add its own in its make.mk.
VM_PACKAGES += \
	./drivers/announce \
	./drivers/clock \
	./drivers/conntrack \
	./drivers/kick \
	./drivers/netns \
	./drivers/nft \
	./drivers/ntpquery \
	./drivers/park \
	./drivers/rtnl \
	./drivers/sockdiag \
	./tools/vmclock \
	./tools/vmtest/selftest \

.PHONY: vm

vm: setup-test build ## the kernel's side of the tests, on a stock kernel in emulation
	@rc=0; \
	go run ./tools/vmtest -timeout 40m -to out/tally $(sort $(VM_PACKAGES)) || rc=1; \
	go run ./tools/vmtest -timeout 40m -run 'TestHost(Trunk|Tunnel)Town$$' -to out/tally ./tools/town || rc=1; \
	go run ./tools/vmtest -timeout 40m -run 'TestHostBadLuck' -to out/tally ./tools/linelab || rc=1; \
	exit $$rc
