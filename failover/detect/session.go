package detect

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"komainu/ntp/instant"
)

// How old a proof of life may be.
const (
	// sentKept is how many of our last messages an echo may name.
	sentKept = 64
	// maxTransit bounds the time that a message of ours and its echo spent on
	// the line: what somebody records now is worthless a moment later.
	maxTransit = 2 * time.Second
	// lossKept is how many of the peer's last messages Loss counts.
	lossKept = 64
)

// Why Receive didn't take a message. None of them changes anything.
var (
	ErrWrongPeer = errors.New("heartbeat from the wrong peer")
	ErrReplayed  = errors.New("heartbeat seen before, or of a start of the peer that it can't prove")
)

// SessionConfig says whom a session talks to.
type SessionConfig struct {
	Path, Peer string        // our name of the path; site name of the peer
	Interval   time.Duration // between our messages before jitter, MinInterval to MaxInterval
	Mult       uint8         // the peer takes us for down after Interval × Mult of silence; 1 and more
	Boot       uint64        // random per start of this agent, not 0
}

// Session is one end of one path: RFC 5880's asynchronous mode, with an answer
// to forgery that BFD doesn't have. A message *proves itself* by echoing a
// message that this session sent a moment ago; only such messages bring the
// session up or down, re-arm the detection, or carry believable contents. All
// others do no more than start the handshake (down to init), in which the peer
// learns what to echo. Zero allocations; not for concurrent use.
type Session struct {
	cfg   SessionConfig
	state SessionState
	since instant.Instant
	began bool // it has left the state that it was made in

	sendAt instant.Instant // when the next message is due
	seq    uint64          // of the last one sent; starts at a base of the path's own, so that an echo of another path proves nothing here
	base   uint64
	sentAt [sentKept]instant.Instant // by seq mod sentKept

	boot      uint64          // the peer's Boot that proved itself; 0: none yet
	heard     uint64          // its newest Seq
	heardAt   instant.Instant // when that one came
	echoed    uint64          // our newest Seq that a proven message echoed
	peerState SessionState    // what it last proved to be in
	planned   bool            // it stopped on purpose and hasn't been up since
	renewedAt instant.Instant // when it proved a new start while this end was up; 0: that one has heard us
	expireAt  instant.Instant // end of the detection time; 0: not armed
	detect    time.Duration   // the peer's Interval × Mult

	echoBoot, echoSeq uint64 // what we echo: the last message heard, proven or not
	echoAt            instant.Instant

	rtt  time.Duration
	last time.Duration // round trip measured last
	vary time.Duration
	seen uint64 // one bit for each of the last lossKept sequence numbers, newest lowest: did it come
	span int    // how many of those bits mean something
}

// NewSession returns a session that is down and wants to send at once.
func NewSession(cfg SessionConfig, now instant.Instant) *Session {
	base := pathBase(cfg.Path)
	return &Session{cfg: cfg, state: Down, peerState: Down, since: now, sendAt: now, base: base, seq: base}
}

// pathBase spreads the sequence numbers of paths over the upper half of 64
// bits (FNV-1a), leaving 2^32 messages to each.
func pathBase(path string) uint64 {
	h := uint32(2166136261)
	for i := range len(path) {
		h = (h ^ uint32(path[i])) * 16777619
	}
	return uint64(h) << 32
}

// Receive takes one authenticated message of this path. fresh means that its
// contents are live and newer than all before; without it they must not be
// believed. Errors wrap ErrWrongPeer, ErrReplayed or ErrMalformed and mean
// that nothing has changed.
func (s *Session) Receive(now instant.Instant, m *Message) (fresh bool, err error) {
	if m.From != s.cfg.Peer {
		return false, fmt.Errorf("path %s: from %.40q, expected %s: %w", s.cfg.Path, m.From, s.cfg.Peer, ErrWrongPeer)
	}
	if err := m.check(); err != nil {
		return false, fmt.Errorf("path %s: %w", s.cfg.Path, err)
	}
	transit, proven := s.proof(now, m)
	switch {
	case m.Boot == s.boot:
		if m.Seq <= s.heard {
			return false, ErrReplayed
		}
	case proven:
		// Another start of the peer. It echoes a newer message of ours than the
		// start before it ever could, so nothing recorded from that one fits.
		if m.EchoSeq <= s.echoed {
			return false, ErrReplayed
		}
		s.boot, s.heard, s.seen, s.span = m.Boot, m.Seq-1, 0, 0
		if s.state == Up && s.renewedAt == 0 {
			s.renewedAt, s.sendAt = now, now // the sooner it hears us the better
		}
	default:
		return false, s.introduce(now, m)
	}
	s.count(m.Seq)
	s.heard, s.heardAt = m.Seq, now
	s.echoBoot, s.echoSeq, s.echoAt = m.Boot, m.Seq, now
	if !proven {
		s.greet(now, m)
		return false, nil
	}
	s.echoed = max(s.echoed, m.EchoSeq)
	s.measure(transit)
	s.peerState = m.State
	s.planned = s.planned || m.State == AdminDown
	s.detect = DetectionTime(m.Interval, m.Mult)
	s.expireAt = now.Add(s.detect)
	s.follow(now, m.State)
	return true, nil
}

