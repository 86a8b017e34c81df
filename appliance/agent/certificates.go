package agent

import (
	"slices"
	"time"
)

// Certificate is one that this box proves itself with or believes in, or a list
// of revoked ones.
type Certificate struct {
	Name        string // of the secret, or the file
	List        bool   // of revoked ones: Until is when the next one must be there
	From, Until int64  // wall, Unix ns; by the list's own word
}

// Certificates are all of them, whenever they have been read.
type Certificates struct{ All []Certificate }

// KeysChanged says that what tunnels prove themselves with may be different now.
type KeysChanged struct{}

func (Certificates) event() {}
func (KeysChanged) event()  {}

// How long before its end somebody is told. A list is made new each month.
const (
	certificateEnds = 30 * 24 * time.Hour
	listEnds        = 7 * 24 * time.Hour
)

// certificates is what the box knows of them. Whether one is still good, peers
// and daemons find out by themselves; this is for people.
type certificates struct{ all []Certificate }

// early tells whether one isn't valid yet.
func (c *certificates) early(wall int64) bool {
	return slices.ContainsFunc(c.all, func(x Certificate) bool { return wall < x.From })
}

func (c *certificates) watch(a *Agent, now map[alarmKey]Severity) {
	wall := a.wallNow()
	for _, x := range c.all {
		ends, over, within := "certificate-expires", "certificate-expired", certificateEnds
		if x.List {
			ends, over, within = "list-expires", "list-expired", listEnds
		}
		switch {
		case wall < x.From: // the box's clock is wrong, or that of who made it
			now[alarmKey{"certificate-early", x.Name}] = Critical
		case wall >= x.Until:
			now[alarmKey{over, x.Name}] = Critical
		case wall >= x.Until-int64(within):
			now[alarmKey{ends, x.Name}] = Warning
		}
	}
}
