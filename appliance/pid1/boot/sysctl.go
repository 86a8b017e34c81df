package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sysctls are the kernel's settings, in order: forwarding first, since it
// resets others. They are set before the ports get their drivers, so that a
// port is born with them.
var sysctls = []struct{ key, value, why string }{
	{"net/ipv4/ip_forward", "1", "the box is a router; every link is down until the agent has set the firewall"},
	{"net/ipv6/conf/all/forwarding", "1", ""},
	{"net/ipv6/conf/all/accept_ra", "0", "addresses and routes are the configuration's alone"},
	{"net/ipv6/conf/default/accept_ra", "0", ""},
	{"net/ipv6/conf/all/autoconf", "0", ""},
	{"net/ipv6/conf/default/autoconf", "0", ""},
	{"net/ipv6/conf/all/accept_redirects", "0", ""},
	{"net/ipv6/conf/default/accept_redirects", "0", ""},
	{"net/ipv4/conf/all/accept_redirects", "0", ""},
	{"net/ipv4/conf/default/accept_redirects", "0", ""},
	{"net/ipv4/conf/all/send_redirects", "0", ""},
	{"net/ipv4/conf/default/send_redirects", "0", ""},
	{"net/ipv4/conf/all/accept_source_route", "0", ""},
	{"net/ipv4/conf/default/accept_source_route", "0", ""},
	{"net/ipv4/conf/all/rp_filter", "2", "loose: with two lines and tunnels a reply may come in elsewhere"},
	{"net/ipv4/conf/default/rp_filter", "2", ""},
	{"net/ipv4/conf/all/arp_ignore", "1", "an address is answered for on its own link only"},
	{"net/ipv4/conf/all/arp_announce", "2", ""},
	{"net/ipv4/conf/all/promote_secondaries", "1", "taking one address away leaves the others of its network"},
	{"net/ipv4/conf/default/promote_secondaries", "1", ""},
	{"net/ipv4/ip_nonlocal_bind", "1", "daemons listen on addresses that are still in duplicate detection, or whose port is missing"},
	{"net/ipv6/ip_nonlocal_bind", "1", ""},
	{"net/ipv4/tcp_l3mdev_accept", "1", "listeners on addresses of the management network hear it"},
	{"net/ipv4/udp_l3mdev_accept", "1", ""},
	{"net/core/rmem_max", "8388608", "netlink answers about large maps"},
	{"net/core/wmem_max", "8388608", "netlink batches of large maps"},
	{"net/ipv4/tcp_rfc1337", "1", "a reset doesn't end TIME-WAIT: a service's address moves"},
	{"net/ipv4/neigh/default/gc_thresh1", "1024", "1,700 town halls on one network overflow the default of 1,024"},
	{"net/ipv4/neigh/default/gc_thresh2", "4096", ""},
	{"net/ipv4/neigh/default/gc_thresh3", "8192", ""},
	{"net/ipv6/neigh/default/gc_thresh1", "1024", ""},
	{"net/ipv6/neigh/default/gc_thresh2", "4096", ""},
	{"net/ipv6/neigh/default/gc_thresh3", "8192", ""},
	{"kernel/printk", "1 4 1 7", "the serial line is the operator's; a panic is shown all the same"},
	{"kernel/kptr_restrict", "2", ""},
	{"kernel/dmesg_restrict", "1", ""},
	{"kernel/panic", "5", "restart after a panic, s; time to write it down"},
	{"kernel/panic_on_oops", "1", "a kernel that is half broken must not answer"},
	{"kernel/softlockup_panic", "1", "a processor stuck for 20 s"},
	{"kernel/hung_task_panic", "0", "a disk that hangs must not end a box that still steers; the watchdog decides"},
	{"fs/protected_hardlinks", "1", ""},
	{"fs/protected_symlinks", "1", ""},
	{"fs/suid_dumpable", "0", ""},
}

// setSysctls sets them below proc, /proc/sys, and returns what failed, joined.
func setSysctls(proc string) error {
	var errs []error
	set := func(key, value string) {
		if err := os.WriteFile(filepath.Join(proc, key), []byte(value), 0); err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", key, err))
		}
	}
	for _, s := range sysctls {
		set(s.key, s.value)
	}
	return errors.Join(errs...)
}

// sizeConntrack fits connection tracking to the memory, once its module is
// there. An entry takes some 320 B: the table never takes over 4 % of memory.
func sizeConntrack(proc string, memory int64) error {
	entries := min(max(memory>>20*128, 1<<16), 1<<20)
	if err := os.WriteFile(filepath.Join(proc, "net/netfilter/nf_conntrack_max"), []byte(strconv.FormatInt(entries, 10)), 0); err != nil {
		return fmt.Errorf("size connection tracking: %w", err)
	}
	return nil
}

// hasFlag looks for a word in the kernel's command line.
func hasFlag(cmdline, flag string) bool {
	for _, w := range strings.Fields(cmdline) {
		if w == flag {
			return true
		}
	}
	return false
}
