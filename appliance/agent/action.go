package agent

import (
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/qos"
	"komainu/netstack/spec"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// Action is something to be done. Actions with an ID end in a Done event, at
// the latest soon after Deadline; one is in flight per Lane. Whoever executes
// an irreversible one reads the durable record first and refuses when its term
// is no longer Term.
type Action struct {
	ID       uint64 // 0: nothing is reported back
	Lane     string
	Term     uint64
	Deadline instant.Instant
	Do       Work
}

// Work is the content of an action.
type Work interface{ work() }

// SendBeat sends a heartbeat. The message is the receiver's to keep.
type SendBeat struct {
	Path    string
	Message *detect.Message
}

// SendProbe asks a path for one packet of a size.
type SendProbe struct {
	Path string
	ID   uint64
	Size int
}

// TellFound is the own result that the peer of a path is told with every probe.
type TellFound struct {
	Path  string
	Found int
}

// SendTrain sends packets of a size back to back.
type SendTrain struct {
	Path  string
	ID    uint64
	Size  int
	Count int
}

// SetQueues makes the queues of lines look like Trees, those of all others that
// are ours go, and packets are sorted by Sorting; the result's Value is the
// number of changes, an int.
type SetQueues struct {
	Trees   []qos.Tree
	Sorting qos.Sorting
}

// SaveGroup makes a group's record durable.
type SaveGroup struct{ Record machine.Record }

// SaveDatabase makes a database host's record durable.
type SaveDatabase struct{ Record machine.DCRecord }

// Steer makes the kernel's steering look like Table in one transaction.
// Connections that wait parked are let go when their target has one again.
type Steer struct{ Table steer.Table }

// Retire removes the connections of the given services that were opened in
// another epoch than Table says, and resets their silent clients; the result's
// Value is Retired.
type Retire struct {
	Services []string
	Table    steer.Table
}

// Prove connects through a service's stable address, as a client would.
type Prove struct{ Service string }

// SetNetwork makes links, addresses, routes, rules and the firewall as
// configured, together with what SetRoutes and SetAddresses last asked for; the
// result's Value is Applied. Whole: all of it or nothing, for a new
// configuration: where a step fails the kernel is put back as it was. Otherwise
// as much as can be.
type SetNetwork struct {
	Ground Ground
	Whole  bool
}

// Reloaded answers a Reload: the network is as the new configuration says, or,
// with a Code of appliance/say, as before.
type Reloaded struct {
	Token   uint64
	Changes []string
	Code    string
	Args    []string
}

// SetRoutes makes the routes to peers look like Routes.
type SetRoutes struct{ Routes []spec.Route }

// SetAddresses adds stable addresses that are missing and announces them.
type SetAddresses struct{ Addresses []spec.Address }

// SetGate opens or closes a server to clients. Sever also destroys the
// sockets of its clients and sees them gone.
type SetGate struct {
	Gate  steer.Gate
	Sever bool
}

// ServerOp is an operation on a PostgreSQL server of this box.
type ServerOp uint8

// The operations. All but the copies take seconds at most.
const (
	StartStandby ServerOp = iota
	StartPrimary
	StopFast
	StopImmediate
	Promote
	Copy   // a fresh base copy from Upstream; replaces what is there
	Keep   // the complete stopped cluster is copied aside
	List   // commits in the copy at Text that end after Fork
	Rewind // pg_rewind against Upstream
	Checkpoint
	Drain      // sessions are ended: idle ones at once, open transactions after Grace
	OpenWrites // after a promotion: sequences advance by Gap, the journal slot is made
	Slots      // before the DC's clients are let in: slots for the town hall and the orphan list
)

var serverOpNames = [...]string{"start-standby", "start-primary", "stop-fast", "stop-immediate", "promote", "copy", "keep",
	"list", "rewind", "checkpoint", "drain", "open-writes", "slots"}

func (o ServerOp) String() string { return serverOpNames[o] }

// Server runs one operation; the result's Value is Observed.
type Server struct {
	Database string
	Op       ServerOp
	Upstream string // "host:port", for StartStandby, Copy, Rewind
	Fork     standby.LSN
	Text     string
	ClosedAt int64 // wall: List calls commits after it in doubt
	Grace    time.Duration
	Gap      int64
}

// Cancel gives up the action in flight with the given ID; it ends as Unknown.
type Cancel struct{ Target uint64 }

// SendOrder sends an order to another box; the result's Value is
// machine.Reply.
type SendOrder struct {
	Peer  string
	Order machine.Order
}

// Answer replies to an Ordered event.
type Answer struct{ Reply machine.Reply }

// Note is one line of the box's journal and of the live timeline.
type Note struct {
	Wall    int64    `json:"wall"` // Unix ns
	Subject string   `json:"subject"`
	Code    string   `json:"code"`
	Args    []string `json:"args,omitempty"`
	Term    uint64   `json:"term,omitempty"`
}

// Severity of an alarm.
type Severity string

// The severities.
const (
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Alarm is raised or cleared.
type Alarm struct {
	ID       string
	Subject  string
	Severity Severity
	Raised   bool
	Since    instant.Instant
}

func (SendBeat) work()     {}
func (SendProbe) work()    {}
func (TellFound) work()    {}
func (SendTrain) work()    {}
func (SaveGroup) work()    {}
func (SaveDatabase) work() {}
func (Steer) work()        {}
func (Prove) work()        {}
func (Retire) work()       {}
func (SetNetwork) work()   {}
func (Reloaded) work()     {}
func (SetQueues) work()    {}
func (SetRoutes) work()    {}
func (SetAddresses) work() {}
func (SetGate) work()      {}
func (Server) work()       {}
func (Cancel) work()       {}
func (SendOrder) work()    {}
func (Answer) work()       {}
func (Note) work()         {}
func (Alarm) work()        {}
