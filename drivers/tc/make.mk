VM_PACKAGES += \
	./drivers/tc \

