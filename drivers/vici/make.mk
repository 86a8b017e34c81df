VM_PACKAGES += \
	./drivers/vici \