// DetectionTime is the silence after which a path is down: Interval × Mult as in
// RFC 5880, 6.8.4, and one interval more, so that a gap of Mult-1 intervals,
// with the wait for a message before it and behind it, is none.
func DetectionTime(interval time.Duration, mult uint8) time.Duration {
	return interval * (time.Duration(mult) + 1)
}

// proof says whether m echoes a message that we sent a moment ago, and how
// long that and m were on the line together. The peer's clock may run up to a
// tenth faster than ours, so less than nothing counts as nothing.
func (s *Session) proof(now instant.Instant, m *Message) (time.Duration, bool) {
	if m.EchoBoot != s.cfg.Boot || m.EchoSeq <= s.base || m.EchoSeq > s.seq || s.seq-m.EchoSeq >= sentKept {
		return 0, false
	}
	transit := max(now.Sub(s.sentAt[m.EchoSeq%sentKept])-max(m.EchoHold, 0), 0)
	return transit, transit <= maxTransit
}

// introduce handles a start of the peer that hasn't proved itself: it is
// echoed, so that it can, unless the start that we know is still talking.
func (s *Session) introduce(now instant.Instant, m *Message) error {
	if s.state == Up || m.Boot == s.echoBoot && m.Seq <= s.echoSeq {
		return ErrReplayed
	}
	if s.boot != 0 && now.Sub(s.heardAt) < s.detect {
		return ErrReplayed
	}
	s.echoBoot, s.echoSeq, s.echoAt = m.Boot, m.Seq, now
	s.greet(now, m)
	return nil
}

// greet is all that an unproven message may do: begin the handshake, and keep
// it waiting for a proof.
func (s *Session) greet(now instant.Instant, m *Message) {
	if s.state == Down && m.State == Down {
		s.enter(now, Init)
	}
	if s.state == Init {
		s.expireAt = now.Add(DetectionTime(m.Interval, m.Mult))
	}
}

// follow is the state machine of RFC 5880, 6.8.6, for a proven message, with one
// difference: a restart of the peer's agent is no failure of the path. The new
// start begins down, but what it proves is that both directions work; so the end
// that is up stays so for a detection time, and the new start comes up at once.
func (s *Session) follow(now instant.Instant, peer SessionState) {
	if peer == Init || peer == Up {
		s.renewedAt = 0
	}
	switch {
	case s.state == AdminDown:
	case peer == AdminDown:
		s.enter(now, Down)
	case s.state == Down && peer == Down:
		s.enter(now, Init)
	case s.state == Down && (peer == Init || peer == Up && !s.began):
		s.enter(now, Up)
	case s.state == Init && peer >= Init:
		s.enter(now, Up)
	case s.state == Up && peer == Down && (s.renewedAt == 0 || now.Sub(s.renewedAt) >= s.detect):
		s.enter(now, Down)
	}
}

// enter changes the state and lets the peer know at once.
func (s *Session) enter(now instant.Instant, to SessionState) {
	if s.state == to {
		return
	}
	s.state, s.since, s.sendAt, s.began = to, now, now, true
	s.renewedAt = 0
	if to == Up {
		s.planned = false
	}
}

func (s *Session) measure(sample time.Duration) {
	if s.rtt == 0 {
		s.rtt = sample
	} else {
		s.rtt += (sample - s.rtt) / 8                     // the gain of RFC 6298
		s.vary += ((sample - s.last).Abs() - s.vary) / 16 // RFC 3550 section 6.4.1
	}
	s.last = sample
}

