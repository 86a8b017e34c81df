package standby

import "komainu/ntp/instant"

// Role is what a cluster is doing, as observed.
type Role uint8

// The roles, in the order in which a fresh standby passes through them.
const (
	Unknown  Role = iota // not looked at yet, or the last look failed
	Absent               // no data directory
	Unusable             // a data directory that must not start: being copied or rewound, foreign, wrong version
	Stopped              // startable, not running
	Starting             // running, not answering queries yet
	Standby              // running in recovery, answers reads
	Primary              // running, writable
	Hung                 // running, but a query did not answer within its deadline
)

var roleNames = [...]string{"unknown", "absent", "unusable", "stopped", "starting", "standby", "primary", "hung"}

func (r Role) String() string { return roleNames[r] }

// Observation is one look at one cluster.
type Observation struct {
	At       instant.Instant // when the look ended
	Role     Role
	Reason   string // code of appliance/say for Unusable, Starting and Hung, or a standby whose disk is full; empty otherwise
	Timeline uint32
	System   uint64 // pg_control's system identifier; two clusters of one database share it

	Flush    LSN  // primary: flushed; standby: received and flushed; stopped: end of the shutdown checkpoint record, or 0 after a crash
	Replay   LSN  // standby only
	Clean    bool // stopped cleanly: Flush is the shutdown checkpoint
	Upstream bool // standby: the WAL receiver is streaming
	Fork     LSN  // primary: where its present timeline left the former one, 0 on the first timeline
	Signal   bool // standby.signal is in place: a start would begin in recovery

	// ReplayedAt is the wall time (Unix nanoseconds) of the last commit replayed;
	// 0 when nothing was replayed since the start.
	ReplayedAt int64

	// RestartReady: a restart without the primary would reach consistency and
	// open for reads (a base point whose running transactions overflowed their
	// subtransaction cache would not).
	RestartReady bool
	ReplayPaused bool // replay stands still on a raised setting of the primary

	// Downstream is the confirmed flush position of the standby that streams
	// from here, 0 if none; SlotLost says that its slot was invalidated.
	Downstream LSN
	SlotLost   bool
	SlotBytes  uint64 // WAL kept for slots
	FreeBytes  uint64 // free space of the data directory's file system

	Sessions int // client backends, replication and our own left out
}
