VM_PACKAGES += \
	./appliance/pid1/boot \
	./drivers/uevents \

