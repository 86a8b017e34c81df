package vici

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Refused says that no tunnel came of an attempt, and why. charon 5.9.8 tells that in its log
// only, which comes as events.
type Refused struct {
	Tunnel   string     // empty: not known, the peer fits none
	Peer     netip.Addr // invalid: not known
	Identity string     // what the peer says it is; empty: not known
	Reason   Reason
	ByPeer   bool   // the peer refuses this box
	Detail   string // charon's own words
}

// Reason is why.
type Reason string

// The reasons.
const (
	WrongKey      Reason = "wrong-key"      // the shared key is another one, or the signature is wrong
	WrongIdentity Reason = "wrong-identity" // no tunnel is for a peer of that identity
	Expired       Reason = "expired"        // the certificate, or its authority's
	NotYetValid   Reason = "not-yet-valid"  // likewise; or this box's clock is wrong
	Revoked       Reason = "revoked"
	Untrusted     Reason = "untrusted"   // nobody believes whoever signed the certificate
	NoStatus      Reason = "no-status"   // no valid revocation list
	NoTunnel      Reason = "no-tunnel"   // none is for a peer at that address
	NoSuite       Reason = "no-suite"    // no proposal in common; ByPeer: or no tunnel there is for this box
	NoNetwork     Reason = "no-network"  // the networks to protect are others
	NoKey         Reason = "no-key"      // this box has no key for it
	AuthFailed    Reason = "auth-failed" // the peer refuses, and says no more (RFC 7296, 2.21.2)
	NoAnswer      Reason = "no-answer"   // the peer is silent
	KernelRefuses Reason = "kernel"      // SAs or policies can't be installed
	Unexplained   Reason = "unexplained" // charon doesn't tell
)

// attempt is what the log told of one IKE SA so far.
type attempt struct {
	id     string // of the SA
	peer   netip.Addr
	ident  string
	cert   string // subject of the certificate that the peer sent
	used   bool   // and it is one of the identity that the peer says it has
	reason Reason // the first that was told
	detail string
	tunnel string
	byPeer bool
	ended  time.Time
}

// refusals are the attempts that are being made, the latest last.
type refusals struct{ attempts []attempt }

// mostAttempts bounds what strangers can have remembered.
const mostAttempts = 256

func (r *refusals) of(id string) *attempt {
	if i := slices.IndexFunc(r.attempts, func(a attempt) bool { return a.id == id }); i >= 0 {
		return &r.attempts[i]
	}
	if len(r.attempts) == mostAttempts {
		r.attempts = slices.Delete(r.attempts, 0, 1)
	}
	r.attempts = append(r.attempts, attempt{id: id})
	return &r.attempts[len(r.attempts)-1]
}

// forget drops an attempt that came to a good end.
func (r *refusals) forget(id string) {
	r.attempts = slices.DeleteFunc(r.attempts, func(a attempt) bool { return a.id == id && a.ended.IsZero() })
}

// line is a sentence of charon 5.9.8 that tells something.
type line struct {
	has    string
	reason Reason
	ends   bool // and is the end of the attempt
	byPeer bool
}

// lines are these. The reason is that of the first one that has any.
var lines = []line{
	{has: "but MAC mismatched", reason: WrongKey},
	{has: "signature validation failed", reason: WrongKey},
	{has: "no shared key found", reason: NoKey},
	{has: "no private key found", reason: NoKey, ends: true},
	{has: "no matching peer config found", reason: WrongIdentity},
	{has: "required, not matched by", reason: WrongIdentity},
	{has: "certificate invalid (valid from", reason: Expired}, // or NotYetValid
	{has: "certificate was revoked", reason: Revoked},
	{has: "constraint check failed: RULE_CRL_VALIDATION", reason: NoStatus},
	{has: "no issuer certificate found", reason: Untrusted},
	{has: "peer not authenticated by CA", reason: Untrusted},
	{has: "no trusted", reason: Untrusted},
	{has: "received proposals unacceptable", reason: NoSuite, ends: true},
	{has: "no IKE config found for", reason: NoTunnel, ends: true},
	{has: "no acceptable proposal found", reason: NoSuite},
	{has: "received NO_PROPOSAL_CHOSEN notify", reason: NoSuite, ends: true, byPeer: true},
	{has: "unacceptable", reason: NoNetwork}, // traffic selectors
	{has: "received TS_UNACCEPTABLE notify", reason: NoNetwork, ends: true, byPeer: true},
	{has: "received AUTHENTICATION_FAILED notify", reason: AuthFailed, ends: true, byPeer: true},
	{has: "unable to install", reason: KernelRefuses},
	{has: "closing IKE_SA due CHILD_SA setup failure", ends: true},
	{has: "failed to establish CHILD_SA", ends: true},
	{has: "giving up after", reason: NoAnswer, ends: true},
}