// count keeps the account of what came. A silence that was noticed is over with
// the first message: what comes now says how the path is.
func (s *Session) count(seq uint64) {
	if s.expireAt == 0 {
		s.seen, s.span = 1, 1
		return
	}
	step := seq - s.heard
	if step >= lossKept {
		s.seen, s.span = 0, lossKept
	} else {
		s.seen <<= step
		s.span = min(s.span+int(step), lossKept)
	}
	s.seen |= 1
}

// Expire takes the path for down if the detection time has passed without a
// message, and says whether that changed the state. Call it after every
// message that is waiting has been received, and after Stalled.
func (s *Session) Expire(now instant.Instant) (changed bool) {
	if s.expireAt == 0 || now < s.expireAt {
		return false
	}
	s.expireAt = 0
	s.seen, s.span = 0, lossKept
	if s.peerState != AdminDown { // it said that it would be silent
		s.peerState, s.planned = Down, false
	}
	if s.state != Init && s.state != Up {
		return false
	}
	s.enter(now, Down)
	return true
}

// Stalled tells the session that this process didn't run for gap until now,
// and so heard nothing: silence is counted from now again. Gaps below half a
// detection time are left to the detection time itself.
func (s *Session) Stalled(now instant.Instant, gap time.Duration) {
	if s.expireAt != 0 && gap >= s.detect/2 {
		s.expireAt = max(s.expireAt, now.Add(s.detect))
	}
}

// Next is when Expire or Due will next have something to say.
func (s *Session) Next() instant.Instant {
	if s.expireAt != 0 {
		return min(s.sendAt, s.expireAt)
	}
	return s.sendAt
}

// Due says whether a message should be sent now.
func (s *Session) Due(now instant.Instant) bool { return now >= s.sendAt }

// Stamp fills in m all but From, Groups and Databases for a message that is
// sent now, and sets when the next is due: jitter, 0 to 1, takes up to a
// quarter off the interval (RFC 5880, 6.8.7; with Mult 1 a tenth to a quarter).
// It may be called before Due says so, when what is reported has changed.
func (s *Session) Stamp(now instant.Instant, jitter float64, m *Message) {
	cut := 0.25 * jitter
	if s.cfg.Mult == 1 {
		cut = 0.10 + 0.15*jitter
	}
	s.sendAt = now.Add(s.cfg.Interval - time.Duration(cut*float64(s.cfg.Interval)))
	s.seq++
	s.sentAt[s.seq%sentKept] = now
	m.State = s.state
	m.Boot, m.Seq = s.cfg.Boot, s.seq
	m.Interval, m.Mult = s.cfg.Interval, s.cfg.Mult
	m.EchoBoot, m.EchoSeq, m.EchoHold = s.echoBoot, s.echoSeq, 0
	if s.echoBoot != 0 {
		m.EchoHold = now.Sub(s.echoAt)
	}
}

// AdminDown takes the session down on purpose, or (on false) lets it begin
// anew. The peer is told, and decides by its probes meanwhile.
func (s *Session) AdminDown(now instant.Instant, on bool) {
	if on {
		s.enter(now, AdminDown)
	} else if s.state == AdminDown {
		s.enter(now, Down)
	}
}

// State is this end's state, as the peer is told it.
func (s *Session) State() SessionState { return s.state }

// Seen is the state that says something about the path: AdminDown if either
// end took it down on purpose (RFC 5882, 3.2: that is no failure), also while the
// peer comes back, else State.
func (s *Session) Seen() SessionState {
	if s.planned {
		return AdminDown
	}
	return s.state
}

// Since is when State last changed.
func (s *Session) Since() instant.Instant { return s.since }

// RTT is the smoothed round-trip time without the peer's waiting; 0 until measured.
func (s *Session) RTT() time.Duration { return s.rtt }

// Jitter is how much one round trip differs from the next, smoothed as in RFC
// 3550; 0 until measured.
func (s *Session) Jitter() time.Duration { return s.vary }

// Loss is which part of the peer's last 64 messages didn't come, 0 to 1; late
// ones count as lost. After a detection timeout it is 1, until a message comes.
func (s *Session) Loss() float64 {
	if s.span == 0 {
		return 0
	}
	return 1 - float64(bits.OnesCount64(s.seen))/float64(s.span)
}
