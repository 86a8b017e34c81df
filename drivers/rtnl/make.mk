VM_PACKAGES += \
	./drivers/rtnl \