var (
	looking    = regexp.MustCompile(`^looking for peer configs matching [^\[]*\[.*\]\.\.\.([^\[]+)\[(.*)\]$`)
	beginning  = regexp.MustCompile(`^([0-9a-fA-F.:]+) is initiating an IKE_SA$`)
	initiating = regexp.MustCompile(`^initiating IKE_SA .* to ([0-9a-fA-F.:]+)$`)
	validity   = regexp.MustCompile(`invalid \(valid from (.*) to (.*)\)$`)
	strange    = regexp.MustCompile(`^no IKE config found for [0-9a-fA-F.:]+\.\.\.([0-9a-fA-F.:]+), sending`)
	absent     = regexp.MustCompile(`^querying SAD entry with SPI ([0-9a-f]{8}).* failed: `)
	received   = regexp.MustCompile(`^received end entity cert (".*")$`)
	using      = regexp.MustCompile(`^ *using certificate (".*")$`)
	refusing   = regexp.MustCompile(`^generating IKE_AUTH response .*N\(AUTH_FAILED\)`)
)

// logged takes a line of charon's log. What came of it is told with the next
// look: lines may overtake each other, since charon has several threads send them.
func (k *Keeper) logged(m Message) {
	const most = 300 // bytes of a sentence; a peer's identity may be long
	msg, id := m.Text("msg"), m.Text("ikesa-uniqueid")
	// The kernel has a packet and no association for it: a look has charon ask
	// for those that it believes in.
	if strings.HasPrefix(msg, "creating acquire job for policy") {
		k.look()
		return
	}
	if x := absent.FindStringSubmatch(msg); x != nil {
		k.mu.Lock()
		k.missing[x[1]] = true
		k.mu.Unlock()
		k.look()
		return
	}
	if id == "" {
		return
	}
	k.mu.Lock()
	l, ended := k.refused.take(id, msg[:min(len(msg), most)])
	if ended {
		a := k.refused.of(id)
		if a.ended.IsZero() {
			a.ended, a.byPeer = time.Now(), l.byPeer
		}
		if name := m.Text("ikesa-name"); k.wanted[name] != "" {
			a.tunnel = name
		}
	}
	k.mu.Unlock()
	if ended {
		k.look()
	}
}

// settled are the refusals that are to be told now.
func (k *Keeper) settled() []Refused {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Refused
	now := time.Now()
	k.refused.attempts = slices.DeleteFunc(k.refused.attempts, func(a attempt) bool {
		if a.ended.IsZero() || now.Sub(a.ended) < gather {
			return false
		}
		out := Refused{Tunnel: a.tunnel, Peer: a.peer, Identity: a.ident, Reason: a.reason, ByPeer: a.byPeer, Detail: a.detail}
		if a.cert != "" && !a.used {
			out.Reason, out.Detail = WrongIdentity, "certificate of "+a.cert
		}
		if out.Reason == "" {
			out.Reason = Unexplained
		}
		if out.Reason == NoTunnel && !k.loaded {
			return true // it doesn't know yet
		}
		if out.Identity == "" {
			out.Identity = k.wanted[a.tunnel]
		}
		all = append(all, out)
		return true
	})
	return all
}

// take takes a line of an attempt; true: it ended in a refusal.
func (r *refusals) take(id, msg string) (line, bool) {
	var x []string
	is := func(form *regexp.Regexp) bool { x = form.FindStringSubmatch(msg); return x != nil }
	switch {
	case strings.HasPrefix(msg, "CHILD_SA ") && strings.Contains(msg, " established with "), msg == "IKE_SA deleted":
		r.forget(id)
	case is(beginning), is(initiating):
		r.of(id).peer, _ = netip.ParseAddr(x[1])
	case is(looking):
		a := r.of(id)
		a.peer, _ = netip.ParseAddr(x[1])
		a.ident = x[2]
	case is(received):
		r.of(id).cert = x[1]
	case is(using):
		a := r.of(id)
		a.used = a.used || a.cert == x[1]
	case is(refusing):
		return line{ends: true}, true
	default:
		i := slices.IndexFunc(lines, func(l line) bool { return strings.Contains(msg, l.has) })
		if i < 0 {
			break
		}
		l := lines[i]
		if is(strange) {
			r.of(id).peer, _ = netip.ParseAddr(x[1])
		}
		if is(validity) {
			if from, err := time.ParseInLocation("Jan 02 15:04:05 2006", x[1], time.Local); err == nil && from.After(time.Now()) {
				l.reason = NotYetValid
			}
		}
		if a := r.of(id); a.reason == "" {
			a.reason, a.detail = l.reason, msg
		}
		return l, l.ends
	}
	return line{}, false
}
