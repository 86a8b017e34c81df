package vici

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"komainu/netstack/spec"
)

// Values that are the same for every connection.
const (
	// replayWindow (packets) is wide since packets are put into classes after they
	// have got their number: one that waits in a slow class comes behind all that
	// a quick class sent meanwhile. 1024 is 100 ms of 10,000 packets/s, and costs
	// 128 bytes an SA. The kernel's most is 4096.
	replayWindow = 1024
	// deadAfter: charon asks a peer of which nothing has come for so long. The
	// heartbeats find out sooner; this is for a box whose agent is dead.
	deadAfter = 20 * time.Second
	// laterBy: who waits makes new keys so much later (percent) than who begins, so
	// that one side does it and they never meet.
	laterBy = 25
)

// Connection is a tunnel in charon's words. What begins and when is told by
// [Client.Initiate]: charon itself is given no start, for it would end a tunnel
// that it is given anew.
func Connection(t spec.Tunnel, k Keys) Message {
	local := Message{text("auth", "pubkey"), text("id", t.LocalID)}
	remote := Message{text("auth", "pubkey"), text("id", t.RemoteID)}
	if t.PSK {
		local[0], remote[0] = text("auth", "psk"), text("auth", "psk")
	} else {
		local = append(local, blobs("certs", k.Cert))
		var cas [][]byte
		for _, a := range k.Authorities {
			cas = append(cas, split(a)...)
		}
		remote = append(remote, blobs("cacerts", cas...))
		if len(k.CRLs) > 0 {
			remote = append(remote, text("revocation", "strict"))
		}
	}
	rekeyIKE, rekeyESP := t.RekeyIKE, t.RekeyESP
	if !t.Initiate {
		rekeyIKE += rekeyIKE * laterBy / 100
		rekeyESP += rekeyESP * laterBy / 100
	}
	m := Message{
		text("version", "2"),
		list("proposals", t.IKE...),
		list("local_addrs", t.Local.String()),
		text("mobike", "no"),
		text("fragmentation", "yes"),
		text("encap", yes(t.Encap)),
		text("keyingtries", "0"),
		text("rekey_time", secs(rekeyIKE)),
		text("reauth_time", "0"),
		text("over_time", secs(rekeyIKE/10)),
		text("rand_time", secs(rekeyIKE/10)),
		text("send_cert", "always"),
		text("if_id_in", strconv.FormatUint(uint64(t.IfID), 10)),
		text("if_id_out", strconv.FormatUint(uint64(t.IfID), 10)),
	}
	if t.Remote.IsValid() {
		m = append(m, list("remote_addrs", t.Remote.String()))
	} else {
		m = append(m, list("remote_addrs", "%any"))
	}
	dead := "restart"
	if t.Initiate {
		// It sends no INITIAL_CONTACT: with two tunnels between the same identities,
		// the second would have the peer throw the first away without a word.
		m = append(m, text("unique", "never"), text("dpd_delay", secs(deadAfter)))
	} else {
		// A line that is cut takes nothing along here: the peer comes back to what it
		// left, or with a new SA, which replaces the old one.
		m = append(m, text("unique", "replace"), text("dpd_delay", "0"))
		dead = "clear"
	}
	return Message{section(t.Name, append(m, section("local", local...), section("remote", remote...),
		section("children", section(t.Name,
			list("esp_proposals", t.ESP...),
			list("local_ts", selectors(t.Inner)...),
			list("remote_ts", selectors(t.Beyond)...),
			text("mode", "tunnel"),
			text("rekey_time", secs(rekeyESP)),
			text("life_time", secs(rekeyESP+rekeyESP/10)),
			text("rand_time", secs(rekeyESP/10)),
			text("dpd_action", dead),
			text("start_action", "none"),
			text("close_action", "none"),
			text("replay_window", strconv.Itoa(replayWindow)),
			text("policies_fwd_out", "no"),
		)))...)}
}

func selectors(nets []netip.Prefix) []string {
	if len(nets) == 0 {
		return []string{"0.0.0.0/0", "::/0"}
	}
	var out []string
	for _, n := range nets {
		out = append(out, n.String())
	}
	return out
}

func secs(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// addr is an address as identities are written.
func addr(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap().String()
}
