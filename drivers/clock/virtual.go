package clock

import (
	"os"
	"path/filepath"
	"strings"
)

// hypervisors are the beginnings of what a guest's firmware says of itself, as
// vendor and product, and the names that people know them by.
var hypervisors = []struct{ vendor, product, name string }{
	{"QEMU", "", "QEMU"},
	{"", "KVM", "KVM"},
	{"Red Hat", "KVM", "KVM"},
	{"VMware", "", "VMware"},
	{"innotek GmbH", "", "VirtualBox"},
	{"Xen", "", "Xen"},
	{"Microsoft Corporation", "Virtual Machine", "Hyper-V"},
	{"Parallels", "", "Parallels"},
	{"BHYVE", "", "bhyve"},
	{"Bochs", "", "Bochs"},
	{"OpenStack Foundation", "", "OpenStack"},
	{"Nutanix", "AHV", "Nutanix AHV"},
	{"Google", "Google Compute Engine", "Google Compute Engine"},
	{"Apple Inc.", "Apple Virtualization", "Apple Virtualization"},
}

// Virtual says whether this machine is a guest of a hypervisor, and of which,
// since time must come from a physical one (TIM-4): a hypervisor that pauses or
// moves a guest falsifies its clock. root is "/", or a copy of /proc and /sys.
// What firmware and /sys/hypervisor don't name counts by the processor's
// hypervisor bit (CPUID leaf 1, ECX bit 31) and is called "unknown hypervisor".
func Virtual(root string) (name string, ok bool) {
	vendor := line(root, "sys/class/dmi/id/sys_vendor")
	product := line(root, "sys/class/dmi/id/product_name")
	for _, h := range hypervisors {
		if vendor+product != "" && strings.HasPrefix(vendor, h.vendor) && strings.HasPrefix(product, h.product) {
			return h.name, true
		}
	}
	if kind := line(root, "sys/hypervisor/type"); kind != "" {
		return kind, true
	}
	info, err := os.ReadFile(filepath.Join(root, "proc/cpuinfo"))
	if err != nil {
		return "", false
	}
	for text := range strings.Lines(string(info)) {
		key, flags, _ := strings.Cut(text, ":")
		if strings.TrimSpace(key) == "flags" {
			for flag := range strings.FieldsSeq(flags) {
				if flag == "hypervisor" {
					return "unknown hypervisor", true
				}
			}
			return "", false // all processors say the same
		}
	}
	return "", false
}

// line is a small file's text, or nothing.
func line(root, name string) string {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
