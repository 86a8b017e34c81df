package agent

import (
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
)

// Event is something that happened.
type Event interface{ event() }

// Started is the first event: what is on disk, and what this start is called.
type Started struct {
	Boot      uint64             // random per start of the agent, not 0
	Wall      int64              // Unix ns
	Groups    []machine.Record   // found on disk
	Databases []machine.DCRecord // found on disk
	// Gates are the databases whose gate was found open in the kernel, with
	// the epoch: only a restart of the agent alone leaves one.
	Gates map[string]uint16
}

// Stopping is the last event of an orderly end: the other boxes are told that
// silence means nothing now. Servers and steering stay as they are.
type Stopping struct{}

// Tick is the passing of time; the shell sends one at Next.
type Tick struct{ Wall int64 }

// Beat is a heartbeat that arrived and was authentic.
type Beat struct {
	Path    string
	Message *detect.Message
}

// Carrier is a change of a link.
type Carrier struct {
	Link string
	Up   bool
}

// Drifted says that links, addresses, routes or the firewall may have changed.
type Drifted struct{}

// Reload is a new configuration of the network; Reloaded answers it.
type Reload struct {
	Token  uint64
	Ground Ground
}

// Echoed says that a probe of a path came through.
type Echoed struct {
	Path  string
	ID    uint64 // of SendProbe
	Size  int    // of the packet, bytes
	RTT   time.Duration
	Found int // what the peer found for its own direction; 0: nothing yet
}

// ProbeTooBig says that this box's kernel refused to send a probe.
type ProbeTooBig struct {
	Path string
	ID   uint64
	Size int
}

// Trained says how long a train of packets took to arrive at the peer.
type Trained struct {
	Path        string
	ID          uint64 // of SendTrain
	Size, Count int
	Span        time.Duration
}

// Probed is the result of one probe of a service's DC endpoint.
type Probed struct {
	Service string
	OK      bool
	Code    string // why not, for people
	Took    time.Duration
}

// Looked is one look at a server of this box. Looks and operations of one
// server never overlap.
type Looked struct {
	Database    string
	Observation standby.Observation
}

// Ordered is an order from an operator (From empty) or from another box.
type Ordered struct {
	From  string
	Order machine.Order
}

// Outcome is how an action ended.
type Outcome uint8

// The outcomes. Unknown is also what a cancelled or late action ends with: the
// world must be looked at before anything is concluded.
const (
	OK Outcome = iota
	Failed
	Unknown
)

// Done is the result of an action.
type Done struct {
	ID      uint64
	Outcome Outcome
	Code    string // of appliance/say, when not OK
	Args    []string
	Value   any // Observed, machine.Reply, Switched, by the action's kind
}

// Observed is the value of a Server action: a look right after it, and its
// figures.
type Observed struct {
	Observation standby.Observation
	Text        string // OpKeep: where the copy is
	Count       int32  // List: orphans
	Ended       int    // Drain: idle sessions ended
	Aborted     int    // Drain: open transactions ended
}

// Applied is the value of a SetNetwork action.
type Applied struct {
	Changes   []string // to the kernel, in their order, as netstack/plan says them
	Missing   []string // ports that aren't there: "pci:0000:02:00.0"
	Conflicts []Conflict
}

// Conflict is an address that somebody else has; it is not used.
type Conflict struct {
	Address string
	Holder  string // MAC address
}

// Retired is the value of a Retire action.
type Retired struct {
	Flows    int // connections of former epochs that were removed
	Reset    int // silent clients that were reset
	ResetMax time.Duration
}

// Progress is news of a long action.
type Progress struct {
	ID      uint64
	Percent uint8
}

func (Started) event()     {}
func (Echoed) event()      {}
func (ProbeTooBig) event() {}
func (Trained) event()     {}
func (Stopping) event()    {}
func (Tick) event()        {}
func (Beat) event()        {}
func (Carrier) event()     {}
func (Drifted) event()     {}
func (Reload) event()      {}
func (Probed) event()      {}
func (Looked) event()      {}
func (Ordered) event()     {}
func (Done) event()        {}
func (Progress) event()    {}
