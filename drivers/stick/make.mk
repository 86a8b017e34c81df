VM_PACKAGES += \
	./drivers/stick \

