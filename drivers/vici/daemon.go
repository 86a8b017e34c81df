package vici

import (
	"fmt"
	"strings"
)

// Settings of a charon.
type Settings struct {
	Socket    string // its vici socket, absolute path
	Port      uint16 // UDP of IKE; 0: 500
	PortNAT   uint16 // UDP of IKE and ESP behind a NAT; 0: 4500
	UserSpace bool   // ESP in user space (kernel-libipsec), where the kernel has none: for tests only
	Threads   int    // 0: 16
}

// Plugins that a gateway needs, with certificates or shared keys. openssl brings
// the ciphers; kdf is the PRF+ of IKEv2.
const Plugins = "random nonce pem pkcs1 pkcs8 x509 pubkey revocation constraints openssl gcm kdf kernel-netlink socket-default vici updown counters"

// Daemon is the strongswan.conf of a charon. It goes by its
// own clock only for what nobody else times: a request that isn't answered is
// sent again every second, for three minutes. So a tunnel outlives a line that
// is cut for so long, and one that is being made is there within a second of the
// line's return; strongSwan's own pauses grow to 42 s, and end after 165 s.
func Daemon(s Settings) string {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	plugins := Plugins
	if s.UserSpace {
		plugins = strings.Replace(plugins, "kernel-netlink", "kernel-libipsec kernel-netlink", 1)
	}
	port, nat, threads := s.Port, s.PortNAT, s.Threads
	if port == 0 {
		port = 500
	}
	if nat == 0 {
		nat = 4500
	}
	if threads == 0 {
		threads = 16
	}
	put("charon {")
	put("\tload = %s", plugins)
	put("\tthreads = %d", threads)
	put("\tport = %d", port)
	put("\tport_nat_t = %d", nat)
	// User-space ESP has no interface of ours to route over.
	put("\tinstall_routes = %s", yes(s.UserSpace))
	put("\tinstall_virtual_ip = no")
	if !s.UserSpace {
		put("\trouting_table = 0") // no rule of charon's own, which would stand before all of ours
	}
	// A tunnel that is renewed gets an IKE SA of its own beside the old one.
	put("\treuse_ikesa = no")
	// An IKE SA without its child would count as there, and carry nothing.
	put("\tclose_ike_on_child_failure = yes")
	put("\tretransmit_timeout = 1.0")
	put("\tretransmit_base = 1.0")
	put("\tretransmit_tries = 180")
	put("\tfilelog {")
	put("\t\tstderr {")
	put("\t\t\tdefault = 1")
	for _, group := range []string{"asn", "enc", "job", "mgr", "net"} {
		put("\t\t\t%s = 0", group)
	}
	put("\t\t\tike_name = yes")
	put("\t\t\tflush_line = yes")
	put("\t\t}")
	put("\t}")
	put("\tsyslog {")
	put("\t\tdaemon {")
	put("\t\t\tdefault = -1")
	put("\t\t}")
	put("\t\tauth {")
	put("\t\t\tdefault = -1")
	put("\t\t}")
	put("\t}")
	put("\tplugins {")
	put("\t\tvici {")
	put("\t\t\tsocket = unix://%s", s.Socket)
	put("\t\t}")
	if !s.UserSpace {
		put("\t\tkernel-netlink {")
		// Addresses are the configuration's: one that goes and comes back is no reason
		// to negotiate.
		put("\t\t\troam_events = no")
		put("\t\t}")
	}
	put("\t}")
	put("}")
	return b.String()
}
