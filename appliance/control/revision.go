package control

import "time"

// What the supervisor answers on RUN/pid1.sock about the configuration.
const (
	ConfigPath   = "/v1/config"          // GET ?rev=N (0 or none: what runs): ConfigText, role viewer
	HistoryPath  = "/v1/config/history"  // GET: []Revision, newest first, role viewer
	CommitPath   = "/v1/config/commit"   // POST CommitOrder, role admin: Committed, or an *Error; "config-invalid" has the report as its argument
	ConfirmPath  = "/v1/config/confirm"  // POST ConfirmOrder, role admin: Committed
	RollbackPath = "/v1/config/rollback" // POST RollbackOrder, role admin: Committed
	// CandidatePath is what a person is editing, kept until a commit or a discard,
	// so that a lost console loses nothing. GET ?user=NAME: Candidate, role viewer;
	// POST CandidateOrder, role admin: the Candidate as it is now.
	CandidatePath = "/v1/config/candidate"
)

// Candidate is a configuration that somebody edits; nothing follows it yet.
type Candidate struct {
	Text   string    `json:"text,omitempty"`
	Base   int       `json:"base,omitempty"` // revision it was made from; 0: there was none
	Exists bool      `json:"exists"`         // else nobody by this name edits, and the rest is empty
	At     time.Time `json:"at,omitzero"`    // last change
}

// CandidateOrder keeps a person's candidate instead of the one before.
type CandidateOrder struct {
	User    string `json:"user"`
	Text    string `json:"text,omitempty"` // up to 1 MiB; need not be correct
	Base    int    `json:"base,omitempty"`
	Discard bool   `json:"discard,omitempty"` // forget it; Text and Base don't count
}

// ConfigText is one configuration as it was committed.
type ConfigText struct {
	Revision Revision `json:"revision"`
	Text     string   `json:"text"`
}

// Revision is one commit.
type Revision struct {
	Number  int       `json:"number"` // 1 and up; never given again
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Comment string    `json:"comment,omitempty"`
	// Outcome says how it ended without being replaced: "failed", "taken-back"
	// (nobody confirmed it, or somebody took it back), "broken-off" (the supervisor
	// died meanwhile); empty: it didn't.
	Outcome string `json:"outcome,omitempty"`
	// BackS is set while the revision waits for `confirm`: when it is given up,
	// in seconds from now.
	BackS float64 `json:"back_s,omitempty"`
	Runs  bool    `json:"runs,omitempty"` // this one is in use
}

// CommitOrder puts a configuration into use.
type CommitOrder struct {
	Text    string `json:"text"`
	Lang    string `json:"lang,omitempty"` // of the report about what is wrong with it: "en" (default) or "ja"
	Base    int    `json:"base"`           // revision that Text was made from; another one in use now refuses the order; 0: whatever
	By      string `json:"by"`
	Comment string `json:"comment,omitempty"`
	// ConfirmS, if not 0, takes it back after so many seconds (10-86,400) without
	// ConfirmOrder, counted by the kernel's boot clock.
	ConfirmS float64 `json:"confirm_s,omitempty"`
}

// ConfirmOrder keeps what waits.
type ConfirmOrder struct {
	By string `json:"by"`
}

// RollbackOrder puts an older revision into use again, as a new one.
type RollbackOrder struct {
	Lang     string `json:"lang,omitempty"` // as in CommitOrder
	Revision int    `json:"revision"`       // 0: the one before
	By       string `json:"by"`
	Comment  string `json:"comment,omitempty"`
}

// Committed is what a commit did.
type Committed struct {
	Revision  Revision `json:"revision"`
	Unchanged bool     `json:"unchanged,omitempty"` // it ran already: nothing was done
	Changes   []string `json:"changes,omitempty"`   // to the kernel, as netstack/plan says them
	Restarted []string `json:"restarted,omitempty"` // units
}

// ReloadPath is answered on RUN/agent.sock: a POST of ReloadOrder, role admin,
// gives Reloaded, or an *Error; then everything is as it was.
const ReloadPath = "/v1/config/reload"

// ReloadOrder makes the agent read its file again.
type ReloadOrder struct {
	Digest string `json:"digest"` // SHA-256 of the file, so that both speak of the same
}

// Reloaded is what the agent did with the new file.
type Reloaded struct {
	Changes []string `json:"changes,omitempty"` // to the kernel
	// Restart: more than the network is different. The network is as the new file
	// says, the rest takes effect when the agent starts again.
	Restart bool `json:"restart,omitempty"`
}
