VM_PACKAGES += \
	./drivers/nflog \

