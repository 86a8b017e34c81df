// Package server answers NTP requests: who is served, how often, and what the
// reply says (RFC 5905, RFC 7822, RFC 8573, RFC 8915, RFC 9769). It opens no
// socket, knows no clock, and makes no garbage per request. Start reading at
// Server.Respond.
package server

import (
	"net/netip"
	"time"

	"komainu/ntp/keys"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// NTS opens NTS requests and seals their replies; *nts.Keyring does.
type NTS interface {
	Open(req []byte, s *nts.Session) nts.Verdict
	Seal(s *nts.Session, resp []byte) ([]byte, bool)
}

// Rules are whom the server serves and how.
type Rules struct {
	Networks []netip.Prefix // served; nobody else is
	Every    time.Duration  // between two requests of one client, in the long run; 0: no limit
	Burst    int            // requests of one client at once, at least 1
	Keys     *keys.Set      // nil: none
	Legacy   bool           // accept MD5 and SHA-1 keys
	NTS      NTS            // nil: not offered
}

// Server answers requests. One goroutine at a time may use it: a daemon with
// several workers has one Server for each, and lets the source address, not the
// port, decide which worker gets a request, as limits and interleaved mode need
// (RFC 9109: ports change with every request).
type Server struct {
	state    *State
	rules    Rules
	networks networks
	clients  clients
	pairs    pairs
	keys     *keys.Worker
	session  *nts.Session
	count    Counters
}

// New makes a server that knows so many clients at a time, rounded up to a power
// of two and at least 64 (100 octets each), and that serves nobody and isn't
// synchronised until SetRules and SetState. The seed is random and secret;
// random is called in Respond, and only with NTS.
func New(clients int, seed [2]uint64, random nts.Random) *Server {
	n := 64
	for n < clients {
		n *= 2
	}
	return &Server{
		state:   &State{Leap: packet.LeapUnsynchronised, Stratum: 16},
		clients: newClients(n, seed),
		pairs:   newPairs(n, seed[1]),
		keys:    keys.NewWorker(),
		session: nts.NewSession(random),
	}
}

// SetState replaces what the server tells of its clock; it isn't nil. Cheap: a worker may call
// it with what it finds in an atomic pointer, before each batch.
func (s *Server) SetState(state *State) { s.state = state }

// SetRules replaces the rules. What is known of clients stays.
func (s *Server) SetRules(r Rules) {
	r.Burst = max(1, r.Burst)
	s.rules, s.networks = r, merge(r.Networks)
}

// Stepped tells that the clock was stepped: stamps from before mean nothing now.
func (s *Server) Stepped() { clear(s.pairs.sets) }

// Counters is what was counted so far.
func (s *Server) Counters() Counters {
	c := s.count
	c.Clients, c.Evicted = s.clients.used, s.clients.evicted
	return c
}

// Reply is what to send.
type Reply struct {
	N int // octets of out to send to where the request came from; 0: nothing

	// Stamp isn't zero when this client uses interleaved mode: ask the kernel
	// when the reply leaves, and tell Sent. It is the reply's receive timestamp,
	// octets 32 to 40.
	Stamp packet.Timestamp
}

// Sent tells when a reply whose Stamp wasn't zero left, as the kernel or the
// network card saw it. Without it, the client gets basic replies.
func (s *Server) Sent(stamp packet.Timestamp, tx wall.Time) {
	s.pairs.sent(stamp, max(2, packet.Stamp(tx)&^1))
}

// Respond answers one datagram, if it is to be answered: it came at rx, as the
// kernel saw it, now it is now, by the same clock. The reply is written to out,
// which must not overlap req; it is never longer than req, and nothing is
// answered that wouldn't fit in out.
//
// Answered are client requests (mode 3) of NTPv3 and NTPv4, and symmetric active
// ones (mode 1) by a passive reply (mode 2) that is computed like any other: no
// association is made, so nobody can offer us time. RFC 5905 section 9.2 leaves
// that open; ntpd and chrony do it because the time service of Windows asks so
// unless it is told otherwise.
func (s *Server) Respond(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) Reply {
	addr := from.Addr().Unmap()
	var r Reply
	o := Refused
	if s.networks.contain(addr.WithZone("")) && from.Port() != 0 {
		r, o = s.respond(req, rx, max(rx, now), addr, out)
	}
	if addr.Is4() {
		s.count.V4[o]++
	} else {
		s.count.V6[o]++
	}
	return r
}

func (s *Server) respond(req []byte, rx, now wall.Time, addr netip.Addr, out []byte) (Reply, Outcome) {
	var q packet.Header
	if !q.Parse(req) || len(out) < len(req) {
		return Reply{}, Malformed
	}
	if q.Version != 3 && q.Version != packet.Version {
		return Reply{}, BadVersion
	}
	if q.Mode != packet.ModeClient && q.Mode != packet.ModeActive {
		return Reply{}, BadMode
	}
	mac, err := packet.Split(req)
	if err != nil || len(req)-mac == 4 { // a crypto-NAK answers, it doesn't ask
		return Reply{}, Malformed
	}

	bytes := addr.As16()
	who := key(addr, bytes)
	client, known := s.clients.find(who, now)
	client.addr, client.last, client.version = bytes, now, q.Version
	client.requests++
	if s.rules.Every > 0 {
		if ok, kiss := s.clients.admit(client, now, s.rules.Every, s.rules.Burst); !ok {
			// A client that authenticates doesn't believe a kiss without proof, and
			// proof would cost more than the answer.
			if kiss && len(req) == packet.HeaderSize {
				return s.kiss(&q, rx, now, out), KissRate
			}
			return Reply{}, Limited
		}
	}
	return s.serve(req, mac, &q, request{rx: rx, now: now, who: who, client: client, known: known}, out)
}

// request is what the reply depends on to know besides the message.
type request struct {
	rx, now wall.Time
	who     uint64
	client  *slot
	known   bool // not the client's first request
}

// serve answers a well-formed request of a client that may ask.
func (s *Server) serve(req []byte, mac int, q *packet.Header, from request, out []byte) (Reply, Outcome) {
	out = out[:packet.HeaderSize:len(req)]
	o := Plain
	if mac > packet.HeaderSize && s.rules.NTS != nil {
		switch s.rules.NTS.Open(req, s.session) {
		case nts.OK:
			o = NTSServed
		case nts.NAK:
			return Reply{N: len(s.session.NAK(req, out[:0]))}, NTSNAK
		case nts.Malformed:
			return Reply{}, BadNTS
		case nts.NotNTS:
			// A unique identifier alone guards against spoofing (RFC 8915 section 5.3).
			out = s.session.Echo(out)
		}
	}
	var key *keys.Key
	if mac < len(req) && o == Plain {
		if key = s.key(req, mac); key == nil {
			h := s.reply(q, from)
			h.Put(out)
			return Reply{N: len(append(out, 0, 0, 0, 0))}, CryptoNAK
		}
		o = Keyed
	}

	r := s.header(q, from, o, out)
	switch o {
	case NTSServed:
		from.client.facts |= isNTS
		sealed, ok := s.rules.NTS.Seal(s.session, out)
		if !ok {
			return Reply{}, BadNTS
		}
		r.N = len(sealed)
	case Keyed:
		from.client.facts |= isKeyed
		r.N = len(s.keys.Append(key, out, out))
	default:
		r.N = len(out)
	}
	return r, o
}

// key is the key whose MAC stands at the end of the request; nil if it isn't
// known, isn't accepted, or doesn't fit.
func (s *Server) key(req []byte, mac int) *keys.Key {
	id := uint32(req[mac])<<24 | uint32(req[mac+1])<<16 | uint32(req[mac+2])<<8 | uint32(req[mac+3])
	k := s.rules.Keys.Key(id)
	if k == nil || k.Algorithm.Legacy() && !s.rules.Legacy || !s.keys.Verify(k, req[:mac], req[mac:]) {
		return nil
	}
	return k
}

// header writes the header of the reply, in interleaved mode if the request asks
// for it by the letter of RFC 9769 section 2.
func (s *Server) header(q *packet.Header, from request, o Outcome, out []byte) Reply {
	h := s.reply(q, from)
	if !from.known || !wishes(q, from.now) {
		h.Put(out)
		return Reply{}
	}
	tx, ok := s.pairs.take(q.Origin, from.who)
	h.Receive = s.pairs.save(h.Receive, from.who)
	if ok {
		h.Origin, h.Transmit = q.Receive, tx
		from.client.facts |= isInterleaved
		if o == Plain {
			s.count.Interleaved++
		}
	}
	h.Put(out)
	return Reply{Stamp: h.Receive}
}

// reply is the header of a reply in basic mode.
func (s *Server) reply(q *packet.Header, from request) packet.Header {
	h := s.state.header(from.now)
	h.Version, h.Mode, h.Poll = q.Version, packet.ModeServer, q.Poll
	if q.Mode == packet.ModeActive {
		h.Mode = packet.ModePassive
	}
	h.Origin = q.Transmit
	h.Receive = packet.Stamp(from.rx) | 1
	h.Transmit = packet.Stamp(from.now) &^ 1
	if from.now <= from.rx { // the lowest bit mustn't make it earlier
		h.Transmit = h.Receive + 1
	}
	return h
}

// kiss writes a RATE kiss (RFC 5905 section 7.4), which asks for a poll interval
// of at least the long-run pace.
func (s *Server) kiss(q *packet.Header, rx, now wall.Time, out []byte) Reply {
	poll := int8(0)
	for time.Second<<poll < s.rules.Every && poll < 17 {
		poll++
	}
	h := s.reply(q, request{rx: rx, now: now})
	h.Leap, h.Stratum, h.RefID, h.Poll = packet.LeapUnsynchronised, 0, packet.KissRate, max(poll, q.Poll)
	h.Put(out)
	return Reply{N: packet.HeaderSize}
}
