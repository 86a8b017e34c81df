package pid1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/drivers/pstore"
)

// STATE/box/last.json is how this run is about to end, running.json that one
// is under way, resets.json when the vigil let the hardware reset the box.
const (
	lastFile    = "last.json"
	runningFile = "running.json"
	resetsFile  = "resets.json"
	boxVersion  = 1
)

func boxPath(state, file string) string { return filepath.Join(state, "box", file) }

// RecordEnd makes durable, before the act, how this run of the box ends:
// Kind "order", "watchdog" or "trial". The first record stands: what comes
// after it is its consequence.
func RecordEnd(state string, r control.Reset) error {
	path := boxPath(state, lastFile)
	var old control.Reset
	if files.ReadJSON(path, boxVersion, &old) == nil {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = files.ReplaceJSON(path, boxVersion, r)
	}
	if err != nil {
		return fmt.Errorf("record how the run ends: %w", err)
	}
	return nil
}

// LastReset tells how the run before ended and enters the new one; it is called
// once per boot, when STATE can be written. cardReset is what the watchdog says
// (watchdog.Info); dump is what pstore.Take gave, kept as STATE/box/crash-N.txt.
// The answer stands beside an error, which says what couldn't be kept or read.
func LastReset(state string, cardReset bool, dump string, now time.Time) (control.Reset, error) {
	dir := filepath.Join(state, "box")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return control.Reset{Kind: "first"}, fmt.Errorf("how the last run ended: %w", err)
	}
	var errs []error
	var last control.Reset
	recorded := files.ReadJSON(boxPath(state, lastFile), boxVersion, &last)
	_, ran := os.Stat(boxPath(state, runningFile))
	switch {
	case recorded == nil:
	case dump != "":
		last = control.Reset{Kind: "panic"}
	case cardReset:
		// Nobody had time to say why: kernel or PID 1 hung.
		last = control.Reset{Kind: "watchdog", Reason: control.Reason{Code: "reset-unsaid"}}
	case ran == nil:
		last = control.Reset{Kind: "power"}
	default:
		last = control.Reset{Kind: "first"}
	}
	if recorded != nil && !errors.Is(recorded, fs.ErrNotExist) {
		errs = append(errs, recorded)
	}
	if dump != "" {
		last.Detail = pstore.Tail(dump, 12)
		if cause := pstore.Cause(dump); !strings.Contains(last.Detail, cause) {
			last.Detail += "\n" + cause // last: a console shows the end
		}
		_, err := pstore.Save(dir, dump, func(path string, b []byte) error { return files.Replace(path, b, 0o600) })
		errs = append(errs, err)
	}
	// First that a run is under way, then that the last one is told: cut between
	// the two, the next boot tells the old reason again, which is better than none.
	errs = append(errs, files.ReplaceJSON(boxPath(state, runningFile), boxVersion, now))
	if err := os.Remove(boxPath(state, lastFile)); err == nil {
		errs = append(errs, files.SyncFolder(dir))
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return last, errors.Join(errs...)
}

// resetAges are the ages of the resets that the vigil had recorded. A clock that
// was set back makes some lie ahead: they count as fresh, the careful side.
func resetAges(state string, now time.Time) []time.Duration {
	var at []time.Time
	if err := files.ReadJSON(boxPath(state, resetsFile), boxVersion, &at); err != nil {
		return nil // none, or unreadable: two more resets at worst
	}
	ages := make([]time.Duration, len(at))
	for i, t := range at {
		ages[i] = max(0, now.Sub(t))
	}
	return ages
}

// recordReset makes the reason of a reset durable, and that there was one.
func recordReset(state, code string, now time.Time) error {
	var at []time.Time
	_ = files.ReadJSON(boxPath(state, resetsFile), boxVersion, &at) // see resetAges
	at = append(at, now)
	at = at[max(0, len(at)-8):]
	// The end first: it makes the folder.
	return errors.Join(
		RecordEnd(state, control.Reset{Kind: "watchdog", Reason: control.Reason{Code: code}, At: now}),
		files.ReplaceJSON(boxPath(state, resetsFile), boxVersion, at))
}
