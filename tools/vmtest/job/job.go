// Package job is what vmtest's two halves tell each other: the plan that the
// host puts into the initramfs, and the events that the guest mixes into the
// output of the tests.
package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Port is the name of the virtio-serial port that carries output and events.
const Port = "komainu.vmtest"

// Disk is the serial number of an empty disk for tests, and DiskBytes its size.
const (
	Disk      = "komainu.vmtest"
	DiskBytes = 4 << 30
)

// Tag is the mount tag of the host's root.
const Tag = "host"

// Files of the initramfs.
const (
	PlanFile   = "/plan.json"
	ModuleRoot = "/modules" // RELEASE with its index, and what is needed before the host's root is there
)

// Plan is one run of the guest.
type Plan struct {
	Boot      []string // modules before the host's root can be mounted
	Modules   []string // modules after it
	ModuleDir string   // on the host: the folder that modules.dep's paths start from
	Release   string   // of the kernel, as in /lib/modules/RELEASE
	Env       []string
	Tests     []Test
}

// Test is one package's test binary.
type Test struct {
	Package string   // import path
	Dir     string   // the package's folder, where it runs
	Argv    []string // the first is the binary
}

// Event is one step of the guest.
type Event struct {
	Kind    string  // begin, end, done or error
	Package string  `json:",omitempty"`
	Exit    string  `json:",omitempty"` // of an end: empty if the binary returned 0
	Seconds float64 `json:",omitempty"` // of an end: how long it ran; of done: since the kernel started
	Text    string  `json:",omitempty"` // of an error
}

// mark starts an event's line; tests don't print it (ASCII record separator).
const mark = '\x1e'

// Write sends an event. It starts a new line, since a test's last one may be open.
func (e Event) Write(w io.Writer) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(append([]byte{'\n', mark}, b...), '\n')); err != nil {
		return fmt.Errorf("send %s event: %w", e.Kind, err)
	}
	return nil
}

// Parse reads an event from a line of the port; false if the line is output.
func Parse(line []byte) (Event, bool) {
	rest, ok := bytes.CutPrefix(line, []byte{mark})
	if !ok {
		return Event{}, false
	}
	var e Event
	if err := json.Unmarshal(rest, &e); err != nil {
		return Event{}, false
	}
	return e, true
}
